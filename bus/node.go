package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
	publishWindow  = 512              // alerts on their way at once
	publishTimeout = 10 * time.Second // for the answer to one
	reportTimeout  = 10 * time.Second
	commandTimeout = 30 * time.Second
)

// PublishAlerts returns nil once every alert is on the control plane's disk. After an error keep
// them all and send them all again: one that had arrived is recognised and dropped. An alert sent
// again with a higher Count brings the stored one up to date.
func (c *Client) PublishAlerts(ctx context.Context, alerts []bulkhead.Alert) error {
	for len(alerts) > 0 {
		n := min(len(alerts), publishWindow)
		if err := c.publish(ctx, alerts[:n]); err != nil {
			return fmt.Errorf("publish alerts: %w", err)
		}
		alerts = alerts[n:]
	}
	return nil
}

func (c *Client) publish(ctx context.Context, alerts []bulkhead.Alert) error {
	conn, js := c.current()
	if conn == nil || !conn.IsConnected() {
		return ErrAway
	}
	answers := make([]jetstream.PubAckFuture, 0, len(alerts))
	for _, a := range alerts {
		msg, err := c.message(a)
		if err != nil {
			return err
		}
		answer, err := js.PublishMsgAsync(msg, jetstream.WithExpectStream(stream))
		if err != nil {
			return err
		}
		answers = append(answers, answer)
	}
	return await(ctx, answers)
}

// message gives an alert the name by which the stream knows a double. The count is part of it,
// so that an alert which was folded further is a new message.
func (c *Client) message(a bulkhead.Alert) (*nats.Msg, error) {
	if a.ID == "" || len(a.ID) > 256 || strings.ContainsFunc(a.ID, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("alert id %.40q: use 1 to 256 printable ASCII characters", a.ID)
	}
	data, err := proto.Marshal(api.ToAlert(a))
	if err != nil {
		return nil, fmt.Errorf("encode alert %s: %w", a.ID, err)
	}
	msg := nats.NewMsg("alerts." + word(c.o.Node))
	msg.Header.Set(nats.MsgIdHdr, a.ID+"#"+strconv.Itoa(a.Count))
	msg.Data = data
	return msg, nil
}

func await(ctx context.Context, answers []jetstream.PubAckFuture) error {
	for _, answer := range answers {
		select {
		case <-answer.Ok():
		case err := <-answer.Err():
			return explain(err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// explain turns the errors that mean "later" into this package's own.
func explain(err error) error {
	var refused *jetstream.APIError
	switch {
	case errors.As(err, &refused) && (refused.ErrorCode == codeStoreFailed || refused.ErrorCode == codeNoResources):
		return fmt.Errorf("%w (%s)", ErrFull, refused.Description)
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return ErrAway
	}
	return err
}

// Error codes of JetStream for a stream that is at its bound and for a disk that is full.
const (
	codeStoreFailed jetstream.ErrorCode = 10077
	codeNoResources jetstream.ErrorCode = 10023
)

// Report tells the control plane about this node; nil means that it has stored it.
func (c *Client) Report(ctx context.Context, report *pb.NodeReport) error {
	if err := c.tellServer(ctx, "report", report); err != nil {
		return fmt.Errorf("report to the control plane: %w", err)
	}
	return nil
}

// ReportFlows tells who talked to whom; nil means that it is stored. After an error the same report may be sent again.
func (c *Client) ReportFlows(ctx context.Context, report *pb.FlowReport) error {
	if err := c.tellServer(ctx, "flows", report); err != nil {
		return fmt.Errorf("report flows to the control plane: %w", err)
	}
	return nil
}

// ReportAudit tells what an audit of this node found; nil means that it is stored.
func (c *Client) ReportAudit(ctx context.Context, report *pb.AuditReport) error {
	if err := c.tellServer(ctx, "audit", report); err != nil {
		return fmt.Errorf("report an audit to the control plane: %w", err)
	}
	return nil
}

func (c *Client) tellServer(ctx context.Context, what string, report proto.Message) error {
	data, err := proto.Marshal(report)
	if err != nil {
		return err
	}
	if len(data) > MaxMessage {
		return fmt.Errorf("%d bytes are more than the %d of one message (send less at once)", len(data), MaxMessage)
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	answer, err := c.request(ctx, "nodes."+word(c.o.Node)+"."+what, data)
	if err != nil {
		return err
	}
	if len(answer) > 0 {
		return fmt.Errorf("it answered: %.500q", answer)
	}
	return nil
}

// Commands hands what the control plane asks of this node to handle, one after the other, and sends its answers back.
func (c *Client) Commands(handle func(context.Context, *pb.NodeCommand) *pb.NodeCommandAnswer) error {
	return c.subscribe("nodes."+word(c.o.Node)+".command", "node", func(msg *nats.Msg) {
		ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
		defer cancel()
		answer, err := proto.Marshal(c.obey(ctx, msg.Data, handle))
		if err == nil {
			err = msg.Respond(answer)
		}
		if err != nil {
			c.o.Log.Warn("answer to a command was not sent", "err", err)
		}
	})
}

func (c *Client) obey(ctx context.Context, data []byte, handle func(context.Context, *pb.NodeCommand) *pb.NodeCommandAnswer) *pb.NodeCommandAnswer {
	started := time.Now()
	command := &pb.NodeCommand{}
	if err := proto.Unmarshal(data, command); err != nil {
		return c.refusal("the command cannot be read; is this agent older than the control plane? " + err.Error())
	}
	answer := handle(ctx, command)
	if answer == nil {
		return c.refusal("the agent has no answer to this command; is it older than the control plane?")
	}
	if answer.Answer == nil {
		answer.Answer = &pb.NodeAnswer{Ok: true}
	}
	if answer.Answer.Microseconds == 0 {
		answer.Answer.Microseconds = time.Since(started).Microseconds()
	}
	answer.Answer.Node = c.o.Node
	return answer
}

func (c *Client) refusal(why string) *pb.NodeCommandAnswer {
	return &pb.NodeCommandAnswer{Answer: &pb.NodeAnswer{Node: c.o.Node, Error: api.Text(why)}}
}
