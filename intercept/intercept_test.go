package intercept

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/waf"
	"bulkhead/waf/message"
	"bulkhead/waf/portrait"
)

// stand is a proxy before an application.
type stand struct {
	addr   string
	proxy  *Proxy
	lock   sync.Mutex
	events []Event
}

func (s *stand) told() []Event {
	s.lock.Lock()
	defer s.lock.Unlock()
	return append([]Event{}, s.events...)
}

func start(t *testing.T, app http.Handler, change func(*Options)) *stand {
	t.Helper()
	server := httptest.NewUnstartedServer(app)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	s := &stand{}
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Upstream: u, Engine: waf.New(waf.Options{}), Mode: Block, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Tell: func(e Event) {
		s.lock.Lock()
		defer s.lock.Unlock()
		s.events = append(s.events, e)
	}}
	if change != nil {
		change(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.proxy = p
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	s.addr = l.Addr().String()
	return s
}

// echo answers with what it got.
func echo(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("X-From", r.Header.Get("X-Forwarded-For"))
	fmt.Fprintf(w, "%s %s %s %s", r.Method, r.RequestURI, r.Host, b)
}

// dial sends raw bytes, and returns a reader of the answers.
func dial(t *testing.T, addr, raw string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

func answer(t *testing.T, r *bufio.Reader, method string) (status int, body string, header http.Header) {
	t.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestPasses(t *testing.T) {
	s := start(t, http.HandlerFunc(echo), nil)
	// one connection, pipelined: a query, a form, chunks, HEAD, an absolute address
	_, r := dial(t, s.addr, "GET /a%2Fb?x=%20y HTTP/1.1\r\nHost: app.example\r\n\r\n"+
		"POST /form HTTP/1.1\r\nHost: app.example\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nname=Anna"+
		"POST /chunks HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"+
		"HEAD /head HTTP/1.1\r\nHost: app.example\r\n\r\n"+
		"GET http://other.example/abs HTTP/1.1\r\nHost: app.example\r\n\r\n")
	for _, want := range []string{"GET /a%2Fb?x=%20y app.example ", "POST /form app.example name=Anna", "POST /chunks app.example abcde", "", "GET /abs other.example "} {
		method := "GET"
		if want == "" {
			method = "HEAD"
		}
		status, body, header := answer(t, r, method)
		if status != 200 || body != want || header.Get("X-From") != "127.0.0.1" {
			t.Errorf("status %d, body %q, from %q; want %q", status, body, header.Get("X-From"), want)
		}
	}
	if e := s.told(); len(e) > 0 {
		t.Errorf("told about honest requests: %v", e)
	}
}

func TestRefusesAndTellsWhy(t *testing.T) {
	s := start(t, http.HandlerFunc(echo), nil)
	_, r := dial(t, s.addr, "POST /login?token=hunter2 HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nCookie: sid=hunter3' or '1'='1\r\nAuthorization: Bearer hunter4\r\nContent-Length: 42\r\n\r\n"+`{"user":"1' or '1'='1","password":"hunt"}`+" ")
	status, body, header := answer(t, r, "POST")
	if status != http.StatusForbidden {
		t.Fatalf("status %d: %s", status, body)
	}
	events := s.told()
	if len(events) != 1 || events[0].Action != "blocked" || len(events[0].Reasons) == 0 {
		t.Fatalf("events %v", events)
	}
	if !strings.Contains(body, events[0].ID) || header.Get(requestID) != events[0].ID {
		t.Errorf("the client is shown %q, the event is %s", body, events[0].ID)
	}
	if text := fmt.Sprint(events); strings.Contains(text, "hunt") {
		t.Errorf("a secret is told: %s", text)
	}
}

func TestDetectOnlyTells(t *testing.T) {
	s := start(t, http.HandlerFunc(echo), func(o *Options) { o.Mode = Detect })
	_, r := dial(t, s.addr, "GET /?id=1%27+or+%271%27=%271 HTTP/1.1\r\nHost: a\r\n\r\n")
	if status, _, _ := answer(t, r, "GET"); status != 200 {
		t.Errorf("status %d", status)
	}
	if e := s.told(); len(e) != 1 || e[0].Action != "detected" {
		t.Errorf("events %v", e)
	}
}

func TestExceptions(t *testing.T) {
	s := start(t, http.HandlerFunc(echo), func(o *Options) {
		o.Exceptions = []Exception{{Rule: "html-script", Path: "/cms/", Name: "text"}}
	})
	for _, tt := range []struct {
		path string
		want int
	}{{"/cms/save?text=%3Cscript%3E", 200}, {"/shop?text=%3Cscript%3Ealert(1)%3C/script%3E", 403}, {"/cms/save?other=%3Cscript%3Ealert(1)%3C/script%3E", 403}} {
		_, r := dial(t, s.addr, "GET "+tt.path+" HTTP/1.1\r\nHost: a\r\n\r\n")
		if status, _, _ := answer(t, r, "GET"); status != tt.want {
			t.Errorf("%s: status %d, want %d", tt.path, status, tt.want)
		}
	}
}

// TestPortrait: what clients do in learn is what later requests are compared with.
func TestPortrait(t *testing.T) {
	known := portrait.New()
	s := start(t, http.HandlerFunc(echo), func(o *Options) { o.Mode, o.Portrait = Learn, known })
	_, r := dial(t, s.addr, strings.Repeat("GET /items/7?sort=asc HTTP/1.1\r\nHost: a\r\n\r\n", 60))
	for range 60 {
		answer(t, r, "GET")
	}
	for i := range 3 { // one client alone teaches nothing
		req := message.Parse([]byte("GET /items/8?sort=desc HTTP/1.1\r\nHost: a\r\n\r\n"))
		known.Learn(req, fmt.Sprint("client ", i))
	}
	s = start(t, http.HandlerFunc(echo), func(o *Options) { o.Portrait = known })
	_, r = dial(t, s.addr, "GET /items/9?sort=asc HTTP/1.1\r\nHost: a\r\n\r\nGET /items/9?sort=4711 HTTP/1.1\r\nHost: a\r\n\r\n")
	for range 2 {
		if status, _, _ := answer(t, r, "GET"); status != 200 {
			t.Errorf("status %d: a deviation refuses nothing", status)
		}
	}
	if e := s.told(); len(e) != 1 || e[0].Action != "detected" || !strings.HasPrefix(e[0].Reasons[0].Rule, "portrait-") {
		t.Errorf("events %v", e)
	}
}

// TestOneMeaning: what servers read differently never reaches the application, in any mode.
func TestOneMeaning(t *testing.T) {
	for _, head := range []string{
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"GET / HTTP/1.1\r\n Host: a\r\nHost: b\r\n\r\n",
		"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET / HTTP/9.9\r\n\r\n",
		"\x16\x03\x01 nonsense\r\n\r\n",
	} {
		reached := false
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reached = true }), func(o *Options) { o.Mode = Detect })
		_, r := dial(t, s.addr, head)
		if status, _, _ := answer(t, r, "POST"); status != http.StatusBadRequest {
			t.Errorf("%q: status %d", head, status)
		}
		if _, err := r.ReadByte(); err == nil {
			t.Errorf("%q: the connection goes on", head)
		}
		if reached {
			t.Errorf("%q reached the application", head)
		}
	}
}

// TestLongBodies: what is longer than its window passes, is judged to its end, and an attack in it is cut off.
func TestLongBodies(t *testing.T) {
	s := start(t, http.HandlerFunc(echo), func(o *Options) { o.Limits.Window = 4 << 10 })
	honest := strings.Repeat("An honest sentence. ", 20_000)
	for _, chunked := range []bool{false, true} {
		for _, attack := range []bool{false, true} {
			body := honest
			if attack {
				body += "<script>alert(document.cookie)</script>" + honest
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addr+"/long", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if chunked {
				req.ContentLength, req.Body = -1, io.NopCloser(strings.NewReader(body))
			}
			req.Header.Set("Content-Type", "text/plain")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				if attack {
					continue // the connection was ended while it was sent
				}
				t.Fatal(err)
			}
			got, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if attack && resp.StatusCode != 403 || !attack && (resp.StatusCode != 200 || !strings.HasSuffix(string(got), honest)) {
				t.Errorf("chunked %v, attack %v: status %d, %d bytes", chunked, attack, resp.StatusCode, len(got))
			}
		}
	}
}

func TestContinue(t *testing.T) {
	s := start(t, http.HandlerFunc(echo), nil)
	c, r := dial(t, s.addr, "POST /c HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	line, err := r.ReadString('\n')
	if err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q, %v", line, err)
	}
	_, _ = r.ReadString('\n')
	_, _ = io.WriteString(c, "hello")
	if _, body, _ := answer(t, r, "POST"); body != "POST /c a hello" {
		t.Errorf("body %q", body)
	}
}

// TestStreams: an answer arrives piece by piece, and a request's pieces too.
func TestStreams(t *testing.T) {
	next := make(chan bool)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			fmt.Fprint(w, "data: x\n\n")
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	}), nil)
	_, r := dial(t, s.addr, "GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 9)
	for range 3 { // each is read before the next is made
		if _, err := io.ReadFull(resp.Body, b); err != nil {
			t.Fatal(err)
		}
		next <- true
	}
}

func TestUpgrade(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
		_ = rw.Flush()
		_, _ = io.CopyN(c, rw, 5)
	}), nil)
	c, r := dial(t, s.addr, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("%v, %v", resp, err)
	}
	_, _ = io.WriteString(c, "hello")
	got := make([]byte, 5)
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}

// clientOf speaks HTTP/2, over TLS or not.
func clientOf(secure bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(secure)
	protocols.SetUnencryptedHTTP2(!secure)
	return &http.Client{Transport: &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // a certificate of the test's own
}

func TestHTTP2(t *testing.T) {
	certificate := httptest.NewTLSServer(nil)
	defer certificate.Close()
	for _, secure := range []bool{false, true} {
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "Grpc-Status")
			b := make([]byte, 5)
			for { // answers each message before it has the next
				if _, err := io.ReadFull(r.Body, b); err != nil {
					break
				}
				_, _ = w.Write(b)
				_ = http.NewResponseController(w).Flush()
			}
			w.Header().Set("Grpc-Status", "0")
		}), func(o *Options) {
			o.Upstream.Scheme = "h2c"
			if secure {
				o.TLS = &tls.Config{Certificates: certificate.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}
			}
		})
		scheme := map[bool]string{false: "http", true: "https"}[secure]
		from, to := io.Pipe()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, scheme+"://"+s.addr+"/pkg.Service/Call", from)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
		go func() { _, _ = to.Write([]byte("hello")) }()
		resp, err := clientOf(secure).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != "hello" || resp.ProtoMajor != 2 {
			t.Fatalf("%q over %s: %v", b, resp.Proto, err)
		}
		_ = to.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		if got := resp.Trailer.Get("Grpc-Status"); got != "0" {
			t.Errorf("trailer %q", got)
		}
		resp.Body.Close()

		resp, err = clientOf(secure).Get(scheme + "://" + s.addr + "/?id=1%27+or+%271%27=%271")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 403 || resp.Header.Get(requestID) == "" {
			t.Errorf("status %d, id %q", resp.StatusCode, resp.Header.Get(requestID))
		}
	}
}

// TestBounds: clients that take too much are ended, and others go on being served.
func TestBounds(t *testing.T) {
	s := start(t, http.HandlerFunc(echo), func(o *Options) {
		o.Limits = Limits{Head: 8 << 10, HeadTime: 300 * time.Millisecond, Stall: 300 * time.Millisecond}
	})
	var slow []*bufio.Reader
	for range 20 { // slowloris: a head that never ends; a body that never comes
		_, r := dial(t, s.addr, "GET / HTTP/1.1\r\nHost: a\r\nX-")
		_, q := dial(t, s.addr, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
		slow = append(slow, r, q)
	}
	_, r := dial(t, s.addr, "GET / HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", 9<<10))
	if status, _, _ := answer(t, r, "GET"); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("huge header: status %d", status)
	}
	_, r = dial(t, s.addr, "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n")
	if status, _, _ := answer(t, r, "GET"); status != 200 {
		t.Errorf("a client beside them: status %d", status)
	}
	for _, r := range slow {
		if _, err := io.Copy(io.Discard, r); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("a slow client was not ended: %v", err)
		}
	}
}

func TestNoApplication(t *testing.T) {
	s := start(t, http.HandlerFunc(echo), func(o *Options) { o.Upstream = &url.URL{Scheme: "http", Host: "127.0.0.1:1"} })
	_, r := dial(t, s.addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if status, _, header := answer(t, r, "GET"); status != http.StatusBadGateway || header.Get(requestID) == "" {
		t.Errorf("status %d", status)
	}
}

// FuzzHead: whatever a client sends, the proxy finds an end of the head where there is one and nowhere else.
func FuzzHead(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\nrest"))
	f.Add([]byte("a\n\nb"))
	f.Fuzz(func(t *testing.T, b []byte) {
		end := headEnd(b)
		if end < 0 || end > len(b) || end > 0 && b[end-1] != '\n' {
			t.Fatalf("end %d of %d", end, len(b))
		}
		if end == 0 && (bytes.Contains(b, []byte("\n\n")) || bytes.Contains(b, []byte("\n\r\n"))) {
			t.Fatal("an empty line was not seen")
		}
		twoMeanings(string(b))
	})
}
