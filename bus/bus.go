// Package bus carries words between nodes and the control plane over NATS JetStream. Start with
// [Connect] and [Client.PublishAlerts].
//
// It promises that an alert whose publishing was answered without error is on the control plane's
// disk and is handed to it at least once, with doubles recognised by the alert's id; that a client
// always reconnects by itself; and that no type of NATS is seen outside. It does not keep alerts
// while the control plane is away (the agent's spool does) and knows no database or web page.
// The server to talk to is in bus/broker, apart, so that the agent does not link it.
package bus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// Errors that a caller decides by.
var (
	ErrAway = errors.New("nobody is connected at the other end")
	ErrFull = errors.New("the control plane holds as many alerts as it may; keep them and try later")
)

// MaxMessage bounds one message: an alert with every limit of package api used fits.
const MaxMessage = 8 << 20

// Options say how to reach the bus.
type Options struct {
	Credentials string               // file with address, certificate and key, as bus/broker writes it
	Node        string               // id of this node; empty for the control plane
	Log         *slog.Logger         // nil: silent
	Connected   func(connected bool) // told of every change, in order; may be nil
	Retry       time.Duration        // between attempts to connect; 0: one second
}

// Client is one end of the bus. It may be used before the other end is there.
type Client struct {
	o    Options
	stop context.CancelFunc
	done chan struct{}

	mu   sync.Mutex
	conn *nats.Conn          // nil while no connection was made
	js   jetstream.JetStream // of conn
	subs []subscription      // made again on every new connection
}

type subscription struct {
	subject, queue string
	handle         nats.MsgHandler
}

// Connect returns at once and connects in the background, for as long as it takes and as often as it takes.
func Connect(o Options) (*Client, error) {
	if o.Credentials == "" {
		return nil, errors.New("connect to the bus: name the credentials file (agent.json in the control plane's bus folder)")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Retry == 0 {
		o.Retry = time.Second
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &Client{o: o, stop: stop, done: make(chan struct{})}
	go c.run(ctx)
	return c, nil
}

// Connected reports whether a message sent now would find the other end.
func (c *Client) Connected() bool {
	conn, _ := c.current()
	return conn != nil && conn.IsConnected()
}

// Close ends the connection and waits for it.
func (c *Client) Close() {
	c.stop()
	<-c.done
}

// run keeps one connection. NATS reconnects by itself for a while; then the credentials are read
// again, because a control plane that was set up anew has another address, key and certificate.
func (c *Client) run(ctx context.Context) {
	defer close(c.done)
	said := ""
	for ctx.Err() == nil {
		closed, err := c.dial()
		if err != nil {
			if err.Error() != said {
				said = err.Error()
				c.o.Log.Warn("the bus is away", "err", err)
			}
			pause(ctx, c.o.Retry)
			continue
		}
		said = ""
		c.wait(ctx, closed)
	}
}

func (c *Client) wait(ctx context.Context, closed <-chan struct{}) {
	select {
	case <-closed:
	case <-ctx.Done():
		conn, _ := c.current()
		conn.Close()
		<-closed
	}
	c.mu.Lock()
	c.conn, c.js = nil, nil
	c.mu.Unlock()
}

func (c *Client) dial() (<-chan struct{}, error) {
	creds, err := ReadCredentials(c.o.Credentials)
	if err != nil {
		return nil, err
	}
	closed := make(chan struct{})
	options, err := c.options(creds, closed)
	if err != nil {
		return nil, fmt.Errorf("connect to the bus at %s: %w", creds.Address, err)
	}
	conn, err := nats.Connect(creds.Address, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to the bus at %s: %w (is the control plane up?)", creds.Address, err)
	}
	if err := c.adopt(conn); err != nil {
		conn.Close()
		return nil, fmt.Errorf("set up the bus connection: %w", err)
	}
	c.tell(true)
	return closed, nil
}

func (c *Client) adopt(conn *nats.Conn) error {
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(2*publishWindow), jetstream.WithPublishAsyncTimeout(publishTimeout))
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.js = conn, js
	for _, s := range c.subs {
		if _, err := conn.QueueSubscribe(s.subject, s.queue, s.handle); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) options(creds Credentials, closed chan struct{}) ([]nats.Option, error) {
	key, err := nkeys.FromSeed([]byte(creds.Seed))
	if err != nil {
		return nil, fmt.Errorf("key in %s: %w", c.o.Credentials, err)
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("key in %s: %w", c.o.Credentials, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(creds.Certificate)) {
		return nil, fmt.Errorf("certificate in %s: not PEM", c.o.Credentials)
	}
	return []nats.Option{
		nats.Name(c.name()),
		nats.Nkey(public, key.Sign),
		nats.Secure(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots}),
		nats.CustomInboxPrefix(creds.Inbox),
		nats.ReconnectBufSize(-1), // what cannot be sent now is an error: the caller keeps it
		nats.MaxReconnects(5),
		nats.ReconnectWait(c.o.Retry),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.lost(err) }),
		nats.ReconnectHandler(func(*nats.Conn) { c.tell(true) }),
		nats.ClosedHandler(func(*nats.Conn) { close(closed) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.o.Log.Warn("bus error", "err", err) }),
	}, nil
}

func (c *Client) lost(err error) {
	if err != nil {
		c.o.Log.Warn("the bus was lost; reconnecting", "err", err)
	}
	c.tell(false)
}

func (c *Client) tell(connected bool) {
	if c.o.Connected != nil {
		c.o.Connected(connected)
	}
}

func (c *Client) name() string {
	if c.o.Node == "" {
		return "control plane"
	}
	return "node " + c.o.Node
}

func (c *Client) current() (*nats.Conn, jetstream.JetStream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn, c.js
}

// subscribe holds for this connection and every later one. An equal queue makes replicas share the work.
func (c *Client) subscribe(subject, queue string, handle nats.MsgHandler) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs = append(c.subs, subscription{subject, queue, handle})
	if c.conn == nil {
		return nil
	}
	if _, err := c.conn.QueueSubscribe(subject, queue, handle); err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return nil
}

// request sends one message and waits for its answer.
func (c *Client) request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	conn, _ := c.current()
	if conn == nil {
		return nil, ErrAway
	}
	answer, err := conn.RequestWithContext(ctx, subject, data)
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrReconnectBufExceeded) {
		return nil, ErrAway
	}
	if err != nil {
		return nil, err
	}
	return answer.Data, nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
