// Package topology makes of flows what a person asks about a network: who talks to whom ([NewGraph]), what of
// it is risky ([Assess]), the smallest policy that it needs ([Propose]), and what a policy would have cut of it
// ([Replay]). Start with [Record] and [NewJudge].
//
// It promises to be a pure engine: data in, data out, the same answer for the same data. Where what is known
// does not decide a question it says so ([Maybe]) instead of guessing. It opens no file and no socket,
// counts no packet and enforces nothing; what it reads from outside is bounded and tested with hostile bytes.
package topology

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// Record is a window of history and what is known of those who appear in it. Its JSON is what
// `bulkhead flows --format json` writes; fields are added, never renamed.
type Record struct {
	From       time.Time   `json:"from"`
	To         time.Time   `json:"to"`
	Since      time.Time   `json:"since"` // how far the stored history goes back; the zero time: not known
	Lost       uint64      `json:"lost"`  // packets that found no room in a node's table
	Workloads  []Workload  `json:"workloads"`
	Namespaces []Namespace `json:"namespaces"`
	Hosts      []Host      `json:"hosts"`
	Flows      []Flow      `json:"flows"`
	Partial    bool        `json:"-"` // only some flows have their history: it does not tell the hours of which anything is known …
	Covered    []time.Time `json:"-"` // … but these do, where they are given
}

// Workload is what is known of a workload besides its name.
type Workload struct {
	Name            string            `json:"name"`
	Namespace       string            `json:"namespace,omitempty"`
	Labels          map[string]string `json:"labels"`    // of its pods; null: not known
	Addresses       []netip.Addr      `json:"addresses"` // of all its replicas, as far as they are known
	Ports           []NamedPort       `json:"ports"`     // null: not known
	Exposed         bool              `json:"exposed,omitempty"`
	Sensitive       bool              `json:"sensitive,omitempty"`
	Vulnerabilities []Vulnerability   `json:"vulnerabilities,omitempty"`
}

// Vulnerability is one of a workload's image, as a scan found it.
type Vulnerability struct {
	ID       string            `json:"id"`
	Severity bulkhead.Severity `json:"severity"`
	KEV      bool              `json:"kev"` // known to be exploited
	EPSS     float64           `json:"epss"`
}

// NamedPort is a port of a container that policies may call by name.
type NamedPort struct {
	Name     string `json:"name"`
	Protocol string `json:"protocol"` // "tcp", "udp", "sctp"
	Port     uint16 `json:"port"`
}

// Namespace is a Kubernetes namespace.
type Namespace struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"` // null: not known but for kubernetes.io/metadata.name
}

// Host is a node.
type Host struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
}

// Flow is an edge, what was seen of it in the window, and when.
type Flow struct {
	bulkhead.Flow
	History []Moment `json:"history,omitempty"` // by hour, oldest first
	Queries *Queries `json:"queries,omitempty"` // of DNS, where names were seen
}

// Moment is what was seen of an edge in one hour (or minute).
type Moment struct {
	At     time.Time `json:"at"`
	Opened uint64    `json:"opened"`
	Bytes  uint64    `json:"bytes"`
}

// Queries sums up the names that were asked over a DNS edge.
type Queries struct {
	Names   uint64 `json:"names"`   // different ones
	Asked   uint64 `json:"asked"`   // questions
	Longest int    `json:"longest"` // bytes of the longest name
	// Examples are names as they were asked, at most 100 of them: what entropy is computed from.
	Examples []string `json:"examples,omitempty"`
}

// ImpliedNamespace is the namespace in a workload's name "namespace/kind/owner/container", and "" where there is none.
func ImpliedNamespace(workload string) string {
	if parts := strings.Split(workload, "/"); len(parts) == 4 {
		return parts[0]
	}
	return ""
}

// PodOf is a workload's name without the container: what a policy is for.
func PodOf(workload string) string {
	if parts := strings.Split(workload, "/"); len(parts) == 4 {
		return strings.Join(parts[:3], "/")
	}
	return workload
}

// Application is what a person calls a workload.
func (w *Workload) Application() string {
	for _, key := range []string{"app.kubernetes.io/part-of", "app.kubernetes.io/instance", "app.kubernetes.io/name", "app", "k8s-app", "com.docker.compose.project"} {
		if v := w.Labels[key]; v != "" {
			return v
		}
	}
	parts := strings.Split(w.Name, "/")
	switch {
	case len(parts) == 4:
		return parts[2]
	case len(parts) == 3 && parts[0] == "compose":
		return parts[1]
	}
	return parts[len(parts)-1]
}

// Book finds what is known of an endpoint.
type Book struct {
	workloads  map[string]*Workload
	namespaces map[string]*Namespace
	hosts      map[string]*Host
	names      []string // of workloads, sorted
}

// Book makes a book of a record; workloads that appear only in its flows are in it too, with what their names tell.
func (r *Record) Book() *Book {
	b := &Book{workloads: map[string]*Workload{}, namespaces: map[string]*Namespace{}, hosts: map[string]*Host{}}
	for i := range r.Workloads {
		w := r.Workloads[i]
		w.Namespace = cmp.Or(w.Namespace, ImpliedNamespace(w.Name))
		b.workloads[w.Name] = &w
	}
	for i := range r.Namespaces {
		b.namespaces[r.Namespaces[i].Name] = &r.Namespaces[i]
	}
	for i := range r.Hosts {
		b.hosts[r.Hosts[i].Name] = &r.Hosts[i]
	}
	for i := range r.Flows {
		b.meet(r.Flows[i].Source)
		b.meet(r.Flows[i].Destination)
	}
	for name := range b.workloads {
		b.names = append(b.names, name)
	}
	slices.Sort(b.names)
	return b
}

func (b *Book) meet(e bulkhead.Endpoint) {
	if e.Kind == bulkhead.EndWorkload && b.workloads[e.Name] == nil {
		b.workloads[e.Name] = &Workload{Name: e.Name, Namespace: ImpliedNamespace(e.Name)}
	}
}

// Workload is what is known of a workload, or nil.
func (b *Book) Workload(name string) *Workload { return b.workloads[name] }

// Workloads are all names, sorted.
func (b *Book) Workloads() []string { return b.names }

// namespaceLabels are a namespace's labels; every namespace has its name as one.
func (b *Book) namespaceLabels(name string) labels {
	own := map[string]string{nameLabel: name}
	n := b.namespaces[name]
	if n == nil || n.Labels == nil {
		return labels{own, false}
	}
	for k, v := range n.Labels {
		own[k] = v
	}
	own[nameLabel] = name
	return labels{own, true}
}

// nameLabel is on every namespace since Kubernetes 1.22.
const nameLabel = "kubernetes.io/metadata.name"
