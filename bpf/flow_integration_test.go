//go:build integration

package bpf

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestFlows: this process is the container. What it says to itself over the loopback device is an edge of a client and
// one of a server.
func TestFlows(t *testing.T) {
	if tooOld() {
		return // TestLoad has it
	}
	k, err := Load(Options{CgroupRoot: cgroupRoot(t)})
	check(t, err)
	t.Cleanup(k.Close)
	dir := newCgroup(t, cgroupRoot(t), "bulkhead-flows-"+strconv.Itoa(os.Getpid()))
	move(t, dir)
	t.Cleanup(func() { move(t, cgroupRoot(t)) })
	var st syscall.Stat_t
	check(t, syscall.Stat(dir, &st))
	check(t, k.SetSlot(9, Slot{Cgroup: st.Ino}))
	check(t, k.Bind(st.Ino, 9))
	check(t, k.CountFlows(true))
	heads, err := k.Heads()
	check(t, err)
	t.Cleanup(func() { heads.Close() })

	for _, network := range []string{"127.0.0.1", "::1"} {
		t.Run(network, func(t *testing.T) {
			port := talk(t, network)
			datagrams := chat(t, network)
			refused := refuse(t, network)
			time.Sleep(50 * time.Millisecond) // the connections' ends
			got := map[FlowKey]FlowCounts{}
			list, err := k.Flows()
			check(t, err)
			for _, f := range list {
				got[f.FlowKey] = f.FlowCounts
			}
			key := func(port, protocol int, role FlowRole) FlowKey {
				return FlowKey{Cgroup: st.Ino, Addr: netip.MustParseAddr(network).As16(), Port: uint16(port), Protocol: uint8(protocol), Role: role}
			}
			for _, role := range []FlowRole{FlowClient, FlowServer} {
				f := got[key(port, 6, role)]
				if f.Opened != talks || f.Established != talks || f.Reset != 0 || f.Refused != 0 {
					t.Errorf("role %d: %+v", role, f)
				}
				in, out := int(f.Bytes[1]), int(f.Bytes[0])
				if role == FlowServer {
					in, out = out, in
				}
				if out < talks*question || out > talks*(question+1000) || in < talks*answerSize || in > talks*(answerSize+9000) || f.First == 0 || f.Last < f.First {
					t.Errorf("role %d: out %d, in %d: %+v", role, out, in, f)
				}
				if f := got[key(datagrams, 17, role)]; f.Opened != 1 || f.Packets != [2]uint64{3, 3} {
					t.Errorf("datagrams, role %d: %+v", role, f)
				}
			}
			if f := got[key(refused, 6, FlowClient)]; f.Opened != 1 || f.Refused != 1 || f.Established != 0 {
				t.Errorf("refused: %+v", f)
			}
			if len(got) != 5 {
				t.Errorf("%d edges, want 5: %+v", len(got), got)
			}
		})
	}
	h, err := heads.Next()
	check(t, err)
	if h.Length != question || h.Data[0] != 'q' {
		t.Errorf("first bytes: %d, %q", h.Length, h.Bytes())
	}
	list, err := k.Flows()
	check(t, err)
	if len(list) != 0 {
		t.Errorf("counted twice: %+v", list)
	}
}

func move(t *testing.T, dir string) {
	t.Helper()
	check(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0))
}

const (
	talks      = 20
	question   = 100
	answerSize = 100_000
)

// talk makes connections with a question and a longer answer each.
func talk(t *testing.T, address string) int {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	check(t, err)
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		for range talks {
			c, err := l.Accept()
			if err == nil {
				_, err = io.ReadFull(c, make([]byte, question))
			}
			if err == nil {
				_, err = c.Write(make([]byte, answerSize))
			}
			if err == nil {
				err = c.Close()
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for range talks {
		c, err := net.Dial("tcp", l.Addr().String())
		check(t, err)
		message := make([]byte, question)
		message[0] = 'q'
		_, err = c.Write(message)
		check(t, err)
		n, err := io.Copy(io.Discard, c)
		check(t, errors.Join(err, c.Close()))
		if n != answerSize {
			t.Errorf("%d bytes came", n)
		}
	}
	check(t, <-done)
	return l.Addr().(*net.TCPAddr).Port
}

// chat sends three datagrams and gets three.
func chat(t *testing.T, address string) int {
	t.Helper()
	server, err := net.ListenPacket("udp", net.JoinHostPort(address, "0"))
	check(t, err)
	defer server.Close()
	client, err := net.Dial("udp", server.LocalAddr().String())
	check(t, err)
	defer client.Close()
	for range 3 {
		_, err := client.Write([]byte("ping"))
		check(t, err)
		buffer := make([]byte, 16)
		n, from, err := server.ReadFrom(buffer)
		check(t, err)
		_, err = server.WriteTo(buffer[:n], from)
		check(t, err)
		_, err = client.Read(buffer)
		check(t, err)
	}
	return server.LocalAddr().(*net.UDPAddr).Port
}

// refuse dials a port where nobody listens.
func refuse(t *testing.T, address string) int {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	check(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	check(t, l.Close())
	if c, err := net.Dial("tcp", net.JoinHostPort(address, strconv.Itoa(port))); err == nil {
		c.Close()
		t.Error("somebody listens")
	}
	return port
}

// TestTurns: of a container that is read along with, the beginning of each turn is told by both of its sockets, and of no other.
func TestTurns(t *testing.T) {
	if tooOld() {
		return // TestLoad has it
	}
	k, err := Load(Options{CgroupRoot: cgroupRoot(t)})
	check(t, err)
	t.Cleanup(k.Close)
	dir := newCgroup(t, cgroupRoot(t), "bulkhead-turns-"+strconv.Itoa(os.Getpid()))
	move(t, dir)
	t.Cleanup(func() { move(t, cgroupRoot(t)) })
	var st syscall.Stat_t
	check(t, syscall.Stat(dir, &st))
	check(t, k.SetSlot(9, Slot{Cgroup: st.Ino}))
	check(t, k.Bind(st.Ino, 9))
	check(t, k.CountFlows(true))
	turns, err := k.Turns()
	check(t, err)
	t.Cleanup(func() { turns.Close() })

	exchange(t, "unheard")
	check(t, k.ReadAlong(9, true))
	exchange(t, "one", "two", "three")
	var got []string
	sockets := map[uint64]bool{}
	for range 12 { // three questions and three answers, by two sockets
		turn, err := turns.Next()
		check(t, err)
		got = append(got, string(turn.Bytes()))
		sockets[turn.Socket] = true
		if turn.At == 0 || turn.Cgroup != st.Ino || turn.Protocol != 6 || (turn.Role != FlowClient && turn.Role != FlowServer) {
			t.Errorf("a turn: %+v", turn.FlowKey)
		}
	}
	want := []string{"one", "one", "one!", "one!", "two", "two", "two!", "two!", "three", "three", "three!", "three!"}
	if diff := cmp.Diff(want, got); diff != "" || len(sockets) != 2 {
		t.Errorf("%d sockets, turns (-want +got):\n%s", len(sockets), diff)
	}
	if n := k.TurnsLost(); n != 0 {
		t.Errorf("%d were lost", n)
	}
}

// exchange says words over one connection; each is answered by itself and a mark.
func exchange(t *testing.T, words ...string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for b := make([]byte, 100); ; {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			_, _ = c.Write(append(b[:n:n], '!'))
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	check(t, err)
	defer c.Close()
	for _, word := range words {
		_, err := c.Write([]byte(word))
		check(t, err)
		_, err = io.ReadFull(c, make([]byte, len(word)+1))
		check(t, err)
	}
}
