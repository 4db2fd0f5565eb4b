package intercept

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// drained is what is read after an answer that ends the connection.
const drained = 256 << 10

// serve1 answers the requests of one HTTP/1 connection, one after the other.
func (p *Proxy) serve1(ctx context.Context, c net.Conn, br *bufio.Reader, to *way) {
	for first := true; ; first = false {
		wait := p.o.Limits.Idle
		if first {
			wait = p.o.Limits.HeadTime
		}
		_ = c.SetReadDeadline(time.Now().Add(wait))
		if _, err := br.Peek(1); err != nil {
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(p.o.Limits.HeadTime))
		head, err := peekHead(br, p.o.Limits.Head)
		if err != nil {
			if errors.Is(err, bufio.ErrBufferFull) {
				p.refuse1(c, http.StatusRequestHeaderFieldsTooLarge, "the headers are too long\n")
			}
			return
		}
		if !p.request1(ctx, c, br, head, to) {
			return
		}
	}
}

// peekHead returns the bytes up to the empty line, and leaves them in br.
func peekHead(br *bufio.Reader, limit int) (string, error) {
	for n := 1; ; n = br.Buffered() + 1 {
		if n > limit {
			return "", bufio.ErrBufferFull
		}
		if _, err := br.Peek(n); err != nil {
			return "", err
		}
		b, _ := br.Peek(br.Buffered())
		if end := headEnd(b); end > 0 {
			return string(b[:end]), nil
		}
	}
}

// headEnd is behind the first empty line, 0 where there is none. Lines may end in LF alone.
func headEnd(b []byte) int {
	for i := 0; ; {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return 0
		}
		i += n + 1
		rest := b[i:]
		switch {
		case len(rest) > 0 && rest[0] == '\n':
			return i + 1
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return i + 2
		}
	}
}

// request1 answers one request, and says whether another may follow.
func (p *Proxy) request1(ctx context.Context, c net.Conn, br *bufio.Reader, head string, to *way) bool {
	req, err := http.ReadRequest(br)
	if err != nil {
		p.refuse1(c, http.StatusBadRequest, "this is no request\n")
		return false
	}
	req = req.WithContext(ctx)
	req.RemoteAddr = c.RemoteAddr().String()
	stalled := &stallReader{c: c, r: req.Body, wait: p.o.Limits.Stall}
	if strings.EqualFold(req.Header.Get("Expect"), "100-continue") && req.ProtoAtLeast(1, 1) {
		stalled.before = func() { _, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n") }
	}
	j := p.judge(req, head, stalled)
	defer j.end()
	if r := j.refused.Load(); r != nil {
		p.refuse1(c, r.status, r.text(), "Content-Type", r.kind(), requestID, j.id)
		return false
	}
	defer j.depart(to)()
	resp, err := to.transport.RoundTrip(p.outgoing(req, j, to))
	if err != nil {
		if r := j.refused.Load(); r != nil { // found while the body went by
			p.refuse1(c, r.status, r.text(), "Content-Type", r.kind(), requestID, j.id)
			return false
		}
		p.o.Log.Debug("application did not answer", "request", j.id, "error", err)
		p.refuse1(c, http.StatusBadGateway, "the application did not answer\n", requestID, j.id)
		return false
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		tunnel(c, br, resp)
		return false
	}
	return p.respond1(c, req, resp) && j.read()
}

// respond1 writes the answer, each piece as soon as it is there.
func (p *Proxy) respond1(c net.Conn, req *http.Request, resp *http.Response) bool {
	keep := !req.Close && req.ProtoAtLeast(1, 1) && p.policy.Load().Mode != Off
	removeHops(resp.Header)
	if resp.ContentLength < 0 && req.Method != http.MethodHead {
		if req.ProtoAtLeast(1, 1) {
			resp.TransferEncoding = []string{"chunked"}
		}
	}
	resp.ProtoMajor, resp.ProtoMinor, resp.Close = 1, req.ProtoMinor, !keep
	out := bufio.NewWriterSize(deadlined{c, p.o.Limits.Stall}, 16<<10)
	if resp.Body != http.NoBody {
		resp.Body = &flushing{resp.Body, out}
	}
	only := struct{ io.Writer }{out} // its ReadFrom would read into the buffer that the body's Read flushes
	return resp.Write(only) == nil && out.Flush() == nil && keep
}

func (p *Proxy) refuse1(c net.Conn, status int, text string, headers ...string) {
	resp := &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Close: true, ContentLength: int64(len(text)), Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text))}
	for i := 0; i+1 < len(headers); i += 2 {
		resp.Header.Set(headers[i], headers[i+1])
	}
	_ = c.SetWriteDeadline(time.Now().Add(p.o.Limits.HeadTime))
	_ = resp.Write(c)
	if t, ok := c.(*net.TCPConn); ok { // what the client still sends must not reset the answer away
		_ = t.CloseWrite()
		_ = t.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		_, _ = io.Copy(io.Discard, io.LimitReader(t, drained))
	}
}

// hops are headers of one connection (RFC 9110 §7.6.1).
var hops = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect"}

func removeHops(h http.Header) {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range hops {
		h.Del(name)
	}
}

// outgoing is the request as the application gets it.
func (p *Proxy) outgoing(req *http.Request, j *judgement, to *way) *http.Request {
	out := req.Clone(req.Context())
	upgrade := ""
	if headerHas(req.Header["Connection"], "upgrade") {
		upgrade = req.Header.Get("Upgrade")
	}
	trailers := headerHas(req.Header["Te"], "trailers")
	removeHops(out.Header)
	if upgrade != "" {
		out.Header.Set("Connection", "Upgrade")
		out.Header.Set("Upgrade", upgrade)
	}
	if trailers { // gRPC wants it
		out.Header.Set("Te", "trailers")
	}
	out.URL.Scheme, out.URL.Host, out.RequestURI, out.Close = to.scheme(), to.upstream.Host, "", false
	out.Body = j.body
	if p.dial == nil { // inline the application sees it
		before := out.Header.Values("X-Forwarded-For")
		out.Header.Set("X-Forwarded-For", strings.Join(append(before, hostOf(req.RemoteAddr)), ", "))
	}
	out.Header.Set(requestID, j.id)
	if _, set := out.Header["User-Agent"]; !set {
		out.Header["User-Agent"] = nil // none was sent, none is added
	}
	return out
}

func (w *way) scheme() string {
	if w.upstream.Scheme == "https" {
		return "https"
	}
	return "http"
}

func headerHas(list []string, word string) bool {
	for _, v := range list {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), word) {
				return true
			}
		}
	}
	return false
}

// tunnel carries what follows an upgrade, such as the frames of a WebSocket, both ways.
func tunnel(c net.Conn, br *bufio.Reader, resp *http.Response) {
	up, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		return
	}
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = resp.Header.Write(&b)
	b.WriteString("\r\n")
	if _, err := c.Write(b.Bytes()); err != nil {
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(up, br)
		_ = up.Close()
		close(done)
	}()
	_, _ = io.Copy(c, up)
	_ = c.Close()
	<-done
}

// stallReader ends a body that stops coming.
type stallReader struct {
	c      net.Conn
	r      io.ReadCloser
	wait   time.Duration
	before func() // once, before the first byte is asked for
}

func (s *stallReader) Read(b []byte) (int, error) {
	if s.before != nil {
		s.before()
		s.before = nil
	}
	_ = s.c.SetReadDeadline(time.Now().Add(s.wait))
	return s.r.Read(b)
}

func (s *stallReader) Close() error { return nil } // a body that was not read to its end ends the connection

// flushing sends what was written before it waits for more.
type flushing struct {
	io.ReadCloser
	out *bufio.Writer
}

func (f *flushing) Read(b []byte) (int, error) {
	if f.out.Buffered() > 0 {
		if err := f.out.Flush(); err != nil {
			return 0, err
		}
	}
	return f.ReadCloser.Read(b)
}

// deadlined gives each piece of an answer its time: a client that does not read holds nothing for ever.
type deadlined struct {
	net.Conn
	wait time.Duration
}

func (d deadlined) Write(b []byte) (int, error) {
	_ = d.SetWriteDeadline(time.Now().Add(d.wait))
	return d.Conn.Write(b)
}
