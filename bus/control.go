package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
)

const (
	stream   = "ALERTS"
	consumer = "server"
	batch    = 512

	// maxStream bounds the alerts that the control plane has taken and not yet stored. At the bound
	// new ones are refused, so that they stay in the agents' spools; nothing taken is thrown away.
	maxStream = 256 << 20
	// duplicates is how long a doubled message is recognised; later ones are recognised by the store.
	duplicates = 10 * time.Minute
	// redeliver is how soon alerts come again that a control plane took and, being killed, never stored.
	redeliver = 5 * time.Second
	// idle is how long one request for alerts waits for the first.
	idle = 5 * time.Second
)

// Alerts hands arriving alerts to store until ctx ends. A batch is done only when store returns nil;
// otherwise, also when the process is killed, it comes again.
func (c *Client) Alerts(ctx context.Context, store func(context.Context, []bulkhead.Alert) error) error {
	for ctx.Err() == nil {
		source, err := c.source(ctx)
		if err != nil {
			if !errors.Is(err, ErrAway) {
				c.o.Log.Warn("the alert stream is not ready", "err", err)
			}
			pause(ctx, c.o.Retry)
			continue
		}
		for ctx.Err() == nil && err == nil {
			err = c.take(ctx, source, store)
		}
		if ctx.Err() == nil {
			c.o.Log.Debug("the alert stream was interrupted", "err", err)
			pause(ctx, c.o.Retry)
		}
	}
	return ctx.Err()
}

// source makes sure that stream and consumer exist as they should.
func (c *Client) source(ctx context.Context) (jetstream.Consumer, error) {
	conn, js := c.current()
	if conn == nil || !conn.IsConnected() {
		return nil, ErrAway
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: stream, Subjects: []string{"alerts.*"}, Storage: jetstream.FileStorage,
		Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, MaxBytes: maxStream, Duplicates: duplicates,
	})
	if err != nil {
		return nil, fmt.Errorf("make the alert stream: %w", err)
	}
	source, err := js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable: consumer, AckPolicy: jetstream.AckExplicitPolicy, AckWait: redeliver, MaxAckPending: 4 * batch,
	})
	if err != nil {
		return nil, fmt.Errorf("make the alert consumer: %w", err)
	}
	return source, nil
}

// take waits for one alert, then takes what else is there: alone it is fast, in a flood it is a batch.
func (c *Client) take(ctx context.Context, source jetstream.Consumer, store func(context.Context, []bulkhead.Alert) error) error {
	waiting, cancel := context.WithTimeout(ctx, idle)
	defer cancel()
	taken, err := collect(source.Fetch(1, jetstream.FetchContext(waiting)))
	if len(taken) == 0 && waiting.Err() != nil {
		return ctx.Err()
	}
	if err != nil || len(taken) == 0 {
		return err
	}
	more, err := collect(source.FetchNoWait(batch - 1))
	if err != nil {
		c.o.Log.Warn("alerts were not fetched", "err", err)
	}
	return c.finish(ctx, append(taken, more...), store)
}

func (c *Client) finish(ctx context.Context, taken []jetstream.Msg, store func(context.Context, []bulkhead.Alert) error) error {
	alerts := make([]bulkhead.Alert, 0, len(taken))
	for _, msg := range taken {
		if alert, ok := c.decode(msg); ok {
			alerts = append(alerts, alert)
		}
	}
	if len(alerts) > 0 {
		if err := store(ctx, alerts); err != nil {
			c.o.Log.Error("alerts were not stored and will come again", "err", err, "alerts", len(alerts))
			pause(ctx, c.o.Retry)
			return c.each(taken, jetstream.Msg.Nak)
		}
	}
	return c.each(taken, jetstream.Msg.Ack)
}

// decode refuses for good what will never be an alert: it would come back for ever.
func (c *Client) decode(msg jetstream.Msg) (bulkhead.Alert, bool) {
	var m pb.Alert
	if err := proto.Unmarshal(msg.Data(), &m); err != nil || m.GetId() == "" {
		c.o.Log.Warn("a message that is no alert was dropped", "subject", msg.Subject(), "bytes", len(msg.Data()))
		return bulkhead.Alert{}, false
	}
	return api.FromAlert(&m), true
}

func (c *Client) each(taken []jetstream.Msg, answer func(jetstream.Msg) error) error {
	for _, msg := range taken {
		if err := answer(msg); err != nil {
			return err
		}
	}
	return nil
}

func collect(fetched jetstream.MessageBatch, err error) ([]jetstream.Msg, error) {
	if err != nil {
		return nil, err
	}
	var out []jetstream.Msg
	for msg := range fetched.Messages() {
		out = append(out, msg)
	}
	return out, fetched.Error()
}

// Reports hands what nodes say of themselves to store; its error is answered to the node.
func (c *Client) Reports(store func(context.Context, *pb.NodeReport) error) error {
	return c.subscribe("nodes.*.report", "server", func(msg *nats.Msg) {
		ctx, cancel := context.WithTimeout(context.Background(), reportTimeout)
		defer cancel()
		answer := ""
		if err := read(ctx, msg, store); err != nil {
			answer = err.Error()
			c.o.Log.Warn("a node's report was refused", "subject", msg.Subject, "err", err)
		}
		if err := msg.Respond([]byte(answer)); err != nil {
			c.o.Log.Warn("a node's report was not answered", "subject", msg.Subject, "err", err)
		}
	})
}

// Flows hands what nodes counted to store; its error is answered to the node, which sends the same again.
func (c *Client) Flows(store func(context.Context, *pb.FlowReport) error) error {
	return c.subscribe("nodes.*.flows", "server", func(msg *nats.Msg) {
		ctx, cancel := context.WithTimeout(context.Background(), reportTimeout)
		defer cancel()
		answer := ""
		if err := readFlows(ctx, msg, store); err != nil {
			answer = err.Error()
			c.o.Log.Warn("a node's flows were refused", "subject", msg.Subject, "err", err)
		}
		if err := msg.Respond([]byte(answer)); err != nil {
			c.o.Log.Warn("a node's flows were not answered", "subject", msg.Subject, "err", err)
		}
	})
}

// Audits hands what audits of nodes found to store; its error is answered to the node, which sends the same again.
func (c *Client) Audits(store func(context.Context, *pb.AuditReport) error) error {
	return c.subscribe("nodes.*.audit", "server", func(msg *nats.Msg) {
		ctx, cancel := context.WithTimeout(context.Background(), reportTimeout)
		defer cancel()
		answer := ""
		if err := readAudit(ctx, msg, store); err != nil {
			answer = err.Error()
			c.o.Log.Warn("a node's audit was refused", "subject", msg.Subject, "err", err)
		}
		if err := msg.Respond([]byte(answer)); err != nil {
			c.o.Log.Warn("a node's audit was not answered", "subject", msg.Subject, "err", err)
		}
	})
}

func readAudit(ctx context.Context, msg *nats.Msg, store func(context.Context, *pb.AuditReport) error) error {
	report := &pb.AuditReport{}
	if err := proto.Unmarshal(msg.Data, report); err != nil {
		return fmt.Errorf("read the audit: %w", err)
	}
	if id := report.GetNode(); id == "" || msg.Subject != "nodes."+word(id)+".audit" {
		return fmt.Errorf("read the audit: it names node %.80q on %s", id, msg.Subject)
	}
	return store(ctx, report)
}

func readFlows(ctx context.Context, msg *nats.Msg, store func(context.Context, *pb.FlowReport) error) error {
	report := &pb.FlowReport{}
	if err := proto.Unmarshal(msg.Data, report); err != nil {
		return fmt.Errorf("read the flows: %w", err)
	}
	if id := report.GetNode(); id == "" || msg.Subject != "nodes."+word(id)+".flows" {
		return fmt.Errorf("read the flows: they name node %.80q on %s", id, msg.Subject)
	}
	return store(ctx, report)
}

// read believes the subject, which the broker checked, and refuses a report in another node's name.
func read(ctx context.Context, msg *nats.Msg, store func(context.Context, *pb.NodeReport) error) error {
	report := &pb.NodeReport{}
	if err := proto.Unmarshal(msg.Data, report); err != nil {
		return fmt.Errorf("read the report: %w", err)
	}
	id := report.GetNode().GetId()
	if id == "" || strings.TrimSuffix(strings.TrimPrefix(msg.Subject, "nodes."), ".report") != word(id) {
		return fmt.Errorf("read the report: it names node %.80q on %s", id, msg.Subject)
	}
	return store(ctx, report)
}

// Command asks one node to do something and waits for its answer; [ErrAway] when it is not connected.
func (c *Client) Command(ctx context.Context, node string, command *pb.NodeCommand) (*pb.NodeCommandAnswer, error) {
	data, err := proto.Marshal(command)
	if err != nil {
		return nil, fmt.Errorf("command to node %s: %w", node, err)
	}
	raw, err := c.request(ctx, "nodes."+word(node)+".command", data)
	if err != nil {
		return nil, fmt.Errorf("command to node %s: %w", node, err)
	}
	answer := &pb.NodeCommandAnswer{}
	if err := proto.Unmarshal(raw, answer); err != nil {
		return nil, fmt.Errorf("command to node %s: read its answer: %w", node, err)
	}
	return answer, nil
}
