// Package request makes of the beginnings of turns what an application is asked: which endpoint or statement, whether it failed,
// how long the answer took. Start with [Reader.Turn].
//
// It promises that nothing of what was asked leaves it but shapes: of a path the words that look like the program's own, of a
// statement everything but its literals. It reads the first bytes of each turn alone, of whoever says anything in them, so it
// counts and does not prove. It is not for whole requests: a firewall's parser reads those.
package request

import (
	"bytes"
	"strings"
	"time"
)

// The bounds of what is remembered.
const (
	maxConnections = 20_000
	maxStatements  = 64 // that a connection has prepared
	maxShape       = 160
)

// Turn is the beginning of what one side said.
type Turn struct {
	Connection uint64
	At         time.Duration // by a clock that only grows
	ByClient   bool
	Protocol   string // as it was recognised from the connection's first bytes: http, mysql, postgresql
	Said       []byte
}

// Exchange is a request that was answered.
type Exchange struct {
	Shape  string // "GET /orders/*", "SELECT * FROM orders WHERE id = ?"
	Result Result
	Took   time.Duration // from the request's first bytes to the answer's
}

// Result is how a request was answered.
type Result int

// The results.
const (
	Good     Result = iota
	Rejected        // the server says that the client is wrong: HTTP's 4xx
	Failed          // HTTP's 5xx, an error of a database
)

// protocol reads one kind of turns.
type protocol struct {
	shape  func(c *connection, said []byte) string
	result func(said []byte) (r Result, final bool)
}

// protocols that are read. To add one: add a line.
var protocols = map[string]protocol{
	"http":       {httpShape, httpResult},
	"mysql":      {mysqlShape, mysqlResult},
	"postgresql": {postgresShape, postgresResult},
}

// Reads reports whether a protocol's turns can be read.
func Reads(name string) bool { return protocols[name].shape != nil }

// Reader remembers what connections were asked last. It is for one caller at a time.
type Reader struct {
	connections map[uint64]*connection
}

type connection struct {
	asked    string // waits for its answer; empty: nothing does
	at       time.Duration
	prepared map[string]string // statements by their names
}

// New makes a reader.
func New() *Reader { return &Reader{connections: map[uint64]*connection{}} }

// Turn takes a turn, and returns the exchange that it ends.
func (r *Reader) Turn(t Turn) (Exchange, bool) {
	p := protocols[t.Protocol]
	if p.shape == nil {
		return Exchange{}, false
	}
	c := r.connections[t.Connection]
	if c == nil {
		if !t.ByClient {
			return Exchange{}, false
		}
		if len(r.connections) >= maxConnections {
			r.Forget(t.At - time.Second)
		}
		if len(r.connections) >= maxConnections {
			clear(r.connections)
		}
		c = &connection{}
		r.connections[t.Connection] = c
	}
	if t.ByClient {
		c.asked, c.at = cut(p.shape(c, t.Said)), t.At
		return Exchange{}, false
	}
	if c.asked == "" || t.At < c.at {
		return Exchange{}, false
	}
	result, final := p.result(t.Said)
	if !final {
		return Exchange{}, false
	}
	e := Exchange{c.asked, result, t.At - c.at}
	c.asked = ""
	return e, true
}

// Forget drops connections that were asked nothing since.
func (r *Reader) Forget(before time.Duration) {
	for id, c := range r.connections {
		if c.at < before {
			delete(r.connections, id)
		}
	}
}

func cut(shape string) string {
	if len(shape) <= maxShape {
		return shape
	}
	return strings.ToValidUTF8(shape[:maxShape-len("…")], "") + "…"
}

// httpShape is the method and the path. What of a path is not made of letters is taken for data.
func httpShape(_ *connection, said []byte) string {
	line, _, _ := bytes.Cut(said, []byte("\r\n"))
	method, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || !isMethod(method) {
		return ""
	}
	target, _, whole := bytes.Cut(rest, []byte(" "))
	if _, after, absolute := bytes.Cut(target, []byte("://")); absolute && len(target) > 0 && target[0] != '/' {
		at := bytes.IndexByte(after, '/')
		target = after[max(at, 0):]
		if at < 0 {
			target = []byte("/")
		}
	}
	target, _, asked := bytes.Cut(target, []byte("?"))
	return string(method) + " " + pathShape(target, whole || asked)
}

func isMethod(word []byte) bool {
	if len(word) < 3 || len(word) > 10 {
		return false
	}
	for _, c := range word {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}

const (
	maxSegments = 6
	maxSegment  = 24
)

// pathShape keeps the words of a path; whole says that its end was seen.
func pathShape(path []byte, whole bool) string {
	if len(path) == 0 || path[0] != '/' {
		return "*"
	}
	segments := bytes.Split(path[1:], []byte("/"))
	out := make([]byte, 0, maxShape)
	for i, s := range segments {
		out = append(out, '/')
		last := i == len(segments)-1
		switch {
		case i == maxSegments:
			return string(append(out, "…"...))
		case last && !whole, !isWord(s):
			out = append(out, '*')
		default:
			out = append(out, s...)
		}
	}
	return string(out)
}

// isWord reports whether a segment looks like the program's own: letters, and few of them; of digits the version of an API.
func isWord(s []byte) bool {
	if len(s) > maxSegment {
		return false
	}
	if len(s) > 1 && len(s) <= 3 && s[0] == 'v' {
		s = bytes.TrimLeft(s[1:], "0123456789")
	}
	for _, c := range s {
		if (c|0x20 < 'a' || c|0x20 > 'z') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func httpResult(said []byte) (Result, bool) {
	if len(said) < 12 || !bytes.HasPrefix(said, []byte("HTTP/1.")) || said[8] != ' ' {
		return Good, false
	}
	switch said[9] {
	case '1':
		return Good, said[10] == '0' && said[11] == '1' // the others come before the answer
	case '4':
		return Rejected, true
	case '5':
		return Failed, true
	}
	return Good, true
}
