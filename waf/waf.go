// Package waf inspects one HTTP transaction and says whether it is an attack, and why. Start with
// [New] and [Engine.Inspect].
//
// It promises the same verdict for the same bytes in every place that it is put into, a decision for
// every input, and work in proportion to the input's length. It is a cascade: what an ordinary alphabet
// is written in passes at once, detectors and a trained model judge the rest, and what is neither
// clearly honest nor clearly an attack is shown to the OWASP Core Rule Set. It is not for carrying
// connections: that is package intercept's.
package waf

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"bulkhead/waf/decode"
	"bulkhead/waf/detect"
	"bulkhead/waf/message"
	"bulkhead/waf/model"
)

// Action is what to do with a transaction.
type Action string

// The actions.
const (
	Pass  Action = "pass"
	Alert Action = "alert"
	Block Action = "block"
)

// Verdict is the answer about one transaction.
type Verdict struct {
	Action  Action   `json:"verdict"`
	Score   int      `json:"score"` // 0 to 100
	Reasons []Reason `json:"reasons"`
}

// Reason is one thing that speaks against a transaction.
type Reason struct {
	Rule    string `json:"rule"` // of the detectors, or crs-NNNNNN
	Class   string `json:"class"`
	Score   int    `json:"score"`
	Place   string `json:"place,omitempty"` // query, form, header …
	Name    string `json:"name,omitempty"`  // of the parameter or header
	Message string `json:"message"`
}

// Second is an opinion on what the first look leaves open.
type Second interface {
	// Ask returns the rules that fired and the sum of their weights, 5 for each that is critical.
	Ask(r *message.Request) (rules []string, weight int)
}

// Engine inspects transactions. It may be used by many goroutines at once.
type Engine struct {
	model  *model.Model
	second Second
	own    bool
	block  int
	alert  int
	work   sync.Pool
}

// Options say what an engine is made of; the zero value is the default.
type Options struct {
	Model  *model.Model // nil: the one that comes with the program
	Second Second       // nil: none
	Own    bool         // Second has rules that people wrote themselves: it is asked about everything
	Block  int          // the score from which a transaction is refused; 0: 70
	Alert  int          // the score from which it is reported; 0: 67
}

// New makes an engine.
func New(o Options) *Engine {
	e := &Engine{model: o.Model, second: o.Second, own: o.Own, block: o.Block, alert: o.Alert}
	if e.model == nil {
		e.model = model.Default()
	}
	if e.block == 0 {
		e.block = 70
	}
	if e.alert == 0 {
		e.alert = 67
	}
	e.work.New = func() any { return new(inspection) }
	return e
}

// Inspect judges the request in raw.
func (e *Engine) Inspect(raw []byte) Verdict { return e.Judge(message.Parse(raw)) }

// Judge judges a request that was read already.
func (e *Engine) Judge(r *message.Request) Verdict {
	in := e.work.Get().(*inspection)
	in.begin(e, r)
	in.run()
	v := in.verdict()
	in.end()
	e.work.Put(in)
	return v
}

// ActionAt is what follows from a score.
func (e *Engine) ActionAt(score int) Action {
	switch {
	case score >= e.block:
		return Block
	case score >= e.alert:
		return Alert
	}
	return Pass
}

const maxReasons = 8 // of one verdict: enough to understand it

// inspection is the work on one request. It is used again, so that inspecting grows nothing.
type inspection struct {
	e        *Engine
	r        *message.Request
	fields   []message.Field
	forms    []string
	features detect.Features
	score    int
	odd      bool   // the Core Rule Set is to look at the request's manners
	known    string // and at a name in it that it may know: what its rules about such names begin with
	reasons  []Reason
	see      func(*message.Field, *detect.Text, []detect.Hit) // instead of judging
}

func (in *inspection) begin(e *Engine, r *message.Request) {
	in.e, in.r, in.score, in.reasons, in.odd, in.known = e, r, 0, nil, false, ""
}

func (in *inspection) end() {
	clear(in.fields)
	clear(in.forms[:cap(in.forms)])
	in.e, in.r, in.fields, in.forms = nil, nil, in.fields[:0], in.forms[:0]
}

func (in *inspection) run() {
	in.fields = in.r.AppendFields(in.fields[:0])
	for i := range in.fields {
		in.field(&in.fields[i])
	}
	in.manners()
	for _, a := range in.r.Anomalies {
		in.reason(Reason{Rule: a.ID, Class: string(detect.Anomaly), Score: a.Score, Message: a.Detail})
	}
	if in.second() {
		in.askSecond()
	}
}

// second says whether the first look left the question open.
func (in *inspection) second() bool {
	if in.e.second == nil {
		return false
	}
	return in.e.own || in.score < in.e.block && (in.score >= likelyFrom || in.odd || in.known != "")
}

const (
	openFrom   = 50  // the score from which a reason is kept
	likelyFrom = 67  // the score from which a value is so likely an attack that one critical rule decides
	agreed     = 75  // the score where both looks agree
	maxKnown   = 120 // of a value with a known name: in a text the name means nothing
)

// askSecond raises the score where the rules confirm what the first look suspected: a value that was likely an
// attack, a manner that is odd, a name that is known.
func (in *inspection) askSecond() {
	rules, weight := in.e.second.Ask(in.r)
	confirmed := in.score >= likelyFrom && slices.ContainsFunc(rules, ofValues)
	for _, id := range rules {
		switch {
		case len(id) > 6:
			in.reason(Reason{Rule: "crs-" + id, Class: "own-rule", Score: certain, Message: "a rule of your own"})
		case confirmed, weight >= 5 && in.isKnown(id) && !general[id], in.odd && weight >= 3 && ofManners(id):
			in.reason(Reason{Rule: "crs-" + id, Class: "core-rule-set", Score: agreed, Message: "a rule of the OWASP Core Rule Set"})
		}
	}
}

// knows remembers a name of a kind.
func (in *inspection) knows(hits []detect.Hit) {
	for _, h := range hits {
		if h.Class == detect.Known {
			in.known += ofKind[h.Rule]
		}
	}
}

// ofKind are the beginnings of the rules about names of a kind.
var ofKind = map[string]string{"known-java": "944 ", "known-sql": "942 ", "known-host": "934 ", "known-command": "932 ", "known-script": "941 934 ", "known-scheme": "931 "}

// ofValues says whether a rule is about what values mean, and says more than that there are words and signs.
func ofValues(id string) bool { return len(id) == 6 && id >= "930000" && !general[id] }

// general are rules about signs and words that prose has too, whatever name is beside them: $(, exec (.
var general = map[string]bool{"932130": true, "932235": true, "932230": true, "941160": true, "942100": true, "942151": true, "942190": true, "942230": true, "942290": true}

func (in *inspection) isKnown(rule string) bool { return strings.Contains(in.known, rule[:3]) }

// ofManners says whether a rule is about the request itself, its files or sessions, not about what values mean.
func ofManners(id string) bool {
	switch id[:3] {
	case "913", "920", "921", "922", "930", "931", "933", "943":
		return !honestToo[id]
	}
	return false
}

// honestToo are rules that fire on what honest clients do: an address as Host, no Accept, no length, no type
// or one that this engine knows and they do not.
var honestToo = map[string]bool{"920350": true, "920320": true, "920330": true, "920300": true, "920310": true, "920180": true, "920340": true, "920341": true, "920420": true}

func (in *inspection) reason(r Reason) {
	in.score = max(in.score, r.Score)
	if r.Score < openFrom {
		return
	}
	in.reasons = append(in.reasons, r)
	if len(in.reasons) > 4*maxReasons {
		in.sortReasons()
		in.reasons = in.reasons[:maxReasons]
	}
}

func (in *inspection) sortReasons() {
	slices.SortStableFunc(in.reasons, func(a, b Reason) int { return b.Score - a.Score })
}

func (in *inspection) verdict() Verdict {
	v := Verdict{Action: in.e.ActionAt(in.score), Score: in.score, Reasons: []Reason{}}
	if v.Action == Pass {
		return v
	}
	in.sortReasons()
	v.Reasons = append(v.Reasons, in.reasons[:min(len(in.reasons), maxReasons)]...)
	return v
}

// field judges one value in all its forms.
func (in *inspection) field(f *message.Field) {
	where := whereOf(f)
	if where == detect.Header && usualHeader(f) {
		return
	}
	value := f.Value
	if where == detect.Key && message.PlainName(value) {
		in.knows(detect.KnownName(value))
		return
	}
	if where == detect.URL {
		in.path(f)
		return
	}
	if detect.Plain(value) && (!f.Encoded || strings.IndexByte(value, '+') < 0) && !packed(value) {
		return
	}
	in.forms = decode.Forms(in.forms[:0], value, f.Encoded)
	if in.inside(f, in.forms[0]) {
		return
	}
	for _, form := range in.forms {
		in.form(f, form, where)
	}
}

// inside judges the strings of a value that is JSON.
func (in *inspection) inside(f *message.Field, value string) bool {
	if f.Place == message.File || f.Place == message.Name || f.Place == message.Head && !strings.HasPrefix(value, "{") {
		return false
	}
	fields, ok := in.r.Inside(f, value)
	if !ok {
		return false
	}
	forms := in.forms // the inner values need their own
	for i := range fields {
		in.forms = nil
		in.field(&fields[i])
	}
	in.forms = forms
	return true
}

// packed says whether a plain value is long enough to hold another in base64 or hexadecimal.
func packed(s string) bool { return len(s) >= 8 && strings.IndexByte(s, ' ') < 0 }

// path judges the path as a whole, and each of its segments as the parameter that it may be.
func (in *inspection) path(f *message.Field) {
	in.packedPath(f)
	if len(f.Value) > 0 && detect.Plain(f.Value[1:]) && f.Value[0] == '/' {
		return
	}
	in.forms = decode.Forms(in.forms[:0], strings.ReplaceAll(f.Value, "+", "%2b"), true)
	for _, form := range in.forms {
		if form == "" || form == "/" || form == "*" || form[0] == '/' && detect.Plain(form[1:]) {
			continue
		}
		in.form(f, form, detect.URL)
		in.segments(f, form)
	}
}

// packedPath judges what a path, or a segment of it, holds in base64: it may have slashes of its own.
func (in *inspection) packedPath(f *message.Field) {
	whole := strings.TrimPrefix(f.Value, "/")
	for n, s := 0, whole; packed(s) && n < maxSegments; n++ {
		in.forms = decode.Forms(in.forms[:0], s, true)
		for _, form := range in.forms[1:] {
			in.form(f, form, detect.Value)
		}
		i := strings.IndexByte(s, '/')
		if i < 0 {
			return
		}
		s = s[i+1:]
	}
}

const maxSegments = 16

func (in *inspection) segments(f *message.Field, path string) {
	n := 0
	for s := range strings.SplitSeq(path, "/") {
		if n++; n > maxSegments {
			return
		}
		if len(s) > 2 && !detect.Plain(s) {
			in.form(f, s, detect.Value)
		}
	}
}

// form judges one form of a value.
func (in *inspection) form(f *message.Field, s string, where detect.Where) {
	for len(s) > maxPiece {
		in.piece(f, s[:maxPiece], where)
		s = s[maxPiece-pieceOverlap:]
	}
	in.piece(f, s, where)
}

// A long text is judged in pieces, so that no amount of honest words around an attack outvotes it.
const (
	maxPiece     = 6 << 10 // the model reads 2,000 words and signs of a piece
	pieceOverlap = 512
)

func (in *inspection) piece(f *message.Field, s string, where detect.Where) {
	if s == "" || detect.Plain(s) {
		return
	}
	t := detect.Scan(s, where)
	hits := detect.Find(t)
	if in.see != nil {
		in.see(f, t, hits)
		return
	}
	score, rule, class := in.weigh(t, hits)
	if where == detect.Contents && class == detect.Learned {
		return
	}
	if score >= openFrom {
		in.reason(Reason{Rule: rule, Class: string(class), Score: score, Place: f.Place.String(), Name: f.Name, Message: excerpt(f, s)})
	}
}

// certain is the score from which a detector needs no model to agree.
const certain = 90

// weigh joins what detectors and the model say into one score, and names what weighs most.
func (in *inspection) weigh(t *detect.Text, hits []detect.Hit) (score int, rule string, class detect.Class) {
	best := detect.Hit{Class: detect.Learned, Rule: "model"}
	if len(t.Raw) < maxKnown {
		in.knows(hits)
	}
	for _, h := range hits {
		if h.Class != detect.Known && h.Score > best.Score {
			best = h
		}
	}
	if t.Where == detect.Contents || t.Where == detect.Agent {
		return best.Score, best.Rule, best.Class
	}
	t.Features(&in.features, hits)
	learned := in.learned()
	switch {
	case t.Where == detect.Key && best.Score >= openFrom: // a name is no text that could be honest about attacks
		return max(best.Score, learned), best.Rule, best.Class
	case best.Score >= certain && learned >= vetoFor(t):
		return max(best.Score, learned), best.Rule, best.Class
	case best.Score >= certain: // code within honest text, says the model
		return max(learned, doubted), best.Rule, best.Class
	case best.Score == 0 && t.Ordinary(): // a word that a detector knows, and nothing that it did with it
		return min(learned, doubted), best.Rule, best.Class
	case best.Score == 0:
		return learned - 8, best.Rule, best.Class // no grammar at all: more doubt
	}
	return learned, best.Rule, best.Class
}

// vetoBelow is the score of the model under which it overrules a detector that is certain.
const (
	vetoBelow = 46
	doubted   = 55

	longText   = 300
	vetoInText = 62
)

// vetoFor is vetoBelow, and more within a text of many lines: those are documents, and an attack in one makes the
// window that it is in look like one.
func vetoFor(t *detect.Text) int {
	if len(t.Raw) > longText && strings.IndexByte(t.Raw, '\n') >= 0 {
		return vetoInText
	}
	return vetoBelow
}

// learned is the model's score, 70 at its threshold.
func (in *inspection) learned() int {
	above := in.e.model.Score(&in.features) - in.e.model.Threshold
	return max(0, min(100, 70+int(6*above)))
}

const shownExcerpt = 96

func excerpt(f *message.Field, s string) string {
	if isSecret(f) {
		return fmt.Sprintf("a value of %d bytes that is not shown", len(s))
	}
	if len(s) > shownExcerpt {
		return strings.ToValidUTF8(s[:shownExcerpt], "�") + "…"
	}
	return strings.ToValidUTF8(s, "�")
}
