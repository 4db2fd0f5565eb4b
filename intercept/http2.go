package intercept

import (
	"bufio"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// second2 is one server for all listeners.
type second2 struct {
	http.Server
	start sync.Once
}

type wayKey struct{}

// server2 speaks HTTP/2, with bounds on what one connection may have open: a client that opens and resets streams
// waits for its own.
func (p *Proxy) server2() *second2 {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &second2{Server: http.Server{
		Handler: http.HandlerFunc(p.handle2), Protocols: protocols, IdleTimeout: p.o.Limits.Idle, MaxHeaderBytes: p.o.Limits.Head,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: p.o.Limits.Streams, MaxReceiveBufferPerConnection: 1 << 20, MaxReceiveBufferPerStream: 256 << 10},
		ErrorLog: log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if h, ok := c.(*peeked); ok {
				return context.WithValue(ctx, wayKey{}, h.to)
			}
			return ctx
		},
	}}
}

func (p *Proxy) serve2(ctx context.Context) {
	go func() {
		<-ctx.Done()
		_ = p.second.Close()
	}()
	_ = p.second.Serve(&handed{p.accepted, ctx})
}

// hand2 gives the connection to the HTTP/2 server, and returns when that is done with it.
func (p *Proxy) hand2(ctx context.Context, c net.Conn, br *bufio.Reader, to *way) {
	_ = c.SetReadDeadline(time.Time{})
	h := &peeked{Conn: c, br: br, to: to, closed: make(chan struct{})}
	select {
	case p.accepted <- h:
		<-h.closed
	case <-ctx.Done():
	}
}

// handed is a listener of connections that were accepted elsewhere.
type handed struct {
	conns chan net.Conn
	ctx   context.Context //nolint:containedctx // a listener has no other way to end
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.ctx.Done():
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error   { return nil }
func (h *handed) Addr() net.Addr { return &net.TCPAddr{} }

// peeked is a connection of which something was read already.
type peeked struct {
	net.Conn
	br     *bufio.Reader
	to     *way
	closed chan struct{}
	once   sync.Once
}

func (c *peeked) Read(b []byte) (int, error) { return c.br.Read(b) }

func (c *peeked) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.closed) })
	return err
}

func (p *Proxy) handle2(w http.ResponseWriter, req *http.Request) {
	j := p.judge(req, headOf(req), req.Body)
	defer j.end()
	if r := j.refused.Load(); r != nil {
		r.write(w, req, j.id)
		return
	}
	to, ok := req.Context().Value(wayKey{}).(*way)
	if !ok {
		to = &way{transport: p.transport, upstream: p.o.Upstream}
	}
	defer j.depart(to)()
	resp, err := to.transport.RoundTrip(p.outgoing(req, j, to))
	switch {
	case err != nil && j.refused.Load() != nil:
		j.refused.Load().write(w, req, j.id)
		return
	case err != nil:
		w.Header().Set(requestID, j.id)
		http.Error(w, "the application did not answer", http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	respond2(w, resp)
}

// respond2 copies an answer, each piece as soon as it is there, and its trailers.
func respond2(w http.ResponseWriter, resp *http.Response) {
	removeHops(resp.Header)
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	control := http.NewResponseController(w)
	b := make([]byte, 16<<10)
	for {
		n, err := resp.Body.Read(b)
		if n > 0 {
			if _, err := w.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil && err != io.EOF {
			panic(http.ErrAbortHandler) // the client must not take a part for the whole
		}
		if err == io.EOF {
			break
		}
		_ = control.Flush()
	}
	for name, values := range resp.Trailer {
		for _, v := range values {
			w.Header().Add(http.TrailerPrefix+name, v)
		}
	}
}

// headOf writes the head of an HTTP/2 request as HTTP/1 has it, so that both get the same verdict.
func headOf(req *http.Request) string {
	var b strings.Builder
	b.WriteString(req.Method + " " + req.RequestURI + " HTTP/2.0\r\nHost: " + req.Host + "\r\n")
	_ = req.Header.Write(&b)
	b.WriteString("\r\n")
	return b.String()
}
