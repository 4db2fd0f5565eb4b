package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/bus"
	"bulkhead/store"
)

const (
	// commandTime is how long a node may take to put something in force.
	commandTime = 15 * time.Second
	// insist is how long a node is left in peace after it refused or failed.
	insist = 30 * time.Second
)

// answer is a node's, or that it gave none: then it may have done it or not, and is asked again when it is back.
type answer struct {
	*pb.NodeAnswer
	away bool
}

// each sends one command to several nodes at once and waits for all of them.
func (s *Server) each(ctx context.Context, nodes []string, command *pb.NodeCommand) []answer {
	out := make([]answer, len(nodes))
	var wait sync.WaitGroup
	for i, node := range nodes {
		wait.Go(func() { out[i] = s.send(ctx, node, command) })
	}
	wait.Wait()
	return out
}

// send outlives the caller: a person who hangs up has decided all the same.
func (s *Server) send(ctx context.Context, node string, command *pb.NodeCommand) answer {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commandTime)
	defer cancel()
	started := time.Now()
	got, err := s.bus.Command(ctx, node, command)
	switch {
	case errors.Is(err, bus.ErrAway):
		return answer{&pb.NodeAnswer{Node: node, Error: "the node is not connected; it gets this when it is back"}, true}
	case err != nil:
		return answer{&pb.NodeAnswer{Node: node, Error: "the node did not answer; it is asked again: " + err.Error()}, true}
	case got.Answer == nil:
		return answer{&pb.NodeAnswer{Node: node, Error: "the node's answer is empty; is its agent older than the control plane?"}, false}
	}
	got.Answer.Node, got.Answer.Error = node, api.Text(got.Answer.Error)
	got.Answer.Microseconds = time.Since(started).Microseconds()
	return answer{got.Answer, false}
}

func allRefused(answers []answer) bool {
	for _, a := range answers {
		if a.Ok || a.away {
			return false
		}
	}
	return len(answers) > 0
}

func plain(answers []answer) []*pb.NodeAnswer {
	var out []*pb.NodeAnswer
	for _, a := range answers {
		out = append(out, a.NodeAnswer)
	}
	return out
}

func refusals(answers []*pb.NodeAnswer) (err error) {
	for _, a := range answers {
		if !a.Ok {
			err = errors.Join(err, errors.New(a.Node+": "+a.Error))
		}
	}
	return err
}

// settle brings nodes to what people decided: after each report it sends what the node does not have.
type settle struct {
	s    *Server
	asks chan string

	mu    sync.Mutex
	busy  map[string]bool      // nodes being settled
	tried map[string]time.Time // by node and command: when it last did not work
}

func newSettle(s *Server) *settle {
	return &settle{s: s, asks: make(chan string, 256), busy: map[string]bool{}, tried: map[string]time.Time{}}
}

// ask never waits: a node that is not served now reports again in a few seconds.
func (t *settle) ask(node string) {
	select {
	case t.asks <- node:
	default:
	}
}

func (t *settle) run() {
	var wait sync.WaitGroup
	defer wait.Wait()
	for {
		select {
		case <-t.s.running.Done():
			return
		case node := <-t.asks:
			if t.begin(node) {
				wait.Go(func() { defer t.end(node); t.node(t.s.running, node) })
			}
		}
	}
}

func (t *settle) node(ctx context.Context, node string) {
	if err := t.policies(ctx, node); err != nil && ctx.Err() == nil {
		t.s.log.Error("a node's policies were not settled", "node", node, "err", err)
	}
	if err := t.web(ctx, node); err != nil && ctx.Err() == nil {
		t.s.log.Error("a node's layer-7 firewall was not settled", "node", node, "err", err)
	}
	if err := t.modes(ctx, node); err != nil && ctx.Err() == nil {
		t.s.log.Error("a node's modes were not settled", "node", node, "err", err)
	}
	if err := t.approvals(ctx, node); err != nil && ctx.Err() == nil {
		t.s.log.Error("a node's approvals were not settled", "node", node, "err", err)
	}
}

// policies brings a node to the documents that are applied: it reports the digest of those it has.
func (t *settle) policies(ctx context.Context, node string) error {
	command, digest, err := t.s.policyCommand(ctx)
	if err != nil {
		return err
	}
	n, err := t.s.nodeSaid(ctx, node)
	if err != nil || n.Policies == digest {
		return err
	}
	t.send(ctx, node, "policies "+digest, command)
	return nil
}

// web brings a node to the settings of the layer-7 firewall: it reports the digest of those it has.
func (t *settle) web(ctx context.Context, node string) error {
	all, err := t.s.webSettings(ctx)
	if err != nil {
		return err
	}
	n, err := t.s.nodeSaid(ctx, node)
	digest := api.WebDigest(all)
	if err != nil || n.Web == digest {
		return err
	}
	t.send(ctx, node, "web "+digest, setWebs(all, ""))
	return nil
}

func (t *settle) modes(ctx context.Context, node string) error {
	decisions, err := t.s.db.Decisions(ctx)
	if err != nil || len(decisions) == 0 {
		return err
	}
	reports, err := t.s.db.NodeWorkloads(ctx, node)
	if err != nil {
		return err
	}
	for _, report := range reports {
		wish, ok := decisions[report.Name]
		if !ok || modeOf(report) == wish.Mode {
			continue
		}
		t.send(ctx, node, "mode "+report.Name+" "+modeDetail(wish.Mode, wish.Anyway), setModeCommand(wish))
	}
	return nil
}

func (t *settle) approvals(ctx context.Context, node string) error {
	pending, err := t.s.db.PendingApprovals(ctx, node)
	if err != nil {
		return err
	}
	for _, p := range pending {
		if t.send(ctx, node, "approval "+p.ID, approveCommand(p.Approval)) {
			if err := t.s.db.Delivered(ctx, p.ID, node); err != nil {
				return err
			}
		}
	}
	return nil
}

// send tries once in a while and says what came of it.
func (t *settle) send(ctx context.Context, node, what string, command *pb.NodeCommand) bool {
	key := node + " " + what
	if !t.due(key) {
		return false
	}
	got := t.s.send(ctx, node, command)
	if !got.Ok {
		t.failed(key)
		t.s.log.Warn("a node does not have what was decided", "node", node, "what", what, "err", got.Error)
		return false
	}
	t.s.log.Info("a node was brought to what was decided", "node", node, "what", what)
	return true
}

func (t *settle) begin(node string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy[node] {
		return false
	}
	t.busy[node] = true
	return true
}

func (t *settle) end(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.busy, node)
}

func (t *settle) due(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.tried[key]) >= insist
}

func (t *settle) failed(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, at := range t.tried {
		if time.Since(at) >= insist {
			delete(t.tried, k)
		}
	}
	t.tried[key] = time.Now()
}

func modeOf(report store.Workload) bulkhead.Mode { return api.FromMode(workloadOf(report).GetMode()) }

// workloadOf reads what a node said; nil where that cannot be read.
func workloadOf(report store.Workload) *pb.Workload {
	m := &pb.Workload{}
	if fromJSON.Unmarshal([]byte(report.Report), m) != nil {
		return nil
	}
	return m
}
