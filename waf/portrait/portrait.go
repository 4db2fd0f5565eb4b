// Package portrait learns what the requests of one application look like: endpoints as templates, parameters with
// their types, lengths and alphabets. Start with [New], [Portrait.Learn] and [Portrait.Judge].
//
// It promises bounded memory, and that what few sources send, or a hundredth of the requests, is never part of the
// portrait: an attacker who is a small part of the traffic cannot teach it. It is not for finding attacks: what it
// tells are deviations.
package portrait

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"sort"
	"strings"
	"sync"

	"bulkhead/waf/decode"
	"bulkhead/waf/message"
)

const (
	enough        = 50  // requests of an endpoint before it is judged by
	minSources    = 3   // that sent something before it counts
	minShare      = 100 // one in so many requests has to have it
	maxEndpoints  = 2000
	maxParameters = 200 // of one endpoint
	maxLiterals   = 24  // of one place in a path: more are values
)

// Portrait is what was learned of one application. It may be used by many goroutines at once.
type Portrait struct {
	lock  sync.Mutex
	p     picture
	total int // of all endpoints' requests
}

// picture is a portrait as it is written.
type picture struct {
	Endpoints map[string]*Endpoint `json:"endpoints"` // by method and template
	Literals  map[string]*literals `json:"literals"`  // by the template before a place in a path
}

// literals are the words seen at one place of a path.
type literals struct {
	Words map[string]bool `json:"words"`
	Many  bool            `json:"many"` // too many to be names of places
}

// Endpoint is one method on one template of a path.
type Endpoint struct {
	Method     string                `json:"method"`
	Template   string                `json:"template"`
	Seen       tally                 `json:"seen"`
	Parameters map[string]*Parameter `json:"parameters"` // by place and name
}

// Parameter is what was seen of one value.
type Parameter struct {
	Place   string           `json:"place"`
	Name    string           `json:"name"`
	Seen    tally            `json:"seen"`
	Types   map[string]tally `json:"types"`
	Signs   map[string]tally `json:"signs"`   // kinds of characters
	Lengths map[int]tally    `json:"lengths"` // by powers of two
}

// tally counts, and remembers a few of the sources.
type tally struct {
	Count   int      `json:"count"`
	Sources []uint32 `json:"sources"`
}

func (t tally) add(source uint32) tally {
	t.Count++
	if len(t.Sources) >= minSources {
		return t
	}
	for _, s := range t.Sources {
		if s == source {
			return t
		}
	}
	t.Sources = append(t.Sources, source)
	return t
}

// usual says whether enough different clients sent it often enough, of so many requests.
func (t tally) usual(of int) bool { return len(t.Sources) >= minSources && t.Count*minShare >= of }

// New makes an empty portrait.
func New() *Portrait {
	return &Portrait{p: picture{Endpoints: map[string]*Endpoint{}, Literals: map[string]*literals{}}}
}

// Read reads what [Portrait.Write] wrote.
func Read(b []byte) (*Portrait, error) {
	p := New()
	if err := json.Unmarshal(b, &p.p); err != nil {
		return nil, fmt.Errorf("reading a portrait: %w", err)
	}
	p.p.complete()
	for _, e := range p.p.Endpoints {
		p.total += e.Seen.Count
	}
	return p, nil
}

// complete makes what a file may leave out.
func (p *picture) complete() {
	if p.Endpoints == nil {
		p.Endpoints = map[string]*Endpoint{}
	}
	if p.Literals == nil {
		p.Literals = map[string]*literals{}
	}
	for before, l := range p.Literals {
		if l == nil || l.Words == nil && !l.Many {
			p.Literals[before] = &literals{Words: map[string]bool{}}
		}
	}
	for key, e := range p.Endpoints {
		if e == nil {
			delete(p.Endpoints, key)
			continue
		}
		if e.Parameters == nil {
			e.Parameters = map[string]*Parameter{}
		}
		for name, v := range e.Parameters {
			if v == nil || v.Types == nil || v.Signs == nil || v.Lengths == nil {
				delete(e.Parameters, name)
			}
		}
	}
}

// Write returns the portrait as JSON.
func (p *Portrait) Write() ([]byte, error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	return json.MarshalIndent(p.p, "", " ")
}

// Learn takes a request of a source, such as the client's address, into the portrait. It is for requests that were
// passed.
func (p *Portrait) Learn(r *message.Request, source string) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(source))
	p.lock.Lock()
	defer p.lock.Unlock()
	template := p.p.template(r.Path, true)
	key := r.Method + " " + template
	e := p.p.Endpoints[key]
	if e == nil {
		if len(p.p.Endpoints) >= maxEndpoints {
			return
		}
		e = &Endpoint{Method: r.Method, Template: template, Parameters: map[string]*Parameter{}}
		p.p.Endpoints[key] = e
	}
	e.Seen = e.Seen.add(h.Sum32())
	p.total++
	for _, f := range Values(r) {
		e.parameter(f, true).learn(f.Value, h.Sum32())
	}
}

// Values are the parameters of a request, decoded once as an application gets them.
func Values(r *message.Request) []message.Field {
	var list []message.Field
	for _, f := range r.Fields() {
		switch f.Place {
		case message.Query, message.Form, message.JSON, message.XML:
			if f.Encoded {
				f.Value = decode.Percent(f.Value, true)
			}
			list = append(list, f)
		}
	}
	return list
}

func (e *Endpoint) parameter(f message.Field, grow bool) *Parameter {
	key := f.Place.String() + " " + f.Name
	v := e.Parameters[key]
	if v == nil && grow && len(e.Parameters) < maxParameters {
		v = &Parameter{Place: f.Place.String(), Name: f.Name, Types: map[string]tally{}, Signs: map[string]tally{}, Lengths: map[int]tally{}}
		e.Parameters[key] = v
	}
	return v
}

func (v *Parameter) learn(s string, source uint32) {
	if v == nil {
		return
	}
	v.Seen = v.Seen.add(source)
	v.Types[typeOf(s)] = v.Types[typeOf(s)].add(source)
	v.Lengths[bucket(len(s))] = v.Lengths[bucket(len(s))].add(source)
	for _, sign := range signsOf(s) {
		v.Signs[sign] = v.Signs[sign].add(source)
	}
}

// template replaces the values in a path by what they are. A place with too many different words holds values, too.
func (p *picture) template(path string, grow bool) string {
	path, _, _ = strings.Cut(path, ";")
	parts := strings.Split(strings.Trim(decode.Percent(path, false), "/"), "/")
	before := ""
	for i, part := range parts {
		if i >= 16 {
			before += "/{rest}"
			break
		}
		before += "/" + p.segment(before, part, grow)
	}
	return before
}

func (p *picture) segment(before, part string, grow bool) string {
	if t := typeOf(part); t != "word" && t != "name" && part != "" {
		return "{" + t + "}"
	}
	here := p.Literals[before]
	if here == nil {
		if !grow || len(p.Literals) >= maxEndpoints {
			return part
		}
		here = &literals{Words: map[string]bool{}}
		p.Literals[before] = here
	}
	switch {
	case here.Many:
		return "{text}"
	case here.Words[part] || !grow:
		return part
	case len(here.Words) >= maxLiterals:
		here.Many, here.Words = true, nil
		p.merge(before)
		return "{text}"
	}
	here.Words[part] = true
	return part
}

// merge makes the endpoints below a place one, where their words turned out to be values.
func (p *picture) merge(before string) {
	for key, e := range p.Endpoints {
		rest, below := strings.CutPrefix(e.Template, before+"/")
		if !below {
			continue
		}
		first, after, more := strings.Cut(rest, "/")
		if strings.HasPrefix(first, "{") {
			continue
		}
		e.Template = before + "/{text}"
		if more {
			e.Template += "/" + after
		}
		delete(p.Endpoints, key)
		if into := p.Endpoints[e.Method+" "+e.Template]; into == nil || into.Seen.Count < e.Seen.Count {
			p.Endpoints[e.Method+" "+e.Template] = e // what others below had is seen again soon
		}
	}
}

// Deviation is something that a request has and the application's do not.
type Deviation struct {
	Rule    string // portrait-…
	Score   int
	Place   string
	Name    string
	Message string // never the value
}

// Judge compares a request with what was learned. What was seen too little of is not judged by.
func (p *Portrait) Judge(r *message.Request) []Deviation {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.total < enough {
		return nil
	}
	e := p.p.Endpoints[r.Method+" "+p.p.template(r.Path, false)]
	if e == nil || len(e.Seen.Sources) < minSources {
		return []Deviation{{Rule: "portrait-endpoint", Score: 40, Place: "path", Message: "no such endpoint is usual"}}
	}
	if e.Seen.Count < enough {
		return nil
	}
	var list []Deviation
	for _, f := range Values(r) {
		list = append(list, e.judge(f)...)
	}
	return list
}

// Learned is how much the portrait was made of.
func (p *Portrait) Learned() (endpoints, requests int) {
	p.lock.Lock()
	defer p.lock.Unlock()
	return len(p.p.Endpoints), p.total
}

// Template is a path with its values replaced by what they are, as endpoints have it.
func (p *Portrait) Template(path string) string {
	p.lock.Lock()
	defer p.lock.Unlock()
	return p.p.template(path, false)
}

// Template is what [Portrait.Template] is where nothing was learned.
func Template(path string) string { return (&picture{}).template(path, false) }

func (e *Endpoint) judge(f message.Field) []Deviation {
	at := func(rule string, score int, what string) Deviation {
		return Deviation{Rule: rule, Score: score, Place: f.Place.String(), Name: f.Name, Message: what}
	}
	v := e.parameter(f, false)
	if v == nil || !v.Seen.usual(e.Seen.Count) {
		return []Deviation{at("portrait-parameter", 40, "no such parameter is usual here")}
	}
	var list []Deviation
	if t := typeOf(f.Value); !v.Types[t].usual(v.Seen.Count) && v.narrow() {
		list = append(list, at("portrait-type", 65, "a "+t+" where "+v.types()+" is usual"))
	}
	for _, sign := range signsOf(f.Value) {
		if !v.Signs[sign].usual(v.Seen.Count) {
			list = append(list, at("portrait-sign", 60, "the character "+sign+" is not usual here"))
			break
		}
	}
	if bucket(len(f.Value)) > v.longest()+1 {
		list = append(list, at("portrait-length", 50, fmt.Sprintf("%d bytes, where %d are usual", len(f.Value), 1<<v.longest())))
	}
	return list
}

// narrow says whether the usual types are ones that a text is not.
func (v *Parameter) narrow() bool {
	for t, n := range v.Types {
		if (t == "text" || t == "name") && n.usual(v.Seen.Count) {
			return false
		}
	}
	return true
}

func (v *Parameter) types() string {
	var list []string
	for t, n := range v.Types {
		if n.usual(v.Seen.Count) {
			list = append(list, t)
		}
	}
	sort.Strings(list)
	return strings.Join(list, " or ")
}

func (v *Parameter) longest() (n int) {
	for b, t := range v.Lengths {
		if t.usual(v.Seen.Count) {
			n = max(n, b)
		}
	}
	return n
}

func bucket(n int) (b int) {
	for ; n > 0; n >>= 1 {
		b++
	}
	return b
}
