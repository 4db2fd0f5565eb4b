package bus_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/bus"
	"bulkhead/bus/broker"
)

func certificate(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

type place struct {
	dir  string
	cert tls.Certificate
	pem  []byte
}

func newPlace(t *testing.T) place {
	cert, text := certificate(t)
	return place{t.TempDir(), cert, text}
}

func (p place) start(t *testing.T, listen string) *broker.Broker {
	t.Helper()
	b, err := broker.Start(broker.Options{Dir: p.dir, Listen: listen, Certificate: p.cert, PEM: p.pem})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func connect(t *testing.T, credentials, node string) *bus.Client {
	t.Helper()
	c, err := bus.Connect(bus.Options{Credentials: credentials, Node: node, Retry: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("did not happen within 10 seconds: ", what)
		}
	}
}

// shelf collects alerts as the control plane's store would.
type shelf struct {
	mu    sync.Mutex
	count map[string]int
	fail  error
}

func (s *shelf) store(_ context.Context, alerts []bulkhead.Alert) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	for _, a := range alerts {
		s.count[a.ID]++
	}
	return nil
}

func (s *shelf) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.count)
}

func (s *shelf) setFail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func drain(t *testing.T, c *bus.Client) *shelf {
	s := &shelf{count: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Alerts(ctx, s.store) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

func alerts(from, to int) []bulkhead.Alert {
	var out []bulkhead.Alert
	for i := from; i < to; i++ {
		out = append(out, bulkhead.Alert{ID: fmt.Sprintf("boot-%d", i), Count: 1, Node: "a", Message: "m"})
	}
	return out
}

// publish sends until it is answered, as the agent's spool does.
func publish(t *testing.T, c *bus.Client, list []bulkhead.Alert) {
	t.Helper()
	var err error
	eventually(t, "alerts published", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err = c.PublishAlerts(ctx, list)
		if err != nil && !errors.Is(err, bus.ErrAway) {
			t.Log(err)
		}
		return err == nil
	})
}

func TestAlertsArriveOnce(t *testing.T) {
	t.Parallel()
	b := newPlace(t).start(t, "127.0.0.1:0")
	got := drain(t, connect(t, b.Control(), ""))
	node := connect(t, b.Agent(), "node.with dots")
	publish(t, node, alerts(0, 1000))
	publish(t, node, alerts(0, 1000)) // as a spool that did not hear the answer
	publish(t, node, alerts(1000, 1001))
	eventually(t, "1001 alerts", func() bool { return got.len() == 1001 })
	for id, n := range got.count {
		if n != 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}
}

// What the store could not take comes again; what arrived before a restart is still there after it.
func TestStoreFailsAndBrokerRestarts(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	b := p.start(t, "127.0.0.1:0")
	control, node := connect(t, b.Control(), ""), connect(t, b.Agent(), "a")
	got := drain(t, control)
	got.setFail(errors.New("disk full"))
	publish(t, node, alerts(0, 50))
	time.Sleep(50 * time.Millisecond)
	b.Close()
	if err := node.PublishAlerts(t.Context(), alerts(50, 51)); err == nil {
		t.Error("an alert was acknowledged by nobody")
	}
	got.setFail(nil)
	p.start(t, "127.0.0.1:0") // another port: clients read their credentials again
	publish(t, node, alerts(50, 60))
	eventually(t, "60 alerts", func() bool { return got.len() == 60 })
}

func TestReportsAndCommands(t *testing.T) {
	t.Parallel()
	b := newPlace(t).start(t, "127.0.0.1:0")
	control, node := connect(t, b.Control(), ""), connect(t, b.Agent(), "a")
	var seen sync.Map
	if err := control.Reports(func(_ context.Context, r *pb.NodeReport) error {
		seen.Store(r.Node.Id, true)
		if len(r.Workloads) > 0 {
			return errors.New("too many")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	node.Commands(func(_ context.Context, c *pb.NodeCommand) *pb.NodeCommandAnswer {
		return &pb.NodeCommandAnswer{Answer: &pb.NodeAnswer{Ok: c.GetSetMode().GetWorkload() == "w"}}
	})
	eventually(t, "report answered", func() bool {
		return node.Report(t.Context(), &pb.NodeReport{Node: &pb.Node{Id: "a"}}) == nil
	})
	if err := node.Report(t.Context(), &pb.NodeReport{Node: &pb.Node{Id: "b"}}); err == nil {
		t.Error("a node reported in another's name")
	}
	err := node.Report(t.Context(), &pb.NodeReport{Node: &pb.Node{Id: "a"}, Workloads: []*pb.WorkloadReport{{}}})
	if err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("the refusal did not reach the node: %v", err)
	}
	command := &pb.NodeCommand{Command: &pb.NodeCommand_SetMode{SetMode: &pb.SetModeRequest{Workload: "w"}}}
	answer, err := control.Command(t.Context(), "a", command)
	if err != nil || !answer.Answer.Ok || answer.Answer.Node != "a" {
		t.Errorf("answer %v, %v", answer, err)
	}
	if _, err := control.Command(t.Context(), "nobody", command); !errors.Is(err, bus.ErrAway) {
		t.Errorf("a node that is not there: %v", err)
	}
}

// An agent's key opens no more than an agent needs, and nobody gets in without a key or TLS.
func TestAgentIsConfined(t *testing.T) {
	t.Parallel()
	b := newPlace(t).start(t, "127.0.0.1:0")
	for _, path := range []string{b.Agent(), b.Control()} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", path, info.Mode(), err)
		}
	}
	creds, err := bus.ReadCredentials(b.Agent())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nats.Connect(strings.Replace(creds.Address, "tls:", "nats:", 1), nats.Timeout(time.Second)); err == nil {
		t.Error("connected without a key")
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(creds.Certificate))
	key, _ := nkeys.FromSeed([]byte(creds.Seed))
	public, _ := key.PublicKey()
	refused := make(chan error, 8)
	conn, err := nats.Connect(creds.Address, nats.Nkey(public, key.Sign), nats.Secure(&tls.Config{RootCAs: pool}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, subject := range []string{"nodes.a.command", "$JS.API.STREAM.DELETE.ALERTS", "$JS.API.CONSUMER.MSG.NEXT.ALERTS.server"} {
		conn.Publish(subject, nil)
		conn.Flush()
		expect(t, refused, "publish to "+subject)
	}
	for _, subject := range []string{"alerts.>", ">", "_CONTROL.>"} {
		conn.SubscribeSync(subject)
		conn.Flush()
		expect(t, refused, "subscribe to "+subject)
	}
}

func expect(t *testing.T, refused chan error, what string) {
	t.Helper()
	select {
	case err := <-refused:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(2 * time.Second):
		t.Errorf("an agent may %s", what)
	}
}

// The agent may be started first: it connects when the control plane has written its credentials.
func TestCredentialsComeLater(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	node := connect(t, filepath.Join(p.dir, "agent.json"), "a")
	if err := node.PublishAlerts(t.Context(), alerts(0, 1)); !errors.Is(err, bus.ErrAway) {
		t.Errorf("published to nobody: %v", err)
	}
	b := p.start(t, "127.0.0.1:0")
	got := drain(t, connect(t, b.Control(), ""))
	publish(t, node, alerts(0, 1))
	eventually(t, "one alert", func() bool { return got.len() == 1 })
}

func TestBadCredentials(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"empty": "", "cut": `{"address":`, "keyless": `{"address":"tls://x"}`} {
		path := filepath.Join(t.TempDir(), "c.json")
		os.WriteFile(path, []byte(text), 0o600)
		if _, err := bus.ReadCredentials(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := bus.Connect(bus.Options{}); err == nil {
		t.Error("connected without credentials")
	}
}

func TestBadAlertID(t *testing.T) {
	t.Parallel()
	b := newPlace(t).start(t, "127.0.0.1:0")
	node := connect(t, b.Agent(), "a")
	eventually(t, "connection", node.Connected)
	for _, id := range []string{"", "a\r\nNats-Msg-Id: x", strings.Repeat("x", 300), "\xff"} {
		if err := node.PublishAlerts(t.Context(), []bulkhead.Alert{{ID: id}}); err == nil || errors.Is(err, bus.ErrAway) {
			t.Errorf("id %.20q: %v", id, err)
		}
	}
}
