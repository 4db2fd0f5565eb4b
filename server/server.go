// Package server is the control plane: the API and the console over HTTPS, the bus to the nodes, and
// the database behind them. Start with [Run] and [ReadAddress].
//
// It promises that an alert is acknowledged to the bus only once it is in the database, that a mode
// or an approval which a person decided reaches every node, also one that was away, and that nobody
// calls a method without the role it needs. Nodes do not depend on it: they go on without it.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/auth"
	"bulkhead/bus"
	"bulkhead/bus/broker"
	"bulkhead/store"
)

// Options say how the control plane runs.
type Options struct {
	Dir         string                      // its files; made when absent
	Run         string                      // client.json and first-sign-in.json for programs on this host; empty: Dir
	Listen      string                      // HTTPS; empty: 127.0.0.1:8443; port 0 takes a free one
	BusListen   string                      // for agents; empty: 127.0.0.1:4333; port 0 takes a free one
	BusAddress  string                      // how agents reach it, as HOST:PORT; empty: BusListen
	Database    string                      // "postgres://…"; empty: SQLite in Dir
	Console     http.Handler                // serves what is not the API; nil: a page that says there is none
	Log         *slog.Logger                // nil: silent
	FirstSignIn func(name, password string) // called once, when the first account is made; it is in first-sign-in.json too
	Ready       func(Address)               // called when it serves; may be nil
	Images      ImageOptions                // how images are scanned
	Version     string                      // of this program, for other programs
}

// Server is the control plane while it runs.
type Server struct {
	log       *slog.Logger
	db        *store.DB
	auth      *auth.Auth
	bus       *bus.Client
	watch     *watch
	settle    *settle
	directory *directory
	network   *network
	running   context.Context
	welcome   []string // folders that hold the first password until it was used
	dir       string
	version   string

	images  ImageOptions
	engines *engines
	trust   *trustees
	queue   *queue
	saving  sync.Mutex    // one report is compared with the one it replaces at a time
	watched chan struct{} // a watch was added
}

// Bounds of what is kept. Between two prunings at most what arrives in pruneEvery is added to them.
const (
	keepAlerts    = 200_000
	keepAlertsFor = 90 * 24 * time.Hour
	keepAudit     = 100_000
	pruneEvery    = 5 * time.Minute

	shutdownTime = 5 * time.Second
)

// Run serves until ctx ends.
func Run(ctx context.Context, o Options) error {
	o = o.defaults()
	if err := errors.Join(os.MkdirAll(o.Dir, 0o700), os.MkdirAll(o.Run, 0o700)); err != nil {
		return fmt.Errorf("start the control plane: %w", err)
	}
	unlock, err := lock(o.Dir)
	if err != nil {
		return fmt.Errorf("start the control plane: %w", err)
	}
	defer unlock()
	db, err := store.Open(ctx, o.Database)
	if err != nil {
		return fmt.Errorf("start the control plane: %w", err)
	}
	defer db.Close()
	return run(ctx, o, db)
}

func run(ctx context.Context, o Options, db *store.DB) error {
	cert, pem, err := certificate(o.Dir, o.Listen, hostsOf(o.BusAddress)...)
	if err != nil {
		return fmt.Errorf("start the control plane: %w", err)
	}
	token, err := auth.HostToken(filepath.Join(o.Dir, "host.token"))
	if err != nil {
		return fmt.Errorf("start the control plane: %w", err)
	}
	br, err := broker.Start(broker.Options{Dir: filepath.Join(o.Dir, "bus"), Listen: o.BusListen, Address: o.BusAddress, Certificate: cert, PEM: pem, Log: o.Log})
	if err != nil {
		return fmt.Errorf("start the control plane: %w", err)
	}
	defer br.Close()
	client, err := bus.Connect(bus.Options{Credentials: br.Control(), Log: o.Log, Retry: 200 * time.Millisecond})
	if err != nil {
		return fmt.Errorf("start the control plane: %w", err)
	}
	defer client.Close()
	running, stop := context.WithCancel(ctx)
	defer stop()
	s := &Server{
		log: o.Log, db: db, bus: client, watch: newWatch(), running: running, welcome: []string{o.Dir, o.Run},
		auth: auth.New(auth.Options{Store: db, HostToken: token}),
		dir:  o.Dir, version: o.Version, images: o.Images.defaults(), queue: newQueue(), watched: make(chan struct{}, 1),
	}
	s.settle = newSettle(s)
	s.directory = newDirectory()
	s.network = newNetwork(s)
	if err := s.recall(ctx); err != nil {
		return fmt.Errorf("start the control plane: %w", err)
	}
	s.engines = &engines{s: s}
	defer s.engines.close()
	s.trust = newTrustees(s)
	defer s.trust.wait()
	if err := s.firstSignIn(ctx, o); err != nil {
		return fmt.Errorf("start the control plane: make the first account: %w", err)
	}
	return s.serve(ctx, stop, o, cert, Address{Token: token, Certificate: absolute(filepath.Join(o.Dir, certFile)), pem: pem})
}

// hostsOf is the host of an address, where there is one.
func hostsOf(address string) []string {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return nil
	}
	return []string{host}
}

// AgentCredentials is the file to give to agents, below the folder of [Options.Dir].
func AgentCredentials(dir string) string { return filepath.Join(dir, "bus", "agent.json") }

func (o Options) defaults() Options {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:8443"
	}
	if o.BusListen == "" {
		o.BusListen = "127.0.0.1:4333"
	}
	if o.Database == "" {
		o.Database = filepath.Join(o.Dir, "bulkhead.db")
	}
	if o.Run == "" {
		o.Run = o.Dir
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Console == nil {
		o.Console = noConsole()
	}
	return o
}

func (s *Server) firstSignIn(ctx context.Context, o Options) error {
	password, err := s.auth.FirstAdmin(ctx)
	if err != nil {
		return err
	}
	if password != "" {
		if err := (welcome{"admin", password}).write(o.Dir); err != nil {
			return err
		}
	}
	if password != "" && o.FirstSignIn != nil {
		o.FirstSignIn("admin", password)
	}
	return showWelcome(o.Dir, o.Run)
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// serve listens, works, and ends in order: the batch of alerts in hand is stored, streams end, requests are answered.
func (s *Server) serve(ctx context.Context, stop context.CancelFunc, o Options, cert tls.Certificate, address Address) error {
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("start the control plane: %w (another one may be running; --listen names another address)", err)
	}
	address.URL = "https://" + listener.Addr().String()
	if err := errors.Join(address.write(o.Run), s.bus.Reports(s.report), s.bus.Flows(s.flows), s.bus.Audits(s.audited)); err != nil {
		listener.Close()
		return fmt.Errorf("start the control plane: %w", err)
	}
	h := s.http(o.Console, cert)
	served := make(chan error, 1)
	go func() { served <- h.ServeTLS(listener, "", "") }()
	var work sync.WaitGroup
	work.Go(func() { _ = s.bus.Alerts(s.running, s.take) }) // ends with the context's error only
	work.Go(s.prune)
	work.Go(s.settle.run)
	work.Go(s.network.run)
	work.Go(s.keepMap)
	s.startScans(&work)
	if o.Ready != nil {
		o.Ready(address)
	}
	select {
	case err = <-served:
		err = fmt.Errorf("serve on %s: %w", address.URL, err)
	case <-ctx.Done():
	}
	stop()
	work.Wait()
	return errors.Join(err, shutdown(h))
}

// startScans begins with what was under way when the control plane ended.
func (s *Server) startScans(work *sync.WaitGroup) {
	if err := s.db.Requeue(s.running, time.Now()); err != nil {
		s.log.Error("interrupted scans were not taken up again", "err", err)
	}
	for range s.images.Workers {
		work.Go(s.scanImages)
	}
	work.Go(s.watchDatabase)
	work.Go(s.schedule)
	if s.images.Running {
		work.Go(s.scanRunning)
	}
}

func shutdown(h *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		return h.Close() // somebody does not hang up; the answers were given
	}
	return nil
}

// take stores a batch of alerts; the bus forgets them once it returns nil.
func (s *Server) take(ctx context.Context, alerts []bulkhead.Alert) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	news, err := s.db.AddAlerts(ctx, alerts)
	if err != nil {
		return err
	}
	s.watch.send(news)
	return nil
}

func (s *Server) prune() {
	for tick := time.NewTicker(pruneEvery); ; {
		select {
		case <-s.running.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		_, err := s.db.PruneAlerts(s.running, time.Now().Add(-keepAlertsFor), keepAlerts)
		err = errors.Join(err, s.db.PruneImages(s.running, time.Now(), s.images.retention()))
		err = errors.Join(err, s.db.PruneAudits(s.running, time.Now(), keepAudits))
		err = errors.Join(err, s.db.PruneFlows(s.running, time.Now(), keepFlowsFor))
		if err := errors.Join(err, s.db.PruneAudit(s.running, keepAudit)); err != nil && s.running.Err() == nil {
			s.log.Error("old entries were not removed", "err", err)
		}
	}
}

// audit writes who did what. It uses a context of its own: who hangs up is written down all the same.
func (s *Server) audit(ctx context.Context, action, object, detail string, failed error) {
	c := callerOf(ctx)
	outcome := "ok"
	if failed != nil {
		outcome = failed.Error()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := s.db.Audit(ctx, store.Entry{At: time.Now(), Actor: c.Name, Origin: c.from, Action: action, Object: object, Detail: detail, Outcome: outcome})
	if err != nil {
		s.log.Error("the audit log was not written", "err", err, "action", action, "actor", c.Name)
	}
}
