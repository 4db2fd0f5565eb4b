package baseline

import (
	"path"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/baseline/tree"
)

// Trace is what an audit looked at: what has to be watched for its answers to stay true.
type Trace struct {
	tree  tree.Trace
	reads map[string][]string // check → the facts it reads, and the paths that it names itself
}

// Paths are all that were looked at, in order; one that was listed ends in "/".
func (t *Trace) Paths() (all []string) {
	for _, paths := range t.tree.Paths() {
		all = append(all, paths...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// read notes what each check reads.
func (t *Trace) read(checks []Check) {
	t.reads = map[string][]string{}
	for _, c := range checks {
		for _, e := range c.expressions() {
			for _, p := range e.Reads {
				t.reads[c.ID] = append(t.reads[c.ID], factOf(p))
			}
		}
	}
}

// factOf is the fact of a trace, or the path, that an expression reads.
func factOf(read []string) string {
	switch {
	case read[0] == "file":
		return read[1]
	case read[0] == "host" && len(read) > 2 && read[1] == "sysctl":
		return tree.SysctlPath(read[2])
	case read[0] == "host":
		return "host." + read[1]
	}
	return read[0]
}

// About says which of these paths a check depends on.
func (t *Trace) About(changed []string) map[string][]string {
	paths := t.tree.Paths()
	about := map[string][]string{}
	for id, facts := range t.reads {
		for _, p := range changed {
			if slices.ContainsFunc(facts, func(fact string) bool { return fact == p || touches(paths[fact], p) && fact != "host.sysctl" }) {
				about[id] = append(about[id], p)
			}
		}
	}
	return about
}

// touches reports whether a path was looked at, or is in a directory that was listed.
func touches(paths []string, p string) bool {
	for _, name := range []string{p, p + "/", path.Dir(p) + "/"} {
		if _, found := slices.BinarySearch(paths, name); found {
			return true
		}
	}
	return false
}

// Change is one check whose answer is another than it was.
type Change struct {
	Check    string            `json:"check"`
	Title    string            `json:"title"`
	Layer    string            `json:"layer"`
	Severity bulkhead.Severity `json:"severity"`
	Before   Status            `json:"before"`
	After    Status            `json:"after"`
	Was      string            `json:"was"`   // the evidence before
	Is       string            `json:"is"`    // and after
	Paths    []string          `json:"paths"` // that changed, and that it depends on
	Attack   []string          `json:"attack"`
}

// Compare says what is otherwise than it was. Evidence alone counts where something changed that the check depends on:
// a number of processes, say, is another at each audit.
func Compare(before, after []Result, about map[string][]string) []Change {
	old := make(map[string]Result, len(before))
	for _, r := range before {
		old[key(r)] = r
	}
	list := []Change{}
	for _, r := range after {
		was, known := old[key(r)]
		paths := about[r.ID]
		if !known || was.Status == r.Status && (len(paths) == 0 || was.Evidence == r.Evidence) {
			continue
		}
		list = append(list, Change{
			Check: r.ID, Title: r.Title, Layer: r.Layer, Severity: r.Severity, Before: was.Status, After: r.Status,
			Was: was.Evidence, Is: r.Evidence, Paths: append([]string{}, paths...), Attack: r.Maps.Attack,
		})
	}
	return list
}

func key(r Result) string { return strings.Join([]string{r.ID, r.Path}, "\x00") }
