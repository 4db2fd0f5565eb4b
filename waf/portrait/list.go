package portrait

import (
	"cmp"
	"slices"
)

// Listed is an endpoint as a person reads it.
type Listed struct {
	Method, Template string
	Requests         int
	Usual            bool // enough clients asked for it
	Parameters       []ListedParameter
}

// ListedParameter is a parameter as a person reads it.
type ListedParameter struct {
	Name, Place, Type string
	Longest           int // bytes, rounded up
	Always            bool
}

// Endpoints lists what was learned, what is asked for most first. Parameters that are not usual are left out.
func (p *Portrait) Endpoints() []Listed {
	p.lock.Lock()
	defer p.lock.Unlock()
	list := []Listed{}
	for _, e := range p.p.Endpoints {
		one := Listed{Method: e.Method, Template: e.Template, Requests: e.Seen.Count, Usual: len(e.Seen.Sources) >= minSources}
		for _, v := range e.Parameters {
			if v.Seen.usual(e.Seen.Count) {
				one.Parameters = append(one.Parameters, ListedParameter{v.Name, v.Place, v.types(), 1 << v.longest(), v.Seen.Count >= e.Seen.Count})
			}
		}
		slices.SortFunc(one.Parameters, func(a, b ListedParameter) int {
			return cmp.Or(cmp.Compare(a.Place, b.Place), cmp.Compare(a.Name, b.Name))
		})
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b Listed) int {
		return cmp.Or(b.Requests-a.Requests, cmp.Compare(a.Template, b.Template), cmp.Compare(a.Method, b.Method))
	})
	return list
}
