package server

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/store"
	"bulkhead/topology"
)

// gather is how long changes are waited for that come together, as of the containers of a pod.
const gather = 5 * time.Millisecond

// network brings every node what it decides about packets by: policies, and where everybody is. It is sent again as soon
// as anything of it changes, whole, so that a node is right whatever it missed.
type network struct {
	s     *Server
	asked chan struct{}

	mu      sync.Mutex
	sent    map[string]*pb.NetworkState // by node: what it took last
	telling map[string]bool             // nodes that are being told; true: there is news meanwhile
}

func newNetwork(s *Server) *network {
	return &network{s: s, asked: make(chan struct{}, 1), sent: map[string]*pb.NetworkState{}, telling: map[string]bool{}}
}

// ask never waits.
func (n *network) ask() {
	select {
	case n.asked <- struct{}{}:
	default:
	}
}

func (n *network) run() {
	for {
		select {
		case <-n.s.running.Done():
			return
		case <-n.asked:
		}
		time.Sleep(gather)
		if err := n.spread(n.s.running); err != nil && n.s.running.Err() == nil {
			n.s.log.Error("nodes were not told of the network", "err", err)
		}
	}
}

// spread sends what each node does not have and waits for none: one that hangs keeps nothing from the others. It is told
// again when it has answered, if there is news by then.
func (n *network) spread(ctx context.Context) error {
	states, err := n.states(ctx)
	for node, state := range states {
		if !n.begin(node) {
			continue
		}
		go func() {
			n.tell(ctx, node, state)
			if n.finish(node) {
				n.ask()
			}
		}()
	}
	return err
}

func (n *network) begin(node string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, busy := n.telling[node]
	n.telling[node] = busy
	return !busy
}

func (n *network) finish(node string) (news bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	news = n.telling[node]
	delete(n.telling, node)
	return news
}

// behind reports whether a node has another state than it took from us: it lost it, or we are new.
func (n *network) behind(r *pb.FlowReport) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if sent := n.sent[r.Node]; sent != nil && sent.Generation == r.Network {
		return false
	}
	delete(n.sent, r.Node) // so that it is sent again
	return true
}

// push sends what each node does not have, and waits for their answers.
func (n *network) push(ctx context.Context) ([]answer, error) {
	states, err := n.states(ctx)
	var wait sync.WaitGroup
	var mu sync.Mutex
	var answers []answer
	for node, state := range states {
		wait.Go(func() {
			a := n.tell(ctx, node, state)
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, a)
		})
	}
	wait.Wait()
	return answers, err
}

// states are what each node should have; those of a cluster are one.
func (n *network) states(ctx context.Context) (map[string]*pb.NetworkState, error) {
	segments, err := n.s.db.Segments(ctx)
	if err != nil {
		return nil, err
	}
	cut, err := n.s.quarantined(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]*pb.NetworkState{}
	for cluster, nodes := range n.s.directory.clusters() {
		state := n.s.directory.state(cluster)
		state.Segments, state.Quarantined = inForce(segments), cut
		for _, node := range nodes {
			all[node] = state
		}
	}
	return all, nil
}

// inForce are those that nodes need: what is only kept decides nothing.
func inForce(list []store.Segment) (out []*pb.Segment) {
	for _, s := range list {
		if s.State != stateKept || s.Kind == kindNamespace {
			out = append(out, toSegment(s))
		}
	}
	return out
}

func (n *network) tell(ctx context.Context, node string, state *pb.NetworkState) answer {
	n.mu.Lock()
	last := n.sent[node]
	n.mu.Unlock()
	mine := proto.CloneOf(state)
	if last != nil {
		mine.Generation = last.Generation
		if proto.Equal(mine, last) {
			return answer{&pb.NodeAnswer{Node: node, Ok: true}, false}
		}
	}
	mine.Generation = uint64(time.Now().UnixNano())
	a := n.s.send(ctx, node, &pb.NodeCommand{Command: &pb.NodeCommand_Network{Network: mine}})
	if !a.Ok {
		n.s.log.Warn("a node does not have the network's state", "node", node, "err", a.Error)
		return a
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if last := n.sent[node]; last == nil || last.Generation < mine.Generation {
		n.sent[node] = mine
	}
	return a
}

func (s *Server) quarantined(ctx context.Context) (names []string, err error) {
	list, err := s.db.Quarantines(ctx)
	for _, q := range list {
		names = append(names, q.Workload)
	}
	return names, err
}

// documents reads the policies and namespaces that are kept.
func (s *Server) documents(ctx context.Context) (*topology.Documents, error) {
	list, err := s.db.Segments(ctx)
	all := &topology.Documents{}
	for _, one := range list {
		d, derr := topology.ReadPolicies(one.Name, strings.NewReader(one.Document), one.Namespace)
		if derr != nil {
			s.log.Warn("a kept policy cannot be read", "name", one.Name, "err", derr)
			continue
		}
		all.Policies, all.Namespaces = append(all.Policies, d.Policies...), append(all.Namespaces, d.Namespaces...)
	}
	return all, err
}

func text(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
