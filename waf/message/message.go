// Package message reads one HTTP/1 request from bytes, as a server that forgives much would, and
// takes it apart into the values that an application behind it will see. Start with [Parse] and
// [Request.Fields].
//
// It promises an answer for every input: what is wrong in a request becomes an [Anomaly], never
// an error, and no input makes it work longer than in proportion to its length. It is not for
// judging values: that is waf/detect's.
package message

import (
	"strconv"
	"strings"
)

// Request is one request, taken apart as far as it could be.
type Request struct {
	Method, Target, Version string
	Path, Query             string // of Target, as they were sent
	Headers                 []Header
	Body                    string // without its transfer and content encodings
	Anomalies               []Anomaly

	contentType string
}

// Header is one field of the header section, in the order in which they were sent.
type Header struct{ Name, Value string }

// Anomaly is something that no honest client sends, or that servers understand differently.
type Anomaly struct {
	ID     string // stable, of lower-case words
	Detail string
	Score  int // from 0, curious, to 100, an attack by itself
}

const (
	maxHeaders   = 512       // Apache stops at 100 and Tomcat at 100; more is a flood
	maxBody      = 8 << 20   // the inspection window: what is longer is judged by its beginning, and says so
	maxTarget    = 64 << 10  // browsers and servers stop at 8 to 64 KiB
	maxHeader    = 128 << 10 // of all headers: Node stops at 16 KiB, Apache at 8 KiB a line
	shownAnomaly = 80
)

func (r *Request) anomaly(score int, id, detail string) {
	if len(r.Anomalies) >= 32 { // enough to refuse it
		return
	}
	if len(detail) > shownAnomaly {
		detail = detail[:shownAnomaly] + "…"
	}
	r.Anomalies = append(r.Anomalies, Anomaly{ID: id, Detail: detail, Score: score})
}

// Header returns the first value of a header.
func (r *Request) Header(name string) string {
	for i := range r.Headers {
		if strings.EqualFold(r.Headers[i].Name, name) {
			return r.Headers[i].Value
		}
	}
	return ""
}

// Values returns all values of a header.
func (r *Request) Values(name string) []string {
	var all []string
	for i := range r.Headers {
		if strings.EqualFold(r.Headers[i].Name, name) {
			all = append(all, r.Headers[i].Value)
		}
	}
	return all
}

// ContentType is the media type of the body in lower case, without parameters.
func (r *Request) ContentType() string { return r.contentType }

// Parse takes the request in raw apart. Lines may end in LF alone, Content-Length may be missing,
// and the end may be missing.
func Parse(raw []byte) *Request {
	r := &Request{}
	rest := r.readStart(string(raw))
	rest = r.readHeaders(rest)
	r.checkTarget()
	r.checkHeaders()
	r.contentType = mediaType(r.Header("Content-Type"))
	r.readBody(rest)
	return r
}

// line cuts the first line off, without its end.
func line(s string) (first, rest string, whole bool) {
	i := strings.IndexByte(s, '\n')
	if i < 0 {
		return strings.TrimSuffix(s, "\r"), "", false
	}
	return strings.TrimSuffix(s[:i], "\r"), s[i+1:], true
}

func (r *Request) readStart(s string) (rest string) {
	for len(s) > 0 && (s[0] == '\r' || s[0] == '\n') { // RFC 9112 §2.2: empty lines before are to be ignored
		s = s[1:]
	}
	first, rest, _ := line(s)
	if strings.TrimSpace(first) == "" {
		r.anomaly(60, "empty-request", "nothing that could be a request")
		return rest
	}
	r.splitStart(first)
	if hasControl(first) {
		r.anomaly(60, "control-character", "control character in the request line")
	}
	return rest
}

// splitStart allows spaces within the target, which a hand-written request often has.
func (r *Request) splitStart(first string) {
	method, after, found := strings.Cut(first, " ")
	r.Method = method
	if !isToken(method) {
		r.anomaly(70, "bad-method", "the method is not a word: "+method)
	}
	if !found {
		r.anomaly(60, "bad-request-line", "no target after the method")
		return
	}
	end := strings.LastIndexByte(after, ' ')
	if end >= 0 && strings.HasPrefix(after[end+1:], "HTTP/") {
		r.Target, r.Version = after[:end], after[end+1:]
	} else {
		r.Target = after
		r.anomaly(20, "no-version", "no HTTP version in the request line")
	}
	if strings.ContainsAny(strings.TrimSpace(r.Target), " \t") {
		r.anomaly(15, "space-in-target", "the target has a space that is not encoded")
	}
	r.Target = strings.TrimSpace(r.Target)
}

func (r *Request) checkTarget() {
	switch r.Version {
	case "HTTP/1.1", "HTTP/1.0", "HTTP/2", "HTTP/2.0", "HTTP/3", "HTTP/3.0", "":
	default:
		r.anomaly(60, "bad-version", "no such version: "+r.Version)
	}
	target := r.Target
	if len(target) > maxTarget {
		r.anomaly(50, "long-target", "a target of "+strconv.Itoa(len(target))+" bytes")
	}
	if i := strings.Index(target, "://"); i > 0 && i < 12 { // absolute form
		after := target[i+3:]
		if slash := strings.IndexAny(after, "/?"); slash >= 0 {
			target = after[slash:]
		} else {
			target = "/"
		}
	}
	target, _, _ = strings.Cut(target, "#")
	r.Path, r.Query, _ = strings.Cut(target, "?")
}

func (r *Request) readHeaders(s string) (rest string) {
	size := 0
	for s != "" {
		first, after, whole := line(s)
		if first == "" {
			return after
		}
		if size += len(first); size > maxHeader || len(r.Headers) >= maxHeaders {
			r.anomaly(60, "header-flood", "more headers than a server takes")
			return afterHeaders(s)
		}
		s = after
		r.addHeader(first, whole)
	}
	return ""
}

func afterHeaders(s string) string {
	for _, end := range []string{"\r\n\r\n", "\n\n"} {
		if i := strings.Index(s, end); i >= 0 {
			return s[i+len(end):]
		}
	}
	return ""
}

func (r *Request) addHeader(text string, whole bool) {
	if text[0] == ' ' || text[0] == '\t' {
		r.fold(text)
		return
	}
	name, value, found := strings.Cut(text, ":")
	if !found {
		if whole { // the last line of a request that was cut off is none
			r.anomaly(50, "header-without-colon", text)
		}
		return
	}
	trimmed := strings.TrimRight(name, " \t")
	switch {
	case trimmed != name:
		r.anomaly(70, "space-before-colon", "servers disagree whether this is a header: "+text)
	case !isToken(name):
		r.anomaly(50, "bad-header-name", text)
	}
	value = strings.Trim(value, " \t")
	if hasControl(value) {
		r.anomaly(60, "control-character", "control character in header "+trimmed)
	}
	r.Headers = append(r.Headers, Header{Name: trimmed, Value: value})
}

// fold joins a continuation line, as old servers do and new ones refuse.
func (r *Request) fold(text string) {
	if len(r.Headers) == 0 {
		r.anomaly(60, "folded-first-header", text)
		return
	}
	last := &r.Headers[len(r.Headers)-1]
	last.Value += " " + strings.TrimSpace(text)
	score := 30
	if strings.EqualFold(last.Name, "Transfer-Encoding") || strings.EqualFold(last.Name, "Content-Length") {
		score = 80
	}
	r.anomaly(score, "folded-header", last.Name)
}

func mediaType(v string) string {
	v, _, _ = strings.Cut(v, ";")
	return strings.ToLower(strings.TrimSpace(v))
}

// isToken says whether s can be a method or a header's name (RFC 9110 §5.6.2).
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !tokenByte[s[i]] {
			return false
		}
	}
	return s != ""
}

var tokenByte = func() (t [256]bool) {
	for c := range 256 {
		b := byte(c)
		t[c] = b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0 && b < 0x80
	}
	return t
}()

func hasControl(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 && s[i] != '\t' || s[i] == 0x7f {
			return true
		}
	}
	return false
}
