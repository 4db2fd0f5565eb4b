//go:build integration

package enforce

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead"
)

// TestMain lets the test's own program be the container: it opens what it is told to and says what is left of it.
func TestMain(m *testing.M) {
	if os.Getenv("CUT_TEST_CHILD") != "" {
		child()
		return
	}
	if os.Getenv("POD_TEST_CHILD") != "" {
		podMain()
		return
	}
	os.Exit(m.Run())
}

func child() {
	conns := map[string]net.Conn{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "open":
			network, address, _ := strings.Cut(rest, " ")
			c, err := net.Dial(network, address)
			if err == nil {
				conns[rest] = c
			}
			fmt.Println(err)
		case "listen":
			_, err := net.Listen("tcp", rest)
			fmt.Println(err)
		case "alive":
			c := conns[rest]
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			_, err := c.Read(make([]byte, 1))
			fmt.Println(os.IsTimeout(err))
		}
	}
}

func cgroup2(t testing.TB) string {
	for _, dir := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil {
			return dir
		}
	}
	t.Fatal("no cgroup v2 hierarchy")
	return ""
}

type talker struct {
	in  io.Writer
	out *bufio.Scanner
}

func (p talker) ask(t *testing.T, line string) string {
	t.Helper()
	fmt.Fprintln(p.in, line)
	if !p.out.Scan() {
		t.Fatalf("no answer to %q", line)
	}
	return p.out.Text()
}

// container starts the child in a cgroup of its own, in this or a new network namespace.
func container(t *testing.T, root string, flags uintptr) (talker, bulkhead.Container) {
	t.Helper()
	name := fmt.Sprintf("bulkhead-cut-%d-%d", os.Getpid(), flags)
	dir := filepath.Join(root, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "CUT_TEST_CHILD=1", "GODEBUG=multipathtcp=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, UseCgroupFD: true, CgroupFD: int(fd.Fd())}
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	if flags != 0 {
		if out, err := exec.Command("nsenter", "-t", fmt.Sprint(cmd.Process.Pid), "-n", "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return talker{in, bufio.NewScanner(out)}, bulkhead.Container{ID: name, Cgroup: "/" + name, PID: cmd.Process.Pid}
}

// TestCutSockets: v4 and v6, TCP and UDP, in a network namespace of the container's own and in the host's.
func TestCutSockets(t *testing.T) {
	root := cgroup2(t)
	for name, flags := range map[string]uintptr{"own namespace": syscall.CLONE_NEWNET, "host's namespace": 0} {
		t.Run(name, func(t *testing.T) {
			p, c := container(t, root, flags)
			want := map[string]bool{ // what stays
				"tcp 127.0.0.1:20080": true, "tcp [::1]:20443": true, "udp 127.0.0.1:20053": true,
				"tcp 127.0.0.1:20090": false, "tcp [::1]:20090": false, "udp [::1]:20091": false, "udp 127.0.0.1:20092": false,
			}
			for _, address := range []string{"127.0.0.1:20080", "[::1]:20443", "127.0.0.1:20090", "[::1]:20090"} {
				if answer := p.ask(t, "listen "+address); answer != "<nil>" {
					t.Fatal(answer)
				}
			}
			for conn := range want {
				if answer := p.ask(t, "open "+conn); answer != "<nil>" {
					t.Fatal(conn, answer)
				}
			}
			stranger, err := net.Listen("tcp", "127.0.0.1:20099") // of a process that is not the container's
			if err != nil {
				t.Fatal(err)
			}
			defer stranger.Close()
			mine, err := net.Dial("tcp", "127.0.0.1:20099")
			if err != nil {
				t.Fatal(err)
			}
			defer mine.Close()
			k := compile(hasher, bulkhead.Profile{
				Listens: []bulkhead.Port{{Protocol: "tcp", Port: 20080}, {Protocol: "tcp", Port: 20443}},
				Peers: []bulkhead.Peer{
					{Protocol: "tcp", Port: 20080, CIDR: "127.0.0.1/32"}, {Protocol: "tcp", Port: 20443, CIDR: "::1/128"}, {Protocol: "udp", Port: 20053, CIDR: "127.0.0.0/8"},
				},
			}, nowhere)
			var told []Cut
			e := &Enforcer{options: Options{CgroupRoot: root, Log: slog.New(slog.DiscardHandler), Cut: func(_ bulkhead.Container, c Cut) { told = append(told, c) }}}
			began := time.Now()
			if err := e.cut(&ward{container: c}, k); err != nil {
				t.Fatal(err)
			}
			t.Logf("cut in %v: %v", time.Since(began).Round(time.Microsecond), told)
			for conn, stays := range want {
				if alive := p.ask(t, "alive "+conn) == "true"; alive != stays {
					t.Errorf("%s: alive %v", conn, alive)
				}
			}
			for _, cut := range told {
				if cut.PID != c.PID || cut.Port < 20090 && !cut.Address.IsLoopback() {
					t.Errorf("told %+v", cut)
				}
			}
			_ = mine.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			if _, err := mine.Read(make([]byte, 1)); !os.IsTimeout(err) {
				t.Errorf("a connection of somebody else was cut: %v", err)
			}
			if err := e.cut(&ward{container: c}, k); err != nil || len(told) == 0 {
				t.Errorf("again: %v", err)
			}
		})
	}
}
