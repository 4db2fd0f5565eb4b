package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/bpf"
	"bulkhead/bus"
	"bulkhead/sensor/first"
)

const (
	flowsEvery   = 5 * time.Second
	maxWaiting   = 100_000 // edges that wait for the control plane; more are counted as lost
	maxPerReport = 20_000
	maxNames     = 50_000 // addresses whose names are known, of all containers together
	forgetAfter  = 10 * time.Minute
)

// flows are what the containers of this node sent and got since the control plane took the last report.
type flows struct {
	mu        sync.Mutex
	waiting   map[flowKey]*pb.NodeFlow
	sent      *pb.FlowReport // until it is taken; the same again, so that it counts once
	sequence  uint64
	lost      uint64
	protocols map[bpf.FlowKey]known
	names     map[lookedUp]known
	asked     map[bpf.FlowKey]*exchanges
	moved     chan struct{} // a container's addresses changed
}

// flowKey is a line of a report.
type flowKey struct {
	workload, peer, peerWorkload, name string
	protocol                           uint8
	port                               uint16
	server                             bool
}

// lookedUp is an address that a container got from a name server.
type lookedUp struct {
	cgroup uint64
	addr   netip.Addr
}

type known struct {
	text string
	at   time.Time
}

func newFlows() *flows {
	return &flows{waiting: map[flowKey]*pb.NodeFlow{}, protocols: map[bpf.FlowKey]known{}, names: map[lookedUp]known{}, asked: map[bpf.FlowKey]*exchanges{}, moved: make(chan struct{}, 1)}
}

// followHeads recognises protocols and reads names from the first bytes of connections.
func (a *Agent) followHeads(ctx context.Context) error {
	heads, err := a.kernel.Heads()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { heads.Close() })
	defer stop()
	for {
		h, err := heads.Next()
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		a.hear(a.flows.head(&h, time.Now()))
	}
}

// head returns the answers of a name server, where it is one.
func (f *flows) head(h *bpf.Head, now time.Time) (answers []first.Answer) {
	byClient := (h.Role == bpf.FlowClient) == (h.Incoming == 0)
	protocol := first.Protocol(h.Bytes(), byClient, transport(h.Protocol), h.Port)
	f.mu.Lock()
	defer f.mu.Unlock()
	if protocol == "dns" && h.Incoming == 1 {
		answers = first.Answers(h.Bytes())
		for _, answer := range answers {
			f.name(lookedUp{h.Cgroup, answer.Addr}, answer.Name, now)
		}
	}
	if protocol == "tls" && byClient {
		if name, _ := first.ServerName(h.Bytes()); name != "" && h.Role == bpf.FlowClient {
			f.name(lookedUp{h.Cgroup, h.Peer()}, name, now)
		}
	}
	if protocol != "" && len(f.protocols) < maxNames {
		f.protocols[h.FlowKey] = known{protocol, now}
	}
	return answers
}

func (f *flows) name(key lookedUp, name string, now time.Time) {
	if _, have := f.names[key]; have || len(f.names) < maxNames {
		f.names[key] = known{name, now}
	}
}

// forget drops names and protocols that nothing used for a while.
func (f *flows) forget(now time.Time) {
	for key, k := range f.names {
		if now.Sub(k.at) > forgetAfter {
			delete(f.names, key)
		}
	}
	for key, k := range f.protocols {
		if now.Sub(k.at) > forgetAfter {
			delete(f.protocols, key)
		}
	}
	for key, e := range f.asked {
		if now.Sub(e.at) > forgetAfter {
			delete(f.asked, key)
		}
	}
}

func transport(protocol uint8) string {
	switch protocol {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	}
	return ""
}

// deliverFlows reads the kernel's tables again and again, and brings what was counted to the control plane.
func (a *Agent) deliverFlows(ctx context.Context, client *bus.Client) {
	tick := time.NewTicker(flowsEvery)
	defer tick.Stop()
	for {
		a.gatherFlows()
		for client.Connected() && a.deliverFlowReport(ctx, client) {
		}
		for wait := true; wait; {
			select {
			case <-ctx.Done():
				return
			case <-a.flows.moved: // others hold their peers to where they are: that does not wait
				if client.Connected() {
					a.deliverFlowReport(ctx, client)
				}
			case <-tick.C:
				wait = false
			}
		}
	}
}

// gatherFlows adds what the kernel counted to what waits.
func (a *Agent) gatherFlows() {
	list, err := a.kernel.Flows()
	if err != nil {
		a.problem("flows", err.Error())
	}
	if n := a.kernel.TurnsLost(); n > 0 {
		a.problem("requests", fmt.Sprintf("%d requests and answers found no room and are not counted: read along with fewer workloads", n))
	}
	boot := bootTime()
	now := time.Now()
	a.tellDenied(list, boot)
	f := a.flows
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget(now)
	a.network.forget(now)
	for i := range list {
		c, ok := a.lookup(list[i].Cgroup)
		if !ok {
			continue // it lived too shortly to be named
		}
		a.network.used(list[i].Peer(), now)
		for _, flow := range a.translations.resolve(a.addresses.where(c.ID), list[i], now) {
			f.add(c, &flow, list[i].FlowKey, a.addresses.who(flow.Peer().String()), boot)
		}
	}
	a.translations.turn(now)
}

// add counts a flow; seen is its key as the container saw it, by which names and protocols are known.
func (f *flows) add(c bulkhead.Container, n *bpf.Flow, seen bpf.FlowKey, workload string, boot time.Time) {
	peer := n.Peer()
	key := flowKey{c.Workload.Name, peer.String(), workload, "", n.Protocol, n.Port, n.Role == bpf.FlowServer}
	if k, ok := f.names[lookedUp{n.Cgroup, seen.Peer()}]; ok && workload == "" {
		key.name = k.text
		f.names[lookedUp{n.Cgroup, seen.Peer()}] = known{k.text, time.Now()}
	}
	m := f.waiting[key]
	if m == nil {
		if len(f.waiting) >= maxWaiting {
			f.lost += n.Packets[0] + n.Packets[1]
			return
		}
		m = &pb.NodeFlow{
			Workload: key.workload, Peer: key.peer, PeerName: key.name, PeerWorkload: workload, Protocol: uint32(n.Protocol), Port: uint32(n.Port), Server: key.server,
			First: timestamppb.New(boot.Add(time.Duration(n.First))),
		}
		f.waiting[key] = m
	}
	if k, ok := f.protocols[seen]; ok {
		m.Application = k.text
		f.protocols[seen] = known{k.text, time.Now()}
	}
	m.Last = timestamppb.New(boot.Add(time.Duration(n.Last)))
	m.Opened += n.Opened
	m.Established += n.Established
	m.Refused += n.Refused
	m.Reset_ += n.Reset
	m.Resent += n.Resent
	m.BytesSent += n.Bytes[0]
	m.BytesReceived += n.Bytes[1]
	m.PacketsSent += n.Packets[0]
	m.PacketsReceived += n.Packets[1]
	m.RttSumMicroseconds += n.RTT
	m.RttCount += n.RTTs
	f.addRequests(m, seen)
	m.Denied += n.Denied
	m.WouldDeny += n.WouldDeny
}

// deliverFlowReport reports whether there may be more.
func (a *Agent) deliverFlowReport(ctx context.Context, client *bus.Client) bool {
	report := a.flows.report()
	if report == nil {
		report = &pb.FlowReport{}
	}
	lost, _ := a.kernel.FlowsLost()
	a.flows.mu.Lock()
	report.Node, report.Cluster, report.Boot, report.Lost = a.options.Node, a.options.Cluster, bootID(), a.flows.lost+lost
	a.flows.mu.Unlock()
	report.Services = a.translations.report()
	report.Network = a.network.generation()
	report.Addresses, report.NodeAddresses = a.addresses.all(), nodeAddresses()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := client.ReportFlows(ctx, report); err != nil {
		a.log.Warn("the control plane did not take the flows", "err", err)
		return false
	}
	return a.flows.taken()
}

// report is the next one: what was sent and not taken goes again, unchanged.
func (f *flows) report() *pb.FlowReport {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sent != nil || len(f.waiting) == 0 {
		return f.sent
	}
	f.sequence = max(f.sequence+1, uint64(time.Now().UnixMicro())) // grows also over a restart of the agent
	f.sent = &pb.FlowReport{Sequence: f.sequence}
	for key, m := range f.waiting {
		if len(f.sent.Flows) == maxPerReport {
			break
		}
		f.sent.Flows = append(f.sent.Flows, m)
		delete(f.waiting, key)
	}
	return f.sent
}

func (f *flows) taken() (more bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = nil
	return len(f.waiting) > 0
}

// all lists the addresses and labels of the workloads of this node.
func (d *addresses) all() (list []*pb.WorkloadAddresses) {
	d.mu.Lock()
	defer d.mu.Unlock()
	newest := map[string]located{}
	byName := map[string]*pb.WorkloadAddresses{}
	for _, l := range d.containers {
		m := byName[l.workload]
		if m == nil {
			m = &pb.WorkloadAddresses{Workload: l.workload}
			byName[l.workload] = m
			list = append(list, m)
		}
		if last, have := newest[l.workload]; !have || l.container.Started.After(last.container.Started) {
			newest[l.workload] = l
		}
		for _, addr := range l.list {
			if text := addr.String(); !addr.IsLoopback() && !slices.Contains(m.Addresses, text) {
				m.Addresses = append(m.Addresses, text)
			}
		}
	}
	for name, l := range newest {
		describe(byName[name], l.container)
	}
	slices.SortFunc(list, func(x, y *pb.WorkloadAddresses) int { return strings.Compare(x.Workload, y.Workload) })
	return list
}

// describe tells the labels that policies and groups go by: a pod's, or those of a container that is in none.
func describe(m *pb.WorkloadAddresses, c bulkhead.Container) {
	slices.Sort(m.Addresses)
	m.Namespace = c.Workload.Namespace
	switch {
	case c.Pod != nil:
		m.Namespace, m.Labels, m.Labelled = c.Pod.Namespace, c.Pod.Labels, c.Pod.Labels != nil
	case c.Engine != "" && c.Engine != "unknown":
		m.Labels, m.Labelled = c.Labels, true
	}
}

// nodeAddresses are the host's own.
func nodeAddresses() (list []string) {
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			list = append(list, n.IP.String())
		}
	}
	return list
}

// bootTime is when this node's clock since boot was 0, by the clock of now.
func bootTime() time.Time {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return time.Now()
	}
	return time.Now().Add(-time.Duration(ts.Nano()))
}

func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}
