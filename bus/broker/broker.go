// Package broker is the NATS server that the control plane brings with it. Start with [Start].
//
// It promises that nobody speaks to it without TLS and a key, that an agent's key can publish alerts
// and reports and hear commands and nothing else, and that what it has taken survives kill -9. It is
// not for agents, which need package bus alone, and not used where an external cluster is.
package broker

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"bulkhead/bus"
)

// Options say where the broker lives.
type Options struct {
	Dir         string          // its files; made when absent, readable by its owner alone
	Listen      string          // "127.0.0.1:4333"; port 0 takes a free one
	Address     string          // HOST:PORT by which agents reach it; empty: where it listens
	Certificate tls.Certificate // shown to clients
	PEM         []byte          // the same certificate, for the credentials that clients get
	Log         *slog.Logger
}

// Broker is a running server.
type Broker struct {
	server *server.Server
	dir    string
}

const (
	ready = 10 * time.Second

	// maxStore bounds the disk: the alert stream's 256 MiB and room for its index.
	maxStore = 320 << 20
	// maxMemory bounds streams held in memory; there are none.
	maxMemory = 16 << 20
)

// Start returns once clients can connect; their credentials are then in [Broker.Control] and [Broker.Agent].
func Start(o Options) (*Broker, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start the bus: %w", err)
	}
	b := &Broker{dir: o.Dir}
	control, err := key(b.Control())
	if err != nil {
		return nil, fmt.Errorf("start the bus: %w", err)
	}
	agent, err := key(b.Agent())
	if err != nil {
		return nil, fmt.Errorf("start the bus: %w", err)
	}
	if b.server, err = start(o, public(control), public(agent)); err != nil {
		return nil, fmt.Errorf("start the bus on %s: %w", o.Listen, err)
	}
	if err := b.hand(o, control, agent); err != nil {
		b.Close()
		return nil, fmt.Errorf("start the bus: %w", err)
	}
	return b, nil
}

// Control is the file with the control plane's credentials, Agent the one to give to agents.
func (b *Broker) Control() string { return filepath.Join(b.dir, "control.json") }
func (b *Broker) Agent() string   { return filepath.Join(b.dir, "agent.json") }

// Close ends the server once its files are written.
func (b *Broker) Close() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

func start(o Options, control, agent string) (*server.Server, error) {
	options, err := options(o, control, agent)
	if err != nil {
		return nil, err
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, err
	}
	if o.Log != nil {
		s.SetLoggerV2(logger{o.Log}, false, false, false)
	}
	s.Start()
	if !s.ReadyForConnections(ready) {
		s.Shutdown()
		return nil, errors.New("it did not become ready (is the address taken, or its folder written by another process?)")
	}
	return s, nil
}

func options(o Options, control, agent string) (*server.Options, error) {
	host, portText, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("port %q: %w", portText, err)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return &server.Options{
		ServerName: "bulkhead", Host: host, Port: port, NoSigs: true, NoLog: o.Log == nil,
		JetStream: true, StoreDir: filepath.Join(o.Dir, "streams"),
		JetStreamMaxStore: maxStore, JetStreamMaxMemory: maxMemory,
		SyncInterval: time.Second, // what a power cut, not a killed process, may take with it
		MaxPayload:   bus.MaxMessage, MaxConn: 4096, AuthTimeout: 5,
		TLSConfig:  &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{o.Certificate}},
		TLSTimeout: 5,
		Nkeys: []*server.NkeyUser{
			{Nkey: control},
			{Nkey: agent, Permissions: agentMay()},
		},
	}, nil
}

func agentMay() *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{"alerts.*", "nodes.*.report", "nodes.*.flows", "nodes.*.audit"}},
		Subscribe: &server.SubjectPermission{Allow: []string{"nodes.*.command", agentInbox + ".>"}},
		Response:  &server.ResponsePermission{MaxMsgs: 1, Expires: time.Minute},
	}
}

// Answers to the control plane and to agents come to different subjects, so that an agent cannot listen to the former.
const (
	controlInbox = "_CONTROL"
	agentInbox   = "_AGENT"
)

func (b *Broker) hand(o Options, control, agent nkeys.KeyPair) error {
	own := b.server.Addr().String()
	for path, who := range map[string]struct {
		key            nkeys.KeyPair
		inbox, address string
	}{b.Control(): {control, controlInbox, loopback(own)}, b.Agent(): {agent, agentInbox, cmp.Or(o.Address, own)}} {
		seed, err := who.key.Seed()
		if err != nil {
			return fmt.Errorf("write bus credentials: %w", err)
		}
		c := bus.Credentials{Address: "tls://" + who.address, Certificate: string(o.PEM), Seed: string(seed), Inbox: who.inbox}
		if err := c.Write(path); err != nil {
			return err
		}
	}
	return nil
}

// loopback is an address for this host's own programs: one that listens everywhere is nowhere to connect to.
func loopback(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsUnspecified() {
		return address
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// key takes the key of an earlier start, so that agents stay welcome. A file that cannot be read is
// replaced only when it is not there: losing a key silently would shut every agent out.
func key(path string) (nkeys.KeyPair, error) {
	c, err := bus.ReadCredentials(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nkeys.CreateUser()
	}
	if err != nil {
		return nil, fmt.Errorf("%w; or remove it, and give agents the new one", err)
	}
	return nkeys.FromSeed([]byte(c.Seed))
}

func public(k nkeys.KeyPair) string {
	p, err := k.PublicKey()
	if err != nil {
		return "" // no user has an empty key: nobody gets in
	}
	return p
}

// logger passes on what a person should know.
type logger struct{ log *slog.Logger }

func (l logger) Noticef(format string, v ...any) {
	l.log.Debug("bus", "text", fmt.Sprintf(format, v...))
}

func (l logger) Warnf(format string, v ...any) { l.log.Warn("bus", "text", fmt.Sprintf(format, v...)) }

func (l logger) Errorf(format string, v ...any) {
	l.log.Error("bus", "text", fmt.Sprintf(format, v...))
}

func (l logger) Fatalf(format string, v ...any) {
	l.log.Error("bus", "text", fmt.Sprintf(format, v...))
}
func (l logger) Debugf(string, ...any) {}
func (l logger) Tracef(string, ...any) {}
