package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/bus"
	"bulkhead/profile"
)

// deliver brings alerts and reports to the control plane for as long as the agent runs, and hears its commands.
func (a *Agent) deliver(ctx context.Context) error {
	client, err := a.connect(ctx)
	if err != nil {
		return nil // the context ended first
	}
	defer client.Close()
	if err := client.Commands(a.command); err != nil {
		return fmt.Errorf("listening to the control plane: %w", err)
	}
	go a.deliverAlerts(ctx, client)
	go a.deliverFlows(ctx, client)
	go a.deliverAudits(ctx, client)
	report := time.NewTicker(3 * time.Second)
	defer report.Stop()
	for {
		a.report(ctx, client)
		select {
		case <-ctx.Done():
			return nil
		case <-report.C:
		case <-a.changed:
			time.Sleep(50 * time.Millisecond) // changes come in groups
		}
	}
}

// connect waits for the credentials that the control plane writes when it starts.
func (a *Agent) connect(ctx context.Context) (*bus.Client, error) {
	for {
		client, err := bus.Connect(bus.Options{
			Credentials: a.options.Credentials, Node: a.options.Node, Log: a.log,
			Connected: func(bool) { a.spool.poke(); a.poke() },
		})
		if err == nil {
			return client, nil
		}
		a.problem("control plane", fmt.Sprintf("no way to the control plane yet: %v", err))
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func (a *Agent) deliverAlerts(ctx context.Context, client *bus.Client) {
	retry := time.NewTicker(2 * time.Second)
	defer retry.Stop()
	for {
		for a.deliverBatch(ctx, client) {
		}
		select {
		case <-ctx.Done():
			return
		case <-a.spool.fresh:
		case <-retry.C:
		}
	}
}

// deliverBatch reports whether there may be more.
func (a *Agent) deliverBatch(ctx context.Context, client *bus.Client) bool {
	list, at, err := a.spool.next()
	if err != nil || len(list) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := client.PublishAlerts(ctx, list); err != nil {
		a.problem("delivery", "alerts wait in the spool: "+err.Error())
		return false
	}
	a.problem("delivery", "")
	if err := a.spool.done(at, len(list)); err != nil {
		a.problem("spool", err.Error())
		return false
	}
	return true
}

// command does what the control plane asks.
func (a *Agent) command(ctx context.Context, c *pb.NodeCommand) *pb.NodeCommandAnswer {
	answer := &pb.NodeCommandAnswer{Answer: &pb.NodeAnswer{Node: a.options.Node}}
	began := time.Now()
	var err error
	switch c := c.Command.(type) {
	case *pb.NodeCommand_SetMode:
		err = a.setMode(ctx, c.SetMode.Workload, api.FromMode(c.SetMode.Mode), c.SetMode.Anyway)
	case *pb.NodeCommand_Approve:
		err = a.approve(ctx, api.FromApproval(c.Approve))
	case *pb.NodeCommand_GetProfile:
		answer.ProfileJson, err = a.profileOf(c.GetProfile.Workload)
	case *pb.NodeCommand_GetGrants:
		answer.GrantsJson, err = a.grantsOf(ctx, c.GetGrants.Workload)
	case *pb.NodeCommand_SetPolicies:
		err = a.setPolicies(c.SetPolicies.Documents)
	case *pb.NodeCommand_Network:
		err = a.setNetwork(c.Network)
	case *pb.NodeCommand_SetWebs:
		err = a.web.Set(c.SetWebs)
		a.poke()
	case *pb.NodeCommand_GetPortrait:
		answer.Portrait, err = a.web.Portrait(c.GetPortrait.Workload, c.GetPortrait.Digest)
	default:
		err = fmt.Errorf("this agent (%s) does not know that command: is it older than the control plane?", a.options.Version)
	}
	answer.Answer.Microseconds = time.Since(began).Microseconds()
	answer.Answer.Ok = err == nil
	if err != nil {
		answer.Answer.Error = err.Error()
	}
	return answer
}

func (a *Agent) profileOf(name string) ([]byte, error) {
	a.mu.Lock()
	w := a.workloads[name]
	var p bulkhead.Profile
	if w != nil {
		p = w.current()
	}
	a.mu.Unlock()
	if w == nil {
		return nil, fmt.Errorf("workload %q has never run on this node", name)
	}
	var doc bytes.Buffer
	err := profile.Write(&doc, p)
	return doc.Bytes(), err
}

func (a *Agent) report(ctx context.Context, client *bus.Client) {
	if !client.Connected() {
		return
	}
	a.problem("control plane", "")
	report, sent := a.makeReport()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := client.Report(ctx, report); err != nil {
		a.log.Warn("the control plane did not take the report", "err", err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for w, hash := range sent {
		w.sent = hash
	}
}

func (a *Agent) makeReport() (*pb.NodeReport, map[*workload]string) {
	a.mu.Lock()
	list := make([]*workload, 0, len(a.workloads))
	for _, w := range a.workloads {
		list = append(list, w)
	}
	a.mu.Unlock()
	report := &pb.NodeReport{Node: a.nodeReport()}
	sent := map[*workload]string{}
	for _, w := range list {
		r, hash := a.workloadReport(w)
		report.Workloads = append(report.Workloads, r)
		if hash != "" {
			sent[w] = hash
		}
		report.Node.Containers += r.Workload.Containers
	}
	return report, sent
}

func (a *Agent) workloadReport(w *workload) (*pb.WorkloadReport, string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := w.current()
	m := api.ToWorkload(w.Workload, w.Image, w.Mode)
	m.Containers = int32(len(w.containers))
	m.Sections = api.ToSections(p.Completeness)
	m.Completeness = 1
	for _, c := range p.Completeness {
		m.Completeness = min(m.Completeness, c.Score)
	}
	m.Ready = true
	if err := profile.Gate(p); err != nil {
		m.Ready, m.BlockedBy = false, err.Error()
	}
	m.Nodes = []string{a.options.Node}
	m.LastSeen = timestamppb.New(w.seen)
	m.Enforcement = a.backends()
	m.Trust = a.trustOf(w)
	m.Web = a.web.State(w.Name)
	r := &pb.WorkloadReport{Workload: m}
	var doc bytes.Buffer
	if profile.Write(&doc, p) != nil {
		return r, ""
	}
	sum := sha256.Sum256(doc.Bytes())
	hash := hex.EncodeToString(sum[:])
	if hash != w.sent {
		r.ProfileJson = doc.Bytes()
	}
	return r, hash
}

func (a *Agent) nodeReport() *pb.Node {
	n := &pb.Node{
		Id: a.options.Node, Name: a.options.Node, Cluster: a.options.Cluster, Kernel: a.kernel.Features().Release, Version: a.options.Version,
		LastSeen: timestamppb.Now(), Connected: true, Backends: a.backends(), MemoryBytes: resident(), Policies: a.trust.gate.Digest(), Web: a.web.Digest(),
	}
	n.Events, n.LostEvents = a.kernel.Lost()
	n.FoldedEvents = a.enforcer.Folded()
	n.SpooledAlerts, n.DroppedAlerts = a.spool.stats()
	for _, e := range a.containers.Engines() {
		n.Engines = append(n.Engines, &pb.Engine{Name: e.Name, Socket: e.Socket, Version: e.Version, Error: e.Error})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, text := range a.problems {
		n.Problems = append(n.Problems, text)
	}
	slices.Sort(n.Problems)
	return n
}

// backends says what serves each kind of decision here, and what it cannot do.
func (a *Agent) backends() []*pb.Enforcement {
	list := []*pb.Enforcement{
		{Kind: "executables", Backend: "lsm"}, {Kind: "syscalls", Backend: "seccomp"}, {Kind: "files", Backend: "lsm"}, {Kind: "network", Backend: "cgroup"},
	}
	if !a.kernel.Features().LSM {
		list[0].Backend, list[2].Backend = "tracepoint", "tracepoint"
		list[0].Limits = "a program that may not run is killed before its first instruction, instead of failing to start"
		list[2].Limits = "a process is killed when open returns: before it can read or write, but a file it created or truncated stays so; writes outside the profile to ordinary places are reported"
	}
	if limits := a.kernel.Features().Limits; !a.kernel.Features().LSM && len(limits) > 0 {
		list[0].Limits += "; " + strings.Join(limits, "; ")
	}
	if a.keeper == nil {
		list[1].Backend, list[1].Limits = "tracepoint", "a process is killed at the call, some of which have taken effect by then"
	}
	return list
}

func resident() uint64 {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}
