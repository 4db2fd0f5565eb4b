package intercept

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"bulkhead/waf"
	"bulkhead/waf/message"
)

// requestID names a request to the application and to a client that is refused.
const requestID = "Bulkhead-Request-Id"

// Event is what happened to one request that was not simply passed.
type Event struct {
	ID      string       `json:"id"`
	Time    time.Time    `json:"time"`
	Action  string       `json:"action"` // blocked or detected
	Mode    Mode         `json:"mode"`
	Client  string       `json:"client"`
	Method  string       `json:"method"`
	Host    string       `json:"host"`
	Path    string       `json:"path"` // without its query, which may hold secrets
	Verdict waf.Action   `json:"verdict"`
	Score   int          `json:"score"`
	Reasons []waf.Reason `json:"reasons"`

	Place    string `json:"place,omitempty"` // where it was seen; empty: in the path
	Endpoint string `json:"endpoint"`        // the path with its values replaced by what they are
	Request  []byte `json:"-"`               // without its secrets
	Cut      bool   `json:"-"`               // not all of it is in Request
	Later    bool   `json:"-"`               // it is about what came of the body after the request was sent on
}

// judgement is what was decided about a request, and the body to send on.
type judgement struct {
	id      string
	body    io.ReadCloser
	refused atomic.Pointer[refusal] // also while the body goes by
	pump    *pump
	passing *passing
	flight  *flight // inline: what it does in the application may be asked for
}

// depart is called before the request goes to the application, and what it returns after the answer has come back.
func (j *judgement) depart(to *way) (back func()) {
	if j.flight == nil {
		return func() {}
	}
	j.flight.way.Store(to)
	return j.flight.end
}

// end lets go of what reads the body.
func (j *judgement) end() {
	if j.pump != nil {
		close(j.pump.stop)
	}
}

// read says whether the body was read to its end.
func (j *judgement) read() bool { return j.passing == nil || j.passing.done.Load() }

// passingBy is a body that is not looked at.
func passingBy(body io.ReadCloser) io.ReadCloser {
	if body == nil {
		return http.NoBody
	}
	return io.NopCloser(body) // closing it is the connection's business
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

// cutFrom is the score from which a body that is under way is cut: only what no context can excuse.
const cutFrom = 90

// judge decides about a request by its head and the first window of its body. What follows of the body is judged as it
// goes by.
func (p *Proxy) judge(req *http.Request, head string, body io.ReadCloser) *judgement {
	j := &judgement{id: newID(), body: http.NoBody}
	p.requests.Add(1)
	pol := p.policy.Load()
	if pol.Mode == Off {
		j.body = passingBy(body)
		return j
	}
	if why := twoMeanings(head); why != "" {
		j.refused.Store(&refusal{status: http.StatusBadRequest, why: "the request can be understood in two ways", id: j.id, req: req})
		p.tell(req, j.id, waf.Verdict{Action: waf.Block, Score: 100, Reasons: []waf.Reason{{Rule: why, Class: "protocol", Score: 100, Message: "refused in every mode: servers understand it differently"}}}, "blocked", []byte(head), false)
		return j
	}
	window, whole, rest := p.window(req, body)
	j.pump, _ = rest.(*pump)
	raw := transaction(head, req, window)
	r := message.Parse(raw)
	v := pol.patch(pol.except(p.o.Engine, p.o.Engine.Judge(r), req.URL.Path), r, req.Method, req.URL.Path)
	v = pol.compare(r, hostOf(req.RemoteAddr), req.URL.Path, v)
	if v.Action == waf.Block && pol.Mode == Block {
		j.refused.Store(&refusal{status: http.StatusForbidden, why: "the request was refused", id: j.id, req: req})
		p.tell(req, j.id, v, "blocked", raw, false)
		return j
	}
	if v.Action != waf.Pass {
		p.tell(req, j.id, v, "detected", raw, false)
	}
	if p.dial != nil {
		j.flight = p.begin(r, req.URL.Path, hostOf(req.RemoteAddr), j.id, req.Method, v.Score)
	}
	switch {
	case whole && len(window) == 0:
	case whole:
		j.body = io.NopCloser(bytes.NewReader(window))
	default:
		j.passing = &passing{p: p, req: req, j: j, held: window, from: rest, carry: tail(window)}
		j.body = j.passing
	}
	return j
}

// ambiguous are anomalies after which servers disagree where the request ends or whom it is for.
var ambiguous = map[string]bool{"bad-content-length": true, "many-content-lengths": true, "length-and-chunked": true, "many-transfer-encodings": true, "bad-transfer-encoding": true, "disguised-framing": true, "many-hosts": true, "space-before-colon": true, "folded-first-header": true, "chunked-in-1.0": true, "bad-method": true, "bad-version": true}

// twoMeanings names what makes a head ambiguous, or is empty.
func twoMeanings(head string) string {
	for _, a := range message.Parse([]byte(head)).Anomalies {
		if ambiguous[a.ID] || a.ID == "folded-header" && a.Score >= 80 {
			return a.ID
		}
	}
	return ""
}

// transaction is the request as the engine reads it. The body has no transfer encoding any more.
func transaction(head string, req *http.Request, body []byte) []byte {
	if len(req.TransferEncoding) > 0 {
		head = withoutChunked(head)
	}
	return append([]byte(head), body...)
}

func withoutChunked(head string) string {
	var b strings.Builder
	for line := range strings.SplitAfterSeq(head, "\n") {
		if len(line) < 18 || !strings.EqualFold(line[:18], "transfer-encoding:") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// tell hands on what was decided, and the request without its secrets.
func (p *Proxy) tell(req *http.Request, id string, v waf.Verdict, action string, raw []byte, later bool) {
	if p.tap {
		action = "detected"
	}
	if action == "blocked" {
		p.blocked.Add(1)
	} else {
		p.detected.Add(1)
	}
	if p.o.Tell == nil {
		return
	}
	pol := p.policy.Load()
	kept, cut := waf.Redact(raw, keptRequest)
	p.o.Tell(Event{
		ID: id, Time: time.Now().UTC(), Action: action, Mode: pol.Mode, Client: req.RemoteAddr, Method: req.Method, Host: req.Host, Path: req.URL.EscapedPath(),
		Place: map[bool]string{true: "tap"}[p.tap], Endpoint: pol.endpoint(req.URL.EscapedPath()), Verdict: v.Action, Score: v.Score, Reasons: v.Reasons, Request: kept, Cut: cut || later, Later: later,
	})
}

// keptRequest is how much of a request is told: an event has to stay small.
const keptRequest = 8 << 10

func newID() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// window reads the beginning of a body: all of one that is announced to fit, else what comes before the window is
// full or the time to hold is over. A stream is not held at all.
func (p *Proxy) window(req *http.Request, body io.ReadCloser) (window []byte, whole bool, rest io.Reader) {
	switch {
	case body == nil || req.ContentLength == 0:
		return nil, true, nil
	case streams(req):
		return nil, false, body
	case req.ContentLength > 0 && req.ContentLength <= int64(p.o.Limits.Window):
		window = make([]byte, req.ContentLength)
		n, err := io.ReadFull(body, window)
		if err != nil { // the application is told that it did not arrive whole
			return window[:n], false, broken{err}
		}
		return window, true, nil
	}
	return newPump(body).hold(p.o.Limits.Window, p.o.Limits.Hold)
}

// streams are bodies whose sender waits for answers before it goes on.
func streams(req *http.Request) bool {
	return strings.HasPrefix(req.Header.Get("Content-Type"), "application/grpc") || headerHas(req.Header["Connection"], "upgrade")
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) {
	if errors.Is(b.err, io.EOF) {
		return 0, io.ErrUnexpectedEOF
	}
	return 0, b.err
}

// overlap is what of one piece is judged with the next again: an attack may lie across.
const overlap = 512

func tail(b []byte) []byte { return append([]byte{}, b[max(0, len(b)-overlap):]...) }

// passing is a body longer than its window, or a stream: what was held, then piece by piece, each judged before it is
// sent on.
type passing struct {
	p     *Proxy
	req   *http.Request
	j     *judgement
	held  []byte
	from  io.Reader
	carry []byte
	seen  int
	done  atomic.Bool
}

const maxSeen = 8 << 20 // of a body that is judged while it goes by: the rest is a file

var errRefused = errors.New("the rest of the request was refused")

func (b *passing) Read(to []byte) (int, error) {
	if len(b.held) > 0 {
		n := copy(to, b.held)
		b.held = b.held[n:]
		return n, nil
	}
	n, err := b.from.Read(to)
	if err == io.EOF {
		b.done.Store(true)
	}
	if n > 0 && b.seen < maxSeen {
		b.seen += n
		if b.refuses(to[:n]) {
			return 0, errRefused
		}
	}
	return n, err
}

func (b *passing) Close() error { return nil } // the connection's business

func (b *passing) refuses(piece []byte) bool {
	text := append(b.carry, piece...)
	pol, raw := b.p.policy.Load(), transaction(pieceHead(b.req), b.req, text)
	v := pol.except(b.p.o.Engine, b.p.o.Engine.Inspect(raw), b.req.URL.Path)
	b.carry = tail(text)
	if v.Score < cutFrom {
		return false
	}
	if pol.Mode != Block {
		b.p.tell(b.req, b.j.id, v, "detected", raw, true)
		return false
	}
	b.j.refused.Store(&refusal{status: http.StatusForbidden, why: "the request was refused", id: b.j.id, req: b.req})
	b.p.tell(b.req, b.j.id, v, "blocked", raw, true)
	return true
}

// pieceHead says of a piece what kind it is: the head itself was judged already.
func pieceHead(req *http.Request) string {
	kind := req.Header.Get("Content-Type")
	if kind == "" || strings.HasPrefix(kind, "multipart/") || strings.Contains(kind, "json") || strings.Contains(kind, "xml") {
		kind = "text/plain" // a piece is none of these
	}
	return "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: " + kind + "\r\n\r\n"
}

// refusal is the answer to a request that is not forwarded.
type refusal struct {
	status int
	why    string
	id     string
	req    *http.Request
}

func (r *refusal) json() bool {
	return strings.Contains(r.req.Header.Get("Accept"), "json") || strings.Contains(r.req.Header.Get("Content-Type"), "json")
}

func (r *refusal) kind() string {
	if r.json() {
		return "application/json"
	}
	return "text/plain; charset=utf-8"
}

func (r *refusal) text() string {
	if !r.json() {
		return r.why + "; its id is " + r.id + "\n"
	}
	b, _ := json.Marshal(map[string]string{"error": r.why, "id": r.id}) // strings
	return string(b) + "\n"
}

func (r *refusal) write(w http.ResponseWriter, req *http.Request, id string) {
	w.Header().Set(requestID, id)
	if strings.HasPrefix(req.Header.Get("Content-Type"), "application/grpc") { // its clients read a status of their own
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "7")
		w.Header().Set("Grpc-Message", r.why+"; its id is "+id)
		w.WriteHeader(http.StatusOK)
		return
	}
	w.Header().Set("Content-Type", r.kind())
	w.WriteHeader(r.status)
	_, _ = io.WriteString(w, r.text())
}
