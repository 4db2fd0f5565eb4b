package agent

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/bpf"
	"bulkhead/rule"
	"bulkhead/sensor/first"
	"bulkhead/sensor/request"
)

const (
	maxAskedEdges = 10_000 // of which exchanges wait to be reported
	maxShapes     = 64     // of one edge in one report; what is more is one shape
	otherShapes   = "(other)"
)

// exchanges of one edge, by their shapes, since they were reported last.
type exchanges struct {
	shapes map[string]*pb.NodeRequest
	at     time.Time
}

// readsAlong reports whether somebody wants to know what a workload is asked.
func (a *Agent) readsAlong(workload string) bool {
	return slices.ContainsFunc(a.options.ReadAlong, func(pattern string) bool { return rule.MatchText(pattern, workload) })
}

// followTurns reads what connections are asked.
func (a *Agent) followTurns(ctx context.Context) error {
	turns, err := a.kernel.Turns()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { turns.Close() })
	defer stop()
	reader := request.New()
	for {
		t, err := turns.Next()
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		a.flows.turn(reader, &t, time.Now())
	}
}

func (f *flows) turn(r *request.Reader, t *bpf.Turn, now time.Time) {
	byClient := (t.Role == bpf.FlowClient) == (t.Incoming == 0)
	protocol := f.protocolOf(t, byClient, now)
	e, ended := r.Turn(request.Turn{Connection: t.Socket, At: time.Duration(t.At), ByClient: byClient, Protocol: protocol, Said: t.Bytes()})
	if !ended {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	edge := f.asked[t.FlowKey]
	if edge == nil {
		if len(f.asked) >= maxAskedEdges {
			return
		}
		edge = &exchanges{shapes: map[string]*pb.NodeRequest{}}
		f.asked[t.FlowKey] = edge
	}
	edge.at = now
	edge.add(e)
}

// protocolOf is what the connection's first bytes said, seconds or days ago; or these.
func (f *flows) protocolOf(t *bpf.Turn, byClient bool, now time.Time) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if k, ok := f.protocols[t.FlowKey]; ok {
		return k.text
	}
	protocol := first.Protocol(t.Bytes(), byClient, transport(t.Protocol), t.Port)
	if protocol != "" && len(f.protocols) < maxNames {
		f.protocols[t.FlowKey] = known{protocol, now}
	}
	return protocol
}

func (e *exchanges) add(x request.Exchange) {
	shape := x.Shape
	m := e.shapes[shape]
	if m == nil {
		if len(e.shapes) >= maxShapes {
			shape = otherShapes
		}
		if m = e.shapes[shape]; m == nil {
			m = &pb.NodeRequest{Shape: shape}
			e.shapes[shape] = m
		}
	}
	took := uint64(x.Took.Microseconds())
	m.Answered++
	m.TookSumMicroseconds += took
	m.TookMaxMicroseconds = max(m.TookMaxMicroseconds, took)
	switch x.Result {
	case request.Rejected:
		m.Rejected++
	case request.Failed:
		m.Failed++
	}
}

// addRequests moves what was asked over an edge into its report.
func (f *flows) addRequests(m *pb.NodeFlow, seen bpf.FlowKey) {
	edge := f.asked[seen]
	if edge == nil {
		return
	}
	delete(f.asked, seen)
	for _, have := range m.Requests { // of a report that waits
		if more := edge.shapes[have.Shape]; more != nil {
			delete(edge.shapes, have.Shape)
			have.Answered += more.Answered
			have.Rejected += more.Rejected
			have.Failed += more.Failed
			have.TookSumMicroseconds += more.TookSumMicroseconds
			have.TookMaxMicroseconds = max(have.TookMaxMicroseconds, more.TookMaxMicroseconds)
		}
	}
	for _, more := range edge.shapes {
		if len(m.Requests) <= maxShapes {
			m.Requests = append(m.Requests, more)
		}
	}
}
