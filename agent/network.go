package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/enforce"
	"bulkhead/sensor/first"
	"bulkhead/topology"
)

const (
	maxNamed  = 20_000    // addresses that a name in a policy stands for
	namedFor  = time.Hour // after the last answer of a name server, or the last packet
	stateFile = "network.pb"
)

// network is what this node decides about packets by: what the control plane said last, and what is known here.
type network struct {
	mu       sync.Mutex
	state    *pb.NetworkState
	enforced []topology.Policy
	staged   []topology.Policy
	spaces   []topology.Namespace
	domains  []string
	named    map[netip.Addr]map[string]time.Time
	cut      map[string]bool // workloads that a rule took off the network, here and for a while
	applied  sync.Mutex      // one state after the other
}

func newNetwork() *network {
	return &network{state: &pb.NetworkState{}, named: map[netip.Addr]map[string]time.Time{}, cut: map[string]bool{}}
}

func (n *network) generation() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.Generation
}

// loadNetwork takes up what was in force before this process.
func (a *Agent) loadNetwork() {
	data, err := os.ReadFile(filepath.Join(a.options.State, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	state := &pb.NetworkState{}
	if err == nil {
		err = proto.Unmarshal(data, state)
	}
	if err == nil {
		err = a.network.take(state)
	}
	if err != nil {
		a.problem("network", fmt.Sprintf("the network policies of before cannot be read: %v; what the kernel holds running containers to stays in force until the control plane sends them again", err))
	}
	for _, c := range a.containers.List() {
		if c.PID != 0 {
			a.addresses.know(c)
		}
	}
}

// take reads a state; one that cannot be read changes nothing.
func (n *network) take(state *pb.NetworkState) error {
	var enforced, staged []topology.Policy
	var spaces []topology.Namespace
	for _, s := range state.Namespaces {
		spaces = append(spaces, topology.Namespace{Name: s.Name, Labels: labelsOf(s.Labels)})
	}
	for _, s := range state.Segments {
		d, err := topology.ReadPolicies(s.Name, strings.NewReader(s.Document), s.Namespace)
		if err != nil {
			return err
		}
		spaces = append(spaces, d.Namespaces...)
		if s.State == "enforced" {
			enforced = append(enforced, d.Policies...)
		} else {
			staged = append(staged, d.Policies...)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if state.Generation < n.state.Generation {
		return nil
	}
	n.state, n.enforced, n.spaces = state, enforced, spaces
	// A policy on trial is judged beside those in force, as it will be.
	n.staged = nil
	if len(staged) > 0 {
		n.staged = append(slices.Clone(enforced), staged...)
	}
	n.domains = domains(append(slices.Clone(enforced), staged...))
	return nil
}

func domains(policies []topology.Policy) (list []string) {
	for i := range policies {
		for _, r := range policies[i].Out {
			for _, p := range r.Peers {
				if p.Domain != "" && !slices.Contains(list, p.Domain) {
					list = append(list, p.Domain)
				}
			}
		}
	}
	return list
}

// setNetwork puts a state of the control plane in force, and keeps it for a start without one.
func (a *Agent) setNetwork(state *pb.NetworkState) error {
	if err := a.network.take(state); err != nil {
		return fmt.Errorf("reading network policies: %w", err)
	}
	if err := a.segment(); err != nil {
		return err
	}
	data, err := proto.Marshal(state)
	if err == nil {
		err = renameio.WriteFile(filepath.Join(a.options.State, stateFile), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keeping the network policies: %w; they are in force until the agent restarts", err)
	}
	return nil
}

// cutOff takes a workload's containers on this node off the network, or lets them on again, where the control plane
// does not say otherwise.
func (a *Agent) cutOff(workload string, on bool) error {
	a.network.mu.Lock()
	if on {
		a.network.cut[workload] = true
	} else {
		delete(a.network.cut, workload)
	}
	a.network.mu.Unlock()
	return a.segment()
}

// segment brings the kernel to what is known now.
func (a *Agent) segment() error {
	n := a.network
	n.applied.Lock()
	defer n.applied.Unlock()
	state := n.now(a.addresses)
	if state.Needed() && !a.kernel.CountsFlows() {
		return fmt.Errorf("network policies are not in force: packets are not seen; `bulkhead nodes` has the reason")
	}
	err := a.enforcer.Segment(state)
	text := ""
	if err != nil {
		text = err.Error()
	}
	a.problem("network", text)
	return err
}

// now joins what the control plane said with what this node sees, which is newer.
func (n *network) now(local *addresses) *enforce.Network {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := &enforce.Network{
		Enforced: n.enforced, Staged: n.staged, Quarantined: slices.AppendSeq(slices.Clone(n.state.Quarantined), maps.Keys(n.cut)),
		Known: &topology.Record{Namespaces: n.spaces}, Places: map[netip.Addr][]bulkhead.Endpoint{},
	}
	if !out.Needed() {
		return out
	}
	own := local.all()
	known := map[string]*topology.Workload{}
	for _, w := range append(slices.Clone(n.state.Workloads), own...) { // the later one wins
		addWorkload(known, w)
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		out.Known.Workloads = append(out.Known.Workloads, *known[name])
	}
	for _, h := range n.state.Hosts {
		occupy(out.Places, h.Addresses, bulkhead.Endpoint{Kind: bulkhead.EndHost, Name: h.Node})
	}
	for _, list := range [][]*pb.WorkloadAddresses{n.state.Workloads, own} {
		for _, w := range list {
			vacate(out.Places, w.Addresses)
		}
		for _, w := range list {
			occupy(out.Places, w.Addresses, bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: w.Workload})
		}
	}
	for a, names := range n.named {
		if len(out.Places[a]) > 0 {
			continue
		}
		for name := range names {
			out.Places[a] = append(out.Places[a], bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: name})
		}
		out.Places[a] = append(sorted(out.Places[a]), bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: a.String()})
	}
	out.Services = services(n.state.Services)
	return out
}

// vacate makes room for who is known better: this node's own containers are where it says, not where somebody was.
func vacate(places map[netip.Addr][]bulkhead.Endpoint, addresses []string) {
	for _, text := range addresses {
		if a, err := netip.ParseAddr(text); err == nil {
			delete(places, a.Unmap())
		}
	}
}

func occupy(places map[netip.Addr][]bulkhead.Endpoint, addresses []string, e bulkhead.Endpoint) {
	for _, text := range addresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			continue
		}
		if a = a.Unmap(); !slices.Contains(places[a], e) {
			places[a] = sorted(append(places[a], e))
		}
	}
}

func sorted(list []bulkhead.Endpoint) []bulkhead.Endpoint {
	slices.SortFunc(list, func(x, y bulkhead.Endpoint) int { return cmp.Compare(x.String(), y.String()) })
	return list
}

func addWorkload(known map[string]*topology.Workload, w *pb.WorkloadAddresses) {
	have := known[w.Workload]
	if have == nil {
		have = &topology.Workload{Name: w.Workload}
		known[w.Workload] = have
	}
	have.Namespace = cmp.Or(w.Namespace, have.Namespace)
	if w.Labelled {
		have.Labels = labelsOf(w.Labels)
	}
	if w.Ported {
		have.Ports = make([]topology.NamedPort, 0, len(w.Ports))
		for _, p := range w.Ports {
			have.Ports = append(have.Ports, topology.NamedPort{Name: p.Name, Protocol: p.Protocol, Port: uint16(p.Port)})
		}
	}
}

// labelsOf are known, also where there are none.
func labelsOf(list map[string]string) map[string]string {
	labels := make(map[string]string, len(list))
	maps.Copy(labels, list)
	return labels
}

func services(list []*pb.NetworkService) (out []enforce.Service) {
	for _, s := range list {
		a, err := netip.ParseAddr(s.Address)
		if err != nil || s.Protocol > 255 || s.Port > 65535 {
			continue
		}
		one := enforce.Service{Protocol: uint8(s.Protocol), Address: netip.AddrPortFrom(a.Unmap(), uint16(s.Port))}
		for _, text := range s.Backends {
			if b, err := netip.ParseAddrPort(text); err == nil {
				one.Backends = append(one.Backends, b)
			}
		}
		out = append(out, one)
	}
	return out
}

// hear takes an answer of a name server: what a policy names is reached where the answer says.
func (a *Agent) hear(answers []first.Answer) {
	if a.network.hear(answers, time.Now()) {
		_ = a.segment() // a failure is among the node's problems
	}
}

func (n *network) hear(answers []first.Answer, now time.Time) (news bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, answer := range answers {
		addr := answer.Addr.Unmap()
		if !slices.ContainsFunc(n.domains, func(d string) bool { return topology.MatchesDomain(d, answer.Name) }) {
			continue
		}
		if n.named[addr] == nil {
			if len(n.named) >= maxNamed {
				continue
			}
			n.named[addr] = map[string]time.Time{}
		}
		if _, have := n.named[addr][answer.Name]; !have {
			news = true
		}
		n.named[addr][answer.Name] = now
	}
	return news
}

// used keeps a name for as long as packets go to it.
func (n *network) used(addr netip.Addr, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name := range n.named[addr] {
		n.named[addr][name] = now
	}
}

func (n *network) forget(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for addr, names := range n.named {
		maps.DeleteFunc(names, func(_ string, at time.Time) bool { return now.Sub(at) > namedFor })
		if len(names) == 0 {
			delete(n.named, addr)
		}
	}
}

// moved tells the control plane of addresses before the next report is due, and puts them in force here.
func (a *Agent) moved() {
	_ = a.segment() // a failure is among the node's problems
	select {
	case a.flows.moved <- struct{}{}:
	default:
	}
}

// watchUntilEnd watches a container's addresses once.
func (a *Agent) watchUntilEnd(ctx context.Context, c bulkhead.Container) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !a.addresses.watched(c.ID, cancel) {
		a.watchAddresses(ctx, c)
	}
}

// watchAddresses looks at a container's addresses again whenever the kernel says that one came or went, until it ends.
func (a *Agent) watchAddresses(ctx context.Context, c bulkhead.Container) {
	fd, err := addressSocket(c.PID)
	if err != nil {
		return // it has ended
	}
	file := os.NewFile(uintptr(fd), "addresses of "+c.ID)
	defer file.Close()
	stop := context.AfterFunc(ctx, func() { file.Close() })
	defer stop()
	buffer := make([]byte, 16<<10)
	for {
		if _, err := file.Read(buffer); err != nil && ctx.Err() != nil {
			return
		} else if err != nil && !errors.Is(err, unix.ENOBUFS) { // some were missed: all are looked at
			return
		}
		a.locate(ctx, c)
	}
}

// addressSocket hears of addresses in a process's network namespace; it stays there when the process moves on.
func addressSocket(pid int) (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread is in another namespace and must not be used again
		ns, oerr := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if oerr != nil {
			err = oerr
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return
		}
		if fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE); err != nil {
			return
		}
		if err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR}); err != nil {
			unix.Close(fd)
		}
	}()
	<-done
	return fd, err
}
