package intercept

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"bulkhead/waf"
	"bulkhead/waf/message"
)

func TestUnderPath(t *testing.T) {
	for _, c := range []struct {
		begin, path string
		want        bool
	}{
		{"", "/a", true},
		{"/a", "/a/b", true},
		{"/a", "/b", false},
		{"/items/{integer}", "/items/7", true},
		{"/items/{integer}", "/items/7/more", true},
		{"/items/{integer}", "/items", false},
		{"/items/{integer}/x", "/items/7/y", false},
	} {
		if got := underPath(c.begin, c.path); got != c.want {
			t.Errorf("%q of %q: %v", c.begin, c.path, got)
		}
	}
}

func TestPatch(t *testing.T) {
	compile := func(text string) Patch {
		p, err := CompilePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		return Patch{ID: "p", Path: "/order", Name: "name", Pattern: p}
	}
	for _, c := range []struct {
		patch        Patch
		method, path string
		query        string
		want         waf.Action
	}{
		{compile("[a-z]+"), "GET", "/order", "name=ada", waf.Pass},
		{compile("[a-z]+"), "GET", "/order", "name=ada%0Aid", waf.Block},
		{compile("[a-z]+"), "GET", "/order", "name=ada&name=%3Bid", waf.Block}, // each of them
		{compile("[a-z]+|x"), "GET", "/order", "name=xid1", waf.Block},         // the whole value
		{compile(""), "GET", "/order", "name=ada", waf.Block},
		{compile(""), "GET", "/order", "other=ada", waf.Pass},
		{compile("[a-z]+"), "GET", "/elsewhere", "name=1", waf.Pass},
		{Patch{ID: "p", Method: "POST", Path: "/order"}, "GET", "/order", "", waf.Pass},
		{Patch{ID: "p", Method: "GET", Path: "/order"}, "GET", "/order", "", waf.Block},
	} {
		r := message.Parse([]byte(c.method + " " + c.path + "?" + c.query + " HTTP/1.1\r\nHost: a\r\n\r\n"))
		p := Policy{Patches: []Patch{c.patch}}
		if got := p.patch(waf.Verdict{Action: waf.Pass}, r, c.method, c.path); got.Action != c.want {
			t.Errorf("%+v %s?%s: %v", c.patch, c.path, c.query, got)
		}
	}
	if _, err := CompilePattern(strings.Repeat("a", 2000)); err == nil {
		t.Error("a pattern of any length is taken")
	}
}

func dialTest(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func askTest(t *testing.T, c net.Conn, target string) int {
	t.Helper()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", target)
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode
}

// TestChange: another policy holds from the next request on, also on a connection that exists.
func TestChange(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}), func(o *Options) { o.Mode = Detect })
	c := dialTest(t, s.addr)
	if code := askTest(t, c, "/?id=1%27+or+%271%27=%271"); code != http.StatusOK {
		t.Fatal(code)
	}
	s.proxy.Change(Policy{Mode: Block})
	if code := askTest(t, c, "/?id=1%27+or+%271%27=%271"); code != http.StatusForbidden {
		t.Error(code)
	}
	c = dialTest(t, s.addr)
	s.proxy.Change(Policy{Mode: Block, Exceptions: []Exception{{Rule: s.told()[0].Reasons[0].Rule, Name: "id"}}})
	if code := askTest(t, c, "/?id=1%27+or+%271%27=%271"); code != http.StatusOK {
		t.Error(code, s.told()[0].Reasons)
	}
	before := s.proxy.Counts()
	s.proxy.Change(Policy{Mode: Off})
	if code := askTest(t, c, "/?id=1%27+or+%271%27=%271"); code != http.StatusOK {
		t.Error(code)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a connection of a firewall that goes does not end")
	}
	if after := s.proxy.Counts(); after.Blocked != before.Blocked || after.Detected != before.Detected || after.Requests != before.Requests+1 {
		t.Errorf("%+v, then %+v", before, after)
	}
}
