//go:build integration

package intercept

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead/waf"
)

// TestMain: started again by a test, this program is the proxy that is killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("BULKHEAD_TEST_INLINE"); path != "" {
		proxyToKill(path)
		return
	}
	os.Exit(m.Run())
}

func proxyToKill(path string) {
	o := InlineOptions{Namespace: path, Ports: []uint16{8080}, Closed: os.Getenv("BULKHEAD_TEST_PIN") != "", Pin: os.Getenv("BULKHEAD_TEST_PIN"), Proxy: proxyOptions(func(Event) {})}
	if _, err := NewInline(o); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func proxyOptions(tell func(Event)) Options {
	return Options{Engine: waf.New(waf.Options{}), Mode: Block, Tell: tell, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

// house is a workload's namespace and a client's, with a cable between them.
type house struct {
	app    string // a path
	client *namespace
}

func newHouse(t *testing.T) *house {
	t.Helper()
	id := strconv.Itoa(os.Getpid())
	a, c := "bhw-a-"+id, "bhw-c-"+id
	script := fmt.Sprintf(`set -e
ip netns add %[1]s; ip netns add %[2]s
ip -n %[1]s link set lo up; ip -n %[2]s link set lo up
ip -n %[1]s link add eth0 type veth peer name eth0 netns %[2]s
ip -n %[1]s addr add 10.97.1.1/24 dev eth0; ip -n %[2]s addr add 10.97.1.2/24 dev eth0
ip -n %[1]s addr add fd97::1/64 dev eth0 nodad; ip -n %[2]s addr add fd97::2/64 dev eth0 nodad
ip -n %[1]s link set eth0 up; ip -n %[2]s link set eth0 up`, a, c)
	t.Cleanup(func() {
		for _, n := range []string{a, c} {
			_ = exec.Command("ip", "netns", "del", n).Run()
		}
	})
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	h := &house{app: "/run/netns/" + a}
	var err error
	if h.client, err = enterNamespace("/run/netns/" + c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.client.close)
	h.application(t)
	for range 20 { // the cable is not ready at once
		if c, err := h.connect("10.97.1.1:8080"); err == nil {
			c.Close()
			return h
		}
	}
	t.Fatal("the application is not reached")
	return nil
}

// application says whom it sees.
func (h *house) application(t *testing.T) {
	t.Helper()
	ns, err := enterNamespace(h.app)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.close)
	var l net.Listener
	if err := ns.do(func() (err error) { l, err = net.Listen("tcp", ":8080"); return err }); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "from %s through %v", host, r.Header.Get(requestID) != "")
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
}

func (h *house) connect(address string) (net.Conn, error) {
	var c net.Conn
	err := h.client.do(func() (err error) {
		c, err = net.DialTimeout("tcp", address, 500*time.Millisecond)
		return err
	})
	return c, err
}

// get asks on a connection of its own.
func (h *house) get(address, path string) (status int, body string, err error) {
	c, err := h.connect(address)
	if err != nil {
		return 0, "", err
	}
	defer c.Close()
	return on(c, path)
}

func on(c net.Conn, path string) (int, string, error) {
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: app\r\n\r\n", path)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", err
	}
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

const injection = "/?id=1%27+or+%271%27=%271"

// TestInline: clients keep their addresses, attacks are refused, and connections that exist when the proxy comes and
// goes are kept.
func TestInline(t *testing.T) {
	h := newHouse(t)
	var told atomic.Int32
	for address, client := range map[string]string{"10.97.1.1:8080": "10.97.1.2", "[fd97::1]:8080": "fd97::2"} {
		before, err := h.connect(address)
		if err != nil {
			t.Fatal(err)
		}
		if _, body, err := on(before, "/"); err != nil || body != "from "+client+" through false" {
			t.Fatalf("before: %q, %v", body, err)
		}
		i, err := NewInline(InlineOptions{Namespace: h.app, Ports: []uint16{8080}, Proxy: proxyOptions(func(Event) { told.Add(1) })})
		if err != nil {
			t.Fatal(err)
		}
		if status, body, err := h.get(address, "/"); status != 200 || body != "from "+client+" through true" {
			t.Errorf("steered: %d %q, %v", status, body, err)
		}
		if status, body, err := h.get(address, injection); status != 403 {
			t.Errorf("attack: %d %q, %v", status, body, err)
		}
		if _, body, err := on(before, "/"); err != nil || body != "from "+client+" through false" {
			t.Errorf("a connection from before: %q, %v", body, err)
		}
		before.Close()
		if err := i.Close(); err != nil {
			t.Error(err)
		}
		if status, body, err := h.get(address, injection); status != 200 || body != "from "+client+" through false" {
			t.Errorf("after: %d %q, %v", status, body, err)
		}
	}
	if told.Load() != 2 {
		t.Errorf("%d events", told.Load())
	}
}

// TestKilledProxy: clients that ask all the time while the proxy is killed fail at most where a request was under way,
// and within a second everybody gets through, or nobody.
func TestKilledProxy(t *testing.T) {
	h := newHouse(t)
	for _, closed := range []bool{false, true} {
		t.Run(fmt.Sprintf("closed=%v", closed), func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "BULKHEAD_TEST_INLINE="+h.app)
			if closed {
				pin := filepath.Join("/sys/fs/bpf", "bulkhead-test-"+strconv.Itoa(os.Getpid()), "steer")
				cmd.Env = append(cmd.Env, "BULKHEAD_TEST_PIN="+pin)
				t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(pin)) })
			}
			in, _ := cmd.StdinPipe()
			defer in.Close()
			out, _ := cmd.StdoutPipe()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
				t.Fatal(line)
			}
			if status, _, err := h.get("10.97.1.1:8080", injection); status != 403 {
				t.Fatalf("attack: %d, %v", status, err)
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			within := time.Now().Add(time.Second)
			if closed {
				time.Sleep(300 * time.Millisecond)
				if status, body, err := h.get("10.97.1.1:8080", "/"); err == nil {
					t.Errorf("somebody got through: %d %q", status, body)
				}
				return
			}
			for {
				_, body, err := h.get("10.97.1.1:8080", "/")
				if err == nil && strings.HasSuffix(body, "through false") {
					return
				}
				if time.Now().After(within) {
					t.Fatalf("not past the dead proxy: %q, %v", body, err)
				}
			}
		})
	}
}
