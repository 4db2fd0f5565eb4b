package topology

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"bulkhead"
)

// Graph is who talks to whom in a window, at some grain.
type Graph struct {
	Nodes []Node `json:"nodes"`
	Links []Link `json:"links"`
}

// Node is an endpoint, or a group of them.
type Node struct {
	ID        string                `json:"id"` // of the group: what links name
	Name      string                `json:"name"`
	Kind      bulkhead.EndpointKind `json:"kind"`
	Namespace string                `json:"namespace,omitempty"`
	Labels    map[string]string     `json:"labels,omitempty"` // of one workload
	Members   []string              `json:"members"`
}

// Link is what one node sends another, over all their edges.
type Link struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Edges       []Flow `json:"edges"`
	Opened      uint64 `json:"opened"`
	Refused     uint64 `json:"refused"`
	Denied      uint64 `json:"denied"`
	Bytes       uint64 `json:"bytes"`
}

// Grouping says what of an endpoint makes its node: the workload itself, "namespace", "application", or "label:KEY".
type Grouping string

// The groupings; Label makes another.
const (
	ByWorkload    Grouping = "workload"
	ByNamespace   Grouping = "namespace"
	ByApplication Grouping = "application"
)

// ByLabel groups by the value of a label.
func ByLabel(key string) Grouping { return Grouping("label:" + key) }

// Valid reports whether g is a grouping.
func (g Grouping) Valid() bool {
	key, isLabel := strings.CutPrefix(string(g), "label:")
	return g == ByWorkload || g == ByNamespace || g == ByApplication || isLabel && key != ""
}

// NewGraph draws the flows of a record.
func NewGraph(r *Record, by Grouping) *Graph {
	d := drawing{book: r.Book(), by: by, nodes: map[string]*Node{}, links: map[[2]string]*Link{}, seen: map[string]bool{}}
	for _, f := range r.Flows {
		d.add(f)
	}
	return d.graph()
}

type drawing struct {
	book  *Book
	by    Grouping
	nodes map[string]*Node
	links map[[2]string]*Link
	seen  map[string]bool // members, as "node member"
}

func (d *drawing) add(f Flow) {
	from, to := d.node(f.Source), d.node(f.Destination)
	key := [2]string{from, to}
	l := d.links[key]
	if l == nil {
		l = &Link{Source: from, Destination: to}
		d.links[key] = l
	}
	l.Edges = append(l.Edges, f)
	l.Opened += f.Opened
	l.Refused += f.Refused
	l.Denied += f.Denied
	l.Bytes += f.BytesOut + f.BytesIn
}

func (d *drawing) node(e bulkhead.Endpoint) string {
	group, name, namespace := d.group(e)
	n := d.nodes[group]
	if n == nil {
		n = &Node{ID: group, Name: name, Kind: e.Kind, Namespace: namespace, Members: []string{}}
		if w := d.book.Workload(e.Name); w != nil && e.Kind == bulkhead.EndWorkload && d.by == ByWorkload {
			n.Labels = w.Labels
		}
		d.nodes[group] = n
	}
	if key := group + "\x00" + e.Name; !d.seen[key] {
		d.seen[key] = true
		n.Members = append(n.Members, e.Name)
	}
	return group
}

// group finds the node of an endpoint. Hosts are one node and the world is one, unless each workload is.
func (d *drawing) group(e bulkhead.Endpoint) (id, name, namespace string) {
	if d.by == ByWorkload {
		w := d.book.Workload(e.Name)
		if e.Kind == bulkhead.EndWorkload && w != nil {
			namespace = w.Namespace
		}
		return e.String(), e.Name, namespace
	}
	if e.Kind != bulkhead.EndWorkload {
		return string(e.Kind) + ":", string(e.Kind), ""
	}
	w := d.book.Workload(e.Name)
	switch label, isLabel := strings.CutPrefix(string(d.by), "label:"); {
	case isLabel:
		name = cmp.Or(w.Labels[label], "(none)")
		return string(d.by) + "=" + name, name, ""
	case d.by == ByNamespace:
		name = cmp.Or(w.Namespace, strings.Split(w.Name, "/")[0])
		return name, name, w.Namespace
	}
	name = w.Application()
	return w.Namespace + "/" + name, name, w.Namespace
}

func (d *drawing) graph() *Graph {
	g := &Graph{Nodes: []Node{}, Links: []Link{}}
	for _, n := range sorted(d.nodes) {
		slices.Sort(n.Members)
		g.Nodes = append(g.Nodes, *n)
	}
	for _, l := range d.links {
		slices.SortFunc(l.Edges, func(a, b Flow) int { return compareEdges(&a.Edge, &b.Edge) })
		g.Links = append(g.Links, *l)
	}
	slices.SortFunc(g.Links, func(a, b Link) int {
		return cmp.Or(strings.Compare(a.Source, b.Source), strings.Compare(a.Destination, b.Destination))
	})
	return g
}

// compareEdges orders by names, then by port.
func compareEdges(a, b *bulkhead.Edge) int {
	return cmp.Or(
		cmp.Compare(a.Source.Name, b.Source.Name), cmp.Compare(a.Destination.Name, b.Destination.Name), cmp.Compare(a.Protocol, b.Protocol),
		cmp.Compare(a.Port, b.Port), cmp.Compare(a.Source.Kind, b.Source.Kind), cmp.Compare(a.Destination.Kind, b.Destination.Kind),
	)
}

// Search keeps of a record the flows in which a word appears: in a name, a namespace, a label's value, a protocol,
// "protocol/port" or an application. Several words must all appear.
func Search(r *Record, words string) *Record {
	want := strings.Fields(strings.ToLower(words))
	if len(want) == 0 {
		return r
	}
	book := r.Book()
	out := *r
	out.Flows = []Flow{}
	for _, f := range r.Flows {
		if text := searchText(book, f); allIn(text, want) {
			out.Flows = append(out.Flows, f)
		}
	}
	return &out
}

func searchText(book *Book, f Flow) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s/%d %s", f.Source, f.Destination, f.Protocol, f.Port, f.Application)
	for _, e := range []bulkhead.Endpoint{f.Source, f.Destination} {
		w := book.Workload(e.Name)
		if e.Kind != bulkhead.EndWorkload || w == nil {
			continue
		}
		fmt.Fprintf(&b, " %s", w.Namespace)
		for k, v := range w.Labels {
			fmt.Fprintf(&b, " %s=%s", k, v)
		}
	}
	return strings.ToLower(b.String())
}

func allIn(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// Drill keeps the flows behind one node of a graph, or behind the links between two.
func Drill(r *Record, by Grouping, ids ...string) *Record {
	d := drawing{book: r.Book(), by: by}
	out := *r
	out.Flows = []Flow{}
	for _, f := range r.Flows {
		from, _, _ := d.group(f.Source)
		to, _, _ := d.group(f.Destination)
		switch {
		case len(ids) == 1 && (from == ids[0] || to == ids[0]),
			len(ids) == 2 && (from == ids[0] && to == ids[1] || from == ids[1] && to == ids[0]):
			out.Flows = append(out.Flows, f)
		}
	}
	return &out
}

// Difference is what two windows do not have in common.
type Difference struct {
	Appeared []Flow    `json:"appeared"` // only in the second
	Vanished []Flow    `json:"vanished"` // only in the first
	Changed  []Changed `json:"changed"`  // in both, with other rates
}

// Changed is an edge whose rate of bytes or connections is another.
type Changed struct {
	bulkhead.Edge
	BytesBefore, BytesAfter float64 // an hour
	OpensBefore, OpensAfter float64
}

// changedBy is how many times more or less is told: less is what every two hours differ by.
const changedBy = 3

// Diff compares two windows, which may be of different length: rates are by the hour.
func Diff(before, after *Record) *Difference {
	d := &Difference{Appeared: []Flow{}, Vanished: []Flow{}, Changed: []Changed{}}
	old := map[bulkhead.Edge]Flow{}
	for _, f := range before.Flows {
		old[f.Edge] = f
	}
	for _, f := range after.Flows {
		was, had := old[f.Edge]
		delete(old, f.Edge)
		if !had {
			d.Appeared = append(d.Appeared, f)
			continue
		}
		c := Changed{f.Edge, rate(before, bytesOf(was)), rate(after, bytesOf(f)), rate(before, was.Opened), rate(after, f.Opened)}
		if apart(c.BytesBefore, c.BytesAfter) || apart(c.OpensBefore, c.OpensAfter) {
			d.Changed = append(d.Changed, c)
		}
	}
	for _, f := range before.Flows {
		if _, left := old[f.Edge]; left {
			d.Vanished = append(d.Vanished, f)
		}
	}
	return d
}

func bytesOf(f Flow) uint64 { return f.BytesIn + f.BytesOut }

func rate(r *Record, n uint64) float64 {
	hours := r.To.Sub(r.From).Hours()
	if hours <= 0 {
		return float64(n)
	}
	return float64(n) / hours
}

func apart(a, b float64) bool { return max(a, b) > changedBy*min(a, b) }

// Touches reports whether a workload is at an end of an edge; a name that ends with / is every one that begins so.
func Touches(e bulkhead.Edge, workload string) bool {
	for _, end := range []bulkhead.Endpoint{e.Source, e.Destination} {
		if end.Name == workload || strings.HasSuffix(workload, "/") && strings.HasPrefix(end.Name, workload) {
			return true
		}
	}
	return false
}
