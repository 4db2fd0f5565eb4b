// Package webhook answers a Kubernetes API server what may run: it serves admission, keeps its
// own certificates, and follows the cluster's policies. Start with [Run] and [Options].
//
// It promises that several of it share one certificate, which each of them can renew without a
// request being refused for it; that it says it is ready only once it has read every policy; that
// one which is told to end still answers until nobody asks it any more; and that what it cannot
// read of a policy is told in that policy's status, while the last good one stays in force. It is not
// for decisions: those are package kube's.
package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"bulkhead/kube"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"
)

// Options are what a webhook runs with.
type Options struct {
	Listen        string // ":9443"
	Kubeconfig    string // empty: the service account of the pod
	Namespace     string // the control plane's own; never judged
	Service       string // under which the API server finds the webhook
	Configuration string // name of the webhook configurations that get the certificate
	Secret        string // in which the certificates are shared
	Lifetime      time.Duration
	Drain         time.Duration // how long to go on answering once told to end
	Base          kube.Options  // what the cluster's documents are laid over
	// Trust makes a verifier of trust policies: name → document.
	Trust func(documents map[string][]byte) (kube.Verifier, map[string]error)
	Log   *slog.Logger
}

// server is one running webhook.
type server struct {
	Options
	engine      *kube.Engine
	client      dynamic.Interface
	certificate atomic.Pointer[tls.Certificate]
	synced      atomic.Bool
	ending      atomic.Bool
}

// Run serves until ctx ends.
func Run(ctx context.Context, o Options) error {
	config, err := kube.Connect(o.Kubeconfig, "bulkhead-admission")
	if err != nil {
		return fmt.Errorf("reaching the Kubernetes API: %w; --kubeconfig names a file, in a pod its service account is taken", err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("reaching the Kubernetes API: %w", err)
	}
	o.Base.Exempt.Namespaces = append(o.Base.Exempt.Namespaces, o.Namespace)
	s := &server{Options: o, client: client, engine: kube.New(o.Base)}
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("listening for the API server: %w", err)
	}
	return s.run(ctx, listener)
}

func (s *server) run(ctx context.Context, listener net.Listener) error {
	if err := s.firstCertificate(ctx); err != nil {
		return errors.Join(err, listener.Close())
	}
	watch := newWatch(s)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.keepCertificate(ctx) })
	group.Go(func() error { return watch.run(ctx) })
	group.Go(func() error { return s.serve(ctx, listener, watch) })
	return group.Wait()
}

// serve answers until ctx ends, and then as long as somebody may still ask: the API server takes
// a moment to learn that this replica goes.
func (s *server) serve(ctx context.Context, listener net.Listener, watch *watch) error {
	h := &http.Server{
		Handler:           s.handler(watch),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // the API server's own limit for a webhook
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate.Load(), nil },
		},
	}
	served := make(chan error, 1)
	go func() { served <- h.ServeTLS(listener, "", "") }()
	s.Log.Info("admission webhook is up", "address", listener.Addr().String())
	select {
	case err := <-served:
		return fmt.Errorf("serving admission: %w", err)
	case <-ctx.Done():
	}
	s.ending.Store(true)
	time.Sleep(s.Drain)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return h.Shutdown(last)
}

func (s *server) handler(watch *watch) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /validate", func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, watch, s.validate) })
	mux.HandleFunc("POST /mutate", func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, watch, s.mutate) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case s.ending.Load():
			http.Error(w, "ending", http.StatusServiceUnavailable)
		case !s.synced.Load():
			http.Error(w, "policies are still being read", http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "ok")
		}
	})
	return mux
}
