package rule

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"bulkhead"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// Set is a set of rules, ready to be evaluated.
type Set struct {
	rules []*Rule
	index map[bulkhead.EventKind]*kindIndex
	lists map[string]ref.Val
	ready []*compiled
}

// kindIndex holds the rules that look at one kind of event.
type kindIndex struct {
	always []*compiled            // could be met by any event of the kind
	by     map[string][]*compiled // field and value of the guard → rules
	fields map[string]bool
}

// compiled is a rule that is switched on.
type compiled struct {
	*Rule
	conditions
	order  int
	faults atomic.Uint64
	last   atomic.Pointer[string]
}

// Fault is a rule that could not be evaluated on some events.
type Fault struct {
	Rule  string `json:"rule"`
	Count uint64 `json:"count"`
	Last  string `json:"last"`
}

// add compiles a draft and puts it into the index. A rule that is switched off must compile too:
// whoever switches it on later shall not be surprised.
func (s *Set) add(c *compiler, d *draft) []error {
	r := &d.rule
	conditions, ast, problems := d.compile(c.compile, r.When, r.Message, r.Exceptions)
	if len(problems) > 0 {
		return problems
	}
	k := &compiled{Rule: r, conditions: conditions, order: len(s.rules)}
	g := c.findGuard(ast)
	if err := nameSyscalls(d, g); err != nil {
		return []error{err}
	}
	s.rules = append(s.rules, r)
	if r.Enabled {
		s.keep(k, g)
	}
	return nil
}

// nameSyscalls completes what a rule needs by what its condition says: no rule may make the
// sensor deliver every system call there is.
func nameSyscalls(d *draft, g *guard) error {
	r := &d.rule
	if !slices.Contains(r.Events, bulkhead.EventSyscall) {
		return nil
	}
	if g != nil && g.field == "syscall.name" {
		r.Needs.Syscalls = append(r.Needs.Syscalls, g.values...)
	}
	slices.Sort(r.Needs.Syscalls)
	r.Needs.Syscalls = slices.Compact(r.Needs.Syscalls)
	if len(r.Needs.Syscalls) == 0 {
		return d.where("when").Wrong(`add syscall.name == "…" && …, or needs: {syscalls: […]}`, "rule %s looks at system calls but names none", r.ID)
	}
	return nil
}

func (s *Set) keep(k *compiled, g *guard) {
	s.ready = append(s.ready, k)
	for _, kind := range k.Events {
		in := s.index[kind]
		if in == nil {
			in = &kindIndex{by: map[string][]*compiled{}, fields: map[string]bool{}}
			s.index[kind] = in
		}
		if g == nil {
			in.always = append(in.always, k)
			continue
		}
		in.fields[g.field] = true
		for _, v := range g.values {
			in.by[g.field+"="+v] = append(in.by[g.field+"="+v], k)
		}
	}
}

// views are used again: one holds the fields of an event and is larger than the event itself.
var views = sync.Pool{New: func() any { return new(view) }}

// Eval returns the rules that e meets, by id. A rule that cannot be evaluated on e counts as not
// met and is told by [Set.Faults].
func (s *Set) Eval(e bulkhead.Event) []Match {
	in := s.index[e.Kind]
	if in == nil {
		return nil
	}
	v := views.Get().(*view)
	defer views.Put(v)
	v.look(&e, s.lists)
	var matches []Match
	for _, k := range in.candidates(v) {
		if message, met := k.eval(v); met {
			matches = append(matches, Match{Rule: k.Rule, Message: message})
		}
	}
	return matches
}

// candidates returns the rules whose guard does not rule them out, each once, in order.
func (in *kindIndex) candidates(v *view) []*compiled {
	found := append(make([]*compiled, 0, len(in.always)+8), in.always...)
	for field := range in.fields {
		switch field {
		case "exec.named":
			for _, n := range v.names {
				found = append(found, in.by["exec.named="+n]...)
			}
		default:
			found = append(found, in.by[field+"="+v.guardValue(field)]...)
		}
	}
	slices.SortFunc(found, func(a, b *compiled) int { return a.order - b.order })
	return slices.Compact(found)
}

func (v *view) guardValue(field string) string {
	switch field {
	case "syscall.name":
		return v.syscall().Name
	case "event.reason":
		return string(v.event.Reason)
	case "event.capability":
		return v.event.Capability
	case "file.path":
		return v.file().Path
	case "file.write":
		return strconv.FormatBool(v.file().Write)
	}
	return ""
}

func (k *compiled) eval(v *view) (message string, met bool) {
	if !k.holds(k.when, v) {
		return "", false
	}
	for _, e := range k.exceptions {
		if k.holds(e, v) {
			return "", false
		}
	}
	return k.text(v), true
}

func (k *compiled) holds(p cel.Program, v *view) bool {
	out, _, err := p.Eval(v)
	if err != nil {
		k.fault(err)
		return false
	}
	return out == types.True
}

// maxMessage is what a person reads in one go.
const maxMessage = 1024

func (k *compiled) text(v *view) string {
	out, _, err := k.message.Eval(v)
	if err != nil {
		k.fault(err)
		return k.Title // the alert matters more than its words
	}
	message := string(out.(types.String))
	return strings.ToValidUTF8(message[:min(len(message), maxMessage)], "")
}

func (k *compiled) fault(err error) {
	k.faults.Add(1)
	text := err.Error()
	k.last.Store(&text)
}

// Faults returns the rules that could not be evaluated on some events so far.
func (s *Set) Faults() []Fault {
	var faults []Fault
	for _, k := range s.ready {
		if n, last := k.faults.Load(), k.last.Load(); n > 0 && last != nil {
			faults = append(faults, Fault{Rule: k.ID, Count: n, Last: *last})
		}
	}
	return faults
}
