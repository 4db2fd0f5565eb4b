//go:build integration

package enforce

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"bulkhead"
)

// A pod of these tests is the test's own program in a network namespace and a cgroup of its own. It answers on its
// ports, and says what it reaches.

type probe struct {
	Protocol, To string
	Port         uint16
}

type order struct {
	Do     string // probe, hold, held, load
	Probes []probe
	Wait   time.Duration
	Load   string // requests, connections, stream, peers
	N      int
}

func podMain() {
	for _, port := range []int{80, 81} {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			panic(err)
		}
		go serveTCP(l)
		c, err := net.ListenPacket("udp", ":"+strconv.Itoa(port))
		if err != nil {
			panic(err)
		}
		go serveUDP(c)
	}
	held := map[probe]net.Conn{}
	fmt.Println("ready")
	lines := json.NewDecoder(os.Stdin)
	for {
		var o order
		if lines.Decode(&o) != nil {
			return
		}
		if o.Do == "load" {
			fmt.Println(load(o).Nanoseconds())
			continue
		}
		results := make([]bool, len(o.Probes))
		var wait sync.WaitGroup
		for i, p := range o.Probes {
			switch o.Do {
			case "probe":
				wait.Go(func() { results[i] = reaches(p, o.Wait) })
			case "hold":
				c, err := net.DialTimeout("tcp", net.JoinHostPort(p.To, strconv.Itoa(int(p.Port))), o.Wait)
				held[p], results[i] = c, err == nil
			case "held": // still answers, or how long until it is an error
				wait.Go(func() { results[i] = echoes(held[p], o.Wait) })
			}
		}
		wait.Wait()
		text, _ := json.Marshal(results)
		fmt.Println(string(text))
	}
}

// load does something so often, with two workers, and tells how long it took.
func load(o order) time.Duration {
	began := time.Now()
	var wait sync.WaitGroup
	for worker := range 2 {
		wait.Go(func() { loads[o.Load](o.Probes[0], o.N/2, worker) })
	}
	wait.Wait()
	return time.Since(began)
}

var loads = map[string]func(p probe, n, worker int){
	"requests": func(p probe, n, _ int) { // small ones over one connection
		c := must(net.Dial("tcp", net.JoinHostPort(p.To, strconv.Itoa(int(p.Port)))))
		defer c.Close()
		b := make([]byte, 200)
		for range n {
			must(c.Write(b))
			must(io.ReadFull(c, b))
		}
	},
	"connections": func(p probe, n, _ int) { // one after the other, ended by a reset so that ports do not run out
		to := must(net.ResolveTCPAddr("tcp", net.JoinHostPort(p.To, strconv.Itoa(int(p.Port)))))
		for range n {
			c := must(net.DialTCP("tcp", nil, to))
			_ = c.SetLinger(0)
			c.Close()
		}
	},
	"stream": func(p probe, n, _ int) { // n KiB there and back
		c := must(net.Dial("tcp", net.JoinHostPort(p.To, strconv.Itoa(int(p.Port)))))
		defer c.Close()
		go func() {
			b := make([]byte, 64<<10)
			for left := n << 10; left > 0; left -= must(c.Write(b[:min(left, len(b))])) {
			}
		}()
		_ = must(io.CopyN(io.Discard, c, int64(n)<<10))
	},
	"peers": func(p probe, n, worker int) { // a datagram to each of n addresses
		c := must(net.ListenPacket("udp4", ":0"))
		defer c.Close()
		for i := range n {
			_, _ = c.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(198, byte(18+worker), byte(i>>8), byte(i)), Port: 1000 + i>>16})
		}
	},
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func echoes(c net.Conn, wait time.Duration) bool {
	_ = c.SetDeadline(time.Now().Add(wait))
	if _, err := c.Write([]byte("x")); err != nil {
		return false
	}
	_, err := c.Read(make([]byte, 1))
	return err == nil
}

func serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(c, c)
			c.Close()
		}()
	}
}

func serveUDP(c net.PacketConn) {
	b := make([]byte, 100)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(b[:n], from)
	}
}

func reaches(p probe, wait time.Duration) bool {
	if p.Protocol == "icmp" {
		return pings(p.To, wait)
	}
	c, err := net.DialTimeout(p.Protocol, net.JoinHostPort(p.To, strconv.Itoa(int(p.Port))), wait)
	if err != nil {
		return false
	}
	defer c.Close()
	return echoes(c, wait)
}

func pings(to string, wait time.Duration) bool {
	network, kind := "ip4:icmp", byte(8)
	if net.ParseIP(to).To4() == nil {
		network, kind = "ip6:ipv6-icmp", 128
	}
	c, err := net.Dial(network, to)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wait))
	m := []byte{kind, 0, 0, 0, 0x12, 0x34, 0, 1}
	var sum uint32
	for i := 0; i < len(m); i += 2 {
		sum += uint32(m[i])<<8 | uint32(m[i+1])
	}
	sum = sum>>16 + sum&0xffff
	m[2], m[3] = byte(^sum>>8), byte(^sum)
	if _, err := c.Write(m); err != nil {
		return false
	}
	for b := make([]byte, 200); ; {
		n, err := c.Read(b)
		if err != nil {
			return false
		}
		if at := map[byte]int{8: 20, 128: 0}[kind]; n > at && (b[at] == 0 || b[0] == 0 || b[0] == 129) {
			return true
		}
	}
}

func (p *testPod) load(t testing.TB, what, to string, n int) time.Duration {
	t.Helper()
	text, _ := json.Marshal(order{Do: "load", Load: what, N: n, Probes: []probe{{"tcp", to, 80}}})
	fmt.Fprintln(p.in, string(text))
	if !p.out.Scan() {
		t.Fatal("no answer")
	}
	ns, err := strconv.ParseInt(p.out.Text(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(ns)
}

type testPod struct {
	bulkhead.Container
	in  io.Writer
	out *bufio.Scanner
	mu  sync.Mutex
}

func (p *testPod) ask(t *testing.T, o order) (results []bool) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(o.Probes) == 0 {
		return nil
	}
	text, _ := json.Marshal(o)
	fmt.Fprintln(p.in, string(text))
	if !p.out.Scan() {
		t.Errorf("%s gave no answer", p.Workload.Name)
		return make([]bool, len(o.Probes))
	}
	if err := json.Unmarshal(p.out.Bytes(), &results); err != nil {
		t.Errorf("%q: %v", p.out.Text(), err)
	}
	return results
}

func (p *testPod) reaches(t *testing.T, protocol, to string, port uint16) bool {
	t.Helper()
	return p.ask(t, order{Do: "probe", Probes: []probe{{protocol, to, port}}, Wait: time.Second})[0]
}

// hub is a network namespace with a bridge that all pods are on.
func hub(t testing.TB) int {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	inside(t, cmd.Process.Pid, "ip link add br0 type bridge forward_delay 0 mcast_snooping 0", "ip link set br0 up", "ip link set lo up")
	return cmd.Process.Pid
}

func inside(t testing.TB, pid int, commands ...string) {
	t.Helper()
	for _, c := range commands {
		if out, err := exec.Command("nsenter", "-t", strconv.Itoa(pid), "-n", "sh", "-c", c).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", c, err, out)
		}
	}
}

var podNumber int

// newPod starts a pod with addresses on the hub's bridge.
func newPod(t testing.TB, root string, hub int, w bulkhead.Workload, addresses ...string) *testPod {
	t.Helper()
	podNumber++
	name := fmt.Sprintf("bulkhead-pod-%d-%d", os.Getpid(), podNumber)
	dir := filepath.Join(root, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "POD_TEST_CHILD=1", "GODEBUG=multipathtcp=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, UseCgroupFD: true, CgroupFD: int(fd.Fd())}
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		for range 50 {
			if err = os.Remove(dir); err == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Error(err)
	})
	pid := cmd.Process.Pid
	inside(t, hub, fmt.Sprintf("ip link add v%d type veth peer name eth0 netns %d && ip link set v%d master br0 up", podNumber, pid, podNumber))
	inside(t, pid, "ip link set lo up && ip link set eth0 up && ip route add default dev eth0 && ip -6 route add default dev eth0")
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	p := &testPod{in: in, out: bufio.NewScanner(out)}
	p.Container = bulkhead.Container{ID: name, Cgroup: "/" + name, CgroupID: st.Ino, PID: pid, Workload: w}
	p.out.Buffer(nil, 1<<20)
	if !p.out.Scan() || p.out.Text() != "ready" {
		t.Fatal("a pod did not start")
	}
	for _, a := range addresses {
		p.address(t, a)
	}
	return p
}

func (p *testPod) address(t testing.TB, a string) {
	t.Helper()
	bits := "32"
	if net.ParseIP(a).To4() == nil {
		bits = "128 nodad"
	}
	inside(t, p.PID, fmt.Sprintf("ip addr add %s/%s dev eth0", a, bits))
}
