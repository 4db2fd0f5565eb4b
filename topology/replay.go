package topology

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// Outcome is what policies would have done to a record.
type Outcome struct {
	Edges     int      `json:"edges"`     // judged
	Cut       []Cut    `json:"cut"`       // would not have passed
	Uncertain []Cut    `json:"uncertain"` // what is known does not decide it
	Opened    uint64   `json:"opened"`    // connections of all edges
	CutOpened uint64   `json:"cutOpened"` // of those that would have been cut
	Coverage  Coverage `json:"coverage"`
	Notes     []string `json:"notes"`
}

// Cut is an edge that would not have passed.
type Cut struct {
	bulkhead.Edge
	Application string    `json:"application,omitempty"`
	Side        string    `json:"side"`     // which end does not let it: "egress", "ingress"
	Policies    []string  `json:"policies"` // that close that end
	Reason      string    `json:"reason"`
	First       time.Time `json:"first"`
	Last        time.Time `json:"last"`
	Opened      uint64    `json:"opened"`
	Answered    bool      `json:"answered"` // false: nobody ever took a connection of it, as of a scan
	Bytes       uint64    `json:"bytes"`
	Hours       int       `json:"hours"`  // in which it was seen; 0: the history by hours was not given
	Rhythm      string    `json:"rhythm"` // "once", "hourly", "daily", "weekly", "now and then", "often"; "": not known
	Rare        bool      `json:"rare"`   // seen in few of the hours: easily overlooked
}

// Coverage says how much of the time a replay stands on.
type Coverage struct {
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Hours   int       `json:"hours"`   // of the window
	Covered int       `json:"covered"` // with any flow; 0: the history by hours was not given
	Gaps    []Gap     `json:"gaps"`    // the longest times of which nothing is known, at most 10
	Lost    uint64    `json:"lost"`    // packets that found no room in a node's table
}

// Gap is a time without any flow.
type Gap struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Hour is what was seen of the edge Flows[Flow] in the hour that begins at Unix time 3600 * At.
type Hour struct {
	Flow   int32
	At     int32
	Opened uint32
}

// Hours are the moments of a record's flows.
func (r *Record) Hours() iter.Seq[Hour] {
	return func(yield func(Hour) bool) {
		for i := range r.Flows {
			for _, m := range r.Flows[i].History {
				if !yield(Hour{int32(i), hourOf(m.At), uint32(min(m.Opened, 1<<32-1))}) {
					return
				}
			}
		}
	}
}

func hourOf(t time.Time) int32 { return int32(max(min(t.Unix()/3600, 1<<31-1), 0)) }

// Replay judges each edge once, and then goes through the hours once. An hour outside of the window is left out.
func Replay(r *Record, policies []Policy, hours iter.Seq[Hour]) *Outcome {
	book := r.Book()
	judge := NewJudge(policies, book)
	o := &Outcome{Edges: len(r.Flows), Cut: []Cut{}, Uncertain: []Cut{}, Notes: []string{}}
	marks := make([]*mark, len(r.Flows))
	for i := range r.Flows {
		o.Opened += r.Flows[i].Opened
		if d := judge.Edge(r.Flows[i].Edge); d.Fit != Yes {
			marks[i] = newMark(&r.Flows[i], d)
		}
	}
	o.Coverage = walk(r, marks, hours)
	o.gather(marks)
	o.Notes = append(remarks(policies, judge, book), o.doubts(r)...)
	return o
}

// mark gathers the hours of an edge that does not pass.
type mark struct {
	Cut
	fit  Fit
	seen []int32 // hours
}

func newMark(f *Flow, d Decision) *mark {
	return &mark{fit: d.Fit, Cut: Cut{
		Edge: f.Edge, Application: f.Application, Side: d.Side, Policies: d.Policies, Reason: d.Reason, First: f.First, Last: f.Last,
		Opened: f.Opened, Answered: answered(f), Bytes: bytesOf(*f),
	}}
}

// answered reports whether anybody took what was sent: of TCP a connection, of others an answer.
func answered(f *Flow) bool {
	if f.Protocol == "tcp" {
		return f.Established > 0 || f.Opened == 0
	}
	return f.PacketsIn > 0
}

func walk(r *Record, marks []*mark, hours iter.Seq[Hour]) Coverage {
	c := Coverage{From: r.From, To: r.To, Hours: int((r.To.Sub(r.From) + time.Hour - 1) / time.Hour), Gaps: []Gap{}, Lost: r.Lost}
	first, last := hourOf(r.From), hourOf(r.To.Add(-1))
	busy := make([]bool, bounded(int(last)-int(first)+1))
	for h := range hours {
		at := int(h.At) - int(first)
		if at < 0 || at >= len(busy) || h.Flow < 0 || int(h.Flow) >= len(marks) {
			continue
		}
		busy[at] = true
		if m := marks[h.Flow]; m != nil {
			m.seen = append(m.seen, h.At)
		}
	}
	for _, t := range r.Covered {
		if at := int(hourOf(t)) - int(first); at >= 0 && at < len(busy) {
			busy[at] = true
		}
	}
	if !r.Partial || r.Covered != nil {
		c.count(busy, first)
	}
	return c
}

// bounded: a window of ten years has fewer hours, whatever a file says.
func bounded(hours int) int { return max(0, min(hours, 10*366*24)) }

func (c *Coverage) count(busy []bool, first int32) {
	begin := -1
	for i, seen := range append(busy, true) {
		switch {
		case seen && begin >= 0:
			c.Gaps = append(c.Gaps, Gap{moment(first + int32(begin)), moment(first + int32(i))})
			begin = -1
		case !seen && begin < 0:
			begin = i
		}
		if seen && i < len(busy) {
			c.Covered++
		}
	}
	if c.Covered == 0 {
		c.Gaps = []Gap{}
	}
	slices.SortStableFunc(c.Gaps, func(a, b Gap) int { return cmp.Compare(b.To.Sub(b.From), a.To.Sub(a.From)) })
	c.Gaps = c.Gaps[:min(len(c.Gaps), 10)]
}

func moment(hour int32) time.Time { return time.Unix(int64(hour)*3600, 0).UTC() }

func (o *Outcome) gather(marks []*mark) {
	covered := cmp.Or(o.Coverage.Covered, o.Coverage.Hours)
	for _, m := range marks {
		if m == nil {
			continue
		}
		slices.Sort(m.seen)
		m.seen = slices.Compact(m.seen)
		m.Hours, m.Rhythm = len(m.seen), rhythm(m.seen, covered)
		m.Rare = m.Hours > 0 && m.Hours*50 <= covered
		if m.fit == Maybe {
			o.Uncertain = append(o.Uncertain, m.Cut)
			continue
		}
		o.Cut = append(o.Cut, m.Cut)
		o.CutOpened += m.Opened
	}
	order := func(a, b Cut) int {
		return cmp.Or(cmp.Compare(b.Opened, a.Opened), strings.Compare(a.Edge.String(), b.Edge.String()))
	}
	slices.SortFunc(o.Cut, order)
	slices.SortFunc(o.Uncertain, order)
}

// rhythm names how an edge comes again: by the middle one of the times between its runs, where most are like it.
func rhythm(hours []int32, covered int) string {
	if len(hours) == 0 {
		return ""
	}
	var gaps []int32
	start := hours[0]
	for i := 1; i < len(hours); i++ {
		if hours[i] > hours[i-1]+1 {
			gaps = append(gaps, hours[i]-start)
			start = hours[i]
		}
	}
	switch {
	case len(hours)*2 > covered && covered > 2:
		return "often"
	case len(gaps) == 0:
		return "once"
	}
	slices.Sort(gaps)
	middle := gaps[len(gaps)/2]
	for _, known := range []struct {
		name        string
		hours, some int32
	}{{"daily", 24, 2}, {"weekly", 168, 6}, {"monthly", 730, 48}} {
		if like(gaps, known.hours, known.some)*3 >= len(gaps)*2 && abs(middle-known.hours) <= known.some {
			return known.name
		}
	}
	return "now and then"
}

func like(gaps []int32, hours, some int32) (n int) {
	for _, g := range gaps {
		if abs(g-hours) <= some {
			n++
		}
	}
	return n
}

func abs(n int32) int32 { return max(n, -n) }

const week = 7 * 24 * time.Hour

// doubts says what the history cannot show.
func (o *Outcome) doubts(r *Record) (notes []string) {
	c := &o.Coverage
	if d := r.To.Sub(r.From); d < week {
		notes = append(notes, fmt.Sprintf("the window has %s: what happens weekly may not be in it", days(d)))
	}
	if !r.Since.IsZero() && r.Since.After(r.From) {
		notes = append(notes, fmt.Sprintf("the history begins at %s, after the window does", r.Since.UTC().Format(time.RFC3339)))
	}
	if c.Covered > 0 && c.Covered < c.Hours {
		notes = append(notes, fmt.Sprintf("of %d of %d hours nothing is known", c.Hours-c.Covered, c.Hours))
	}
	if r.Lost > 0 {
		notes = append(notes, fmt.Sprintf("%d packets found no room in the nodes' tables: their edges may be missing", r.Lost))
	}
	return notes
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// Remarks says of policies what their author may not have meant, judged by what a record knows of workloads.
func Remarks(policies []Policy, r *Record) []string {
	book := r.Book()
	return remarks(policies, NewJudge(policies, book), book)
}

// remarks says of policies what their author may not have meant: they are for nobody, or a rule is.
func remarks(policies []Policy, j *Judge, book *Book) (notes []string) {
	for i := range policies {
		p := &policies[i]
		if !j.forAnybody(p, book) {
			notes = append(notes, p.place(p.Line)+" is for no workload of the record")
			continue
		}
		for _, side := range [][]Rule{p.In, p.Out} {
			for k := range side {
				if !j.meansAnybody(p, &side[k], book) {
					notes = append(notes, p.place(side[k].Line)+": a rule means no workload of the record")
				}
			}
		}
	}
	return notes
}

func (j *Judge) forAnybody(p *Policy, book *Book) bool {
	for _, name := range book.names {
		if p.Subject.fit(p, j.party(bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: name})) != No {
			return true
		}
	}
	return false
}

// meansAnybody: of what is not a workload only those in the flows are known, so such a rule is never told of.
func (j *Judge) meansAnybody(p *Policy, r *Rule, book *Book) bool {
	if r.Peers == nil {
		return true
	}
	for i := range r.Peers {
		q := &r.Peers[i]
		if q.Everybody || q.Block != nil || q.Domain != "" || q.Host || q.World || q.Cluster {
			return true
		}
		for _, name := range book.names {
			if q.fit(p, j.party(bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: name})) != No {
				return true
			}
		}
	}
	return len(r.Peers) == 0
}
