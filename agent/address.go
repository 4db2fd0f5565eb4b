package agent

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"bulkhead"
)

// addresses know under which addresses the containers of this node are reached: a peer is a workload, and stays one
// when its container comes back with another address.
type addresses struct {
	mu         sync.Mutex
	containers map[string]located // by container id
}

type located struct {
	workload  string
	list      []netip.Addr
	container bulkhead.Container
	stop      func() // ends who hears of new addresses
}

func newAddresses() *addresses { return &addresses{containers: map[string]located{}} }

// know reads a running container's addresses, and reports whether they are news.
func (d *addresses) know(c bulkhead.Container) bool {
	list := addressesOf(c.PID)
	d.mu.Lock()
	defer d.mu.Unlock()
	old, known := d.containers[c.ID]
	if known && old.workload == c.Workload.Name && slices.Equal(old.list, list) {
		return false
	}
	d.containers[c.ID] = located{c.Workload.Name, list, c, old.stop}
	return len(list) > 0 || known
}

// forget reports whether the container was known.
func (d *addresses) forget(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, known := d.containers[id]
	if known && l.stop != nil {
		l.stop()
	}
	delete(d.containers, id)
	return known
}

// watched reports whether somebody hears already of a container's new addresses; if not, stop will end who does from now on.
func (d *addresses) watched(id string, stop func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, known := d.containers[id]
	if !known || l.stop != nil {
		return true
	}
	l.stop = stop
	d.containers[id] = l
	return false
}

// of lists where a workload is now.
func (d *addresses) of(workload string) []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []netip.Addr
	for _, l := range d.containers {
		if l.workload == workload {
			list = append(list, l.list...)
		}
	}
	return list
}

// where lists a container's addresses.
func (d *addresses) where(id string) []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.containers[id].list
}

// who names the workload at an address; nobody where several share it, as the containers of a pod do.
func (d *addresses) who(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	name := ""
	for _, l := range d.containers {
		switch {
		case !slices.Contains(l.list, a) || l.workload == name:
		case name != "":
			return ""
		default:
			name = l.workload
		}
	}
	return name
}

// addressesOf reads the addresses of a process's network namespace, but not the host's: those are everybody's.
func addressesOf(pid int) []netip.Addr {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil || own == hostNetwork() {
		return nil
	}
	var list []netip.Addr
	for file, read := range map[string]func(io.Reader) []netip.Addr{"fib_trie": localAddresses, "if_inet6": globalAddresses} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, file))
		if err != nil {
			continue // no IPv6 there
		}
		list = append(list, read(f)...)
		f.Close()
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// hostNetwork names the host's network namespace: that of its first process, or the agent's own where that one may not
// be looked at.
func hostNetwork() string {
	if name, err := os.Readlink("/proc/1/ns/net"); err == nil {
		return name
	}
	name, _ := os.Readlink("/proc/self/ns/net")
	return name
}

// localAddresses reads the kernel's table of IPv4 routes: a line "|-- 172.17.0.2" with a line "/32 host LOCAL" below.
func localAddresses(r io.Reader) (list []netip.Addr) {
	var last netip.Addr
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if text, ok := strings.CutPrefix(line, "|-- "); ok {
			last, _ = netip.ParseAddr(text)
		} else if strings.HasPrefix(line, "/32 host LOCAL") && last.IsValid() && !last.IsLoopback() {
			list = append(list, last)
		}
	}
	return list
}

// globalAddresses reads lines "20010db8000000000000000000000001 02 40 00 80 eth0"; the fourth field is the scope.
func globalAddresses(r io.Reader) (list []netip.Addr) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[3] != "00" {
			continue
		}
		b, _ := hex.DecodeString(fields[0])
		if a, ok := netip.AddrFromSlice(b); ok && a.Is6() {
			list = append(list, a)
		}
	}
	return list
}

// name tells who is at the other end of a connection.
func (a *Agent) name(e *bulkhead.Event) {
	if e.Kind == bulkhead.EventConnect && e.Network != nil && e.Network.Peer == "" {
		e.Network.Peer = a.addresses.who(e.Network.Address)
	}
}

// locate takes note of where a container is, and lets those reach it that may talk to its workload.
func (a *Agent) locate(ctx context.Context, c bulkhead.Container) {
	if !a.addresses.know(c) {
		return
	}
	a.moved()
	for _, held := range a.callersOf(c.Workload.Name) {
		if err := a.enforcer.Readdress(held.container, held.profile); err != nil && ctx.Err() == nil {
			a.problem("peers "+held.container.ID, err.Error())
		}
	}
}

type held struct {
	container bulkhead.Container
	profile   bulkhead.Profile
}

// callersOf are the containers held to a profile that names the workload as a peer.
func (a *Agent) callersOf(workload string) (list []held) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workloads {
		if w.Mode == bulkhead.Learn || !slices.ContainsFunc(w.Profile.Peers, func(p bulkhead.Peer) bool { return p.Workload == workload }) {
			continue
		}
		for _, c := range w.containers {
			list = append(list, held{c, w.Profile})
		}
	}
	return list
}
