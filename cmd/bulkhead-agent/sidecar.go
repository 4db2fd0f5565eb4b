package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"bulkhead/intercept"
	"bulkhead/waf"
	"bulkhead/waf/portrait"
)

// sidecarFlags are what a person says about one sidecar.
type sidecarFlags struct {
	listen, upstream, mode, certificate, key, events, portrait string
	exceptions                                                 []string
}

func sidecarCommand() *cobra.Command {
	o := sidecarFlags{}
	c := &cobra.Command{
		Use: "sidecar", Short: "Stand before one application as its layer-7 firewall", Args: cobra.NoArgs,
		Long: "Takes HTTP/1, HTTP/2 (with and without TLS), gRPC and WebSocket connections, judges each request and forwards it to the application.\n" +
			"A refused client is shown an id; the event with that id, a line of JSON, says why. No root is needed.",
		Example: "  bulkhead-agent sidecar --listen :8080 --upstream http://127.0.0.1:3000 --mode block",
		RunE: func(c *cobra.Command, _ []string) error {
			return runSidecar(c.Context(), o, c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&o.listen, "listen", ":8080", "`ADDRESS` where clients connect")
	f.StringVar(&o.upstream, "upstream", "", "`URL` of the application: http://, https://, or h2c:// for gRPC without TLS")
	f.StringVar(&o.certificate, "tls-certificate", "", "`FILE` with the certificates that clients are shown; connections are then TLS")
	f.StringVar(&o.key, "tls-key", "", "`FILE` with the key of the certificate")
	o.common(f)
	_ = c.MarkFlagRequired("upstream") // it is a flag of this command
	return c
}

// common adds the flags of both places.
func (o *sidecarFlags) common(f *pflag.FlagSet) {
	f.StringVar(&o.mode, "mode", "detect", "learn (tell, and learn the portrait), detect (tell) or block (refuse)")
	f.StringVar(&o.portrait, "portrait", "", "`FILE` of what the application's requests look like: written in learn, compared with in detect and block")
	f.StringVar(&o.events, "events", "-", "`FILE` that events are appended to; -: standard output")
	f.StringArrayVar(&o.exceptions, "except", nil, "`RULE[:PATH[:NAME]]` that does not count, where the path begins so and the parameter is called so; may be given more than once")
}

// inlineFlags are what a person says about a workload that is running.
type inlineFlags struct {
	sidecarFlags
	pid    int
	ports  []uint
	closed bool
}

func inlineCommand() *cobra.Command {
	o := inlineFlags{}
	c := &cobra.Command{
		Use: "inline", Short: "Stand in the path of a running workload's connections, which nobody notices", Args: cobra.NoArgs,
		Long: "Steers new connections to a workload's ports to this process, inside the workload's network namespace, and on to the application, which sees its\n" +
			"clients' addresses. Nothing is restarted; existing connections are kept; ended or killed, new connections are direct again within a second, or,\n" +
			"with --fail-closed, refused. TLS passes unseen. Needs root.",
		Example: "  bulkhead-agent inline --pid 4711 --port 8080 --mode block",
		RunE: func(c *cobra.Command, _ []string) error {
			return runInline(c.Context(), o, c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.IntVar(&o.pid, "pid", 0, "a process of the workload")
	f.UintSliceVar(&o.ports, "port", nil, "a `PORT` of the application; may be given more than once")
	f.BoolVar(&o.closed, "fail-closed", false, "when this process dies nobody gets through; else everybody, directly")
	o.common(f)
	_, _ = c.MarkFlagRequired("pid"), c.MarkFlagRequired("port") // they are flags of this command
	return c
}

func runInline(ctx context.Context, o inlineFlags, stdout io.Writer) error {
	options, err := commonOptions(o.sidecarFlags, stdout)
	if err != nil {
		return err
	}
	in := intercept.InlineOptions{Namespace: fmt.Sprintf("/proc/%d/ns/net", o.pid), Closed: o.closed, Proxy: options}
	for _, port := range o.ports {
		if port == 0 || port > math.MaxUint16 {
			return usageError{fmt.Errorf("--port %d is none", port)}
		}
		in.Ports = append(in.Ports, uint16(port))
	}
	if o.closed {
		in.Pin = fmt.Sprintf("/sys/fs/bpf/bulkhead-inline/%d", o.pid)
	}
	defer keepPortrait(ctx, o.sidecarFlags, options)()
	i, err := intercept.NewInline(in)
	if err != nil {
		return err
	}
	options.Log.Info("standing in the path", "pid", o.pid, "ports", o.ports, "mode", o.mode)
	<-ctx.Done()
	return i.Close()
}

func runSidecar(ctx context.Context, o sidecarFlags, stdout io.Writer) error {
	options, err := sidecarOptions(o, stdout)
	if err != nil {
		return err
	}
	defer keepPortrait(ctx, o, options)()
	proxy, err := intercept.New(options)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listening for clients: %w", err)
	}
	options.Log.Info("standing before the application", "listen", l.Addr().String(), "upstream", o.upstream, "mode", o.mode)
	return proxy.Serve(ctx, l)
}

// commonOptions are those of both places.
func commonOptions(o sidecarFlags, stdout io.Writer) (intercept.Options, error) {
	options := intercept.Options{Mode: intercept.Mode(o.mode), Engine: waf.New(waf.Options{}), Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if options.Mode != intercept.Learn && options.Mode != intercept.Detect && options.Mode != intercept.Block {
		return options, usageError{fmt.Errorf("--mode %q is neither learn, detect nor block", o.mode)}
	}
	if options.Mode == intercept.Learn && o.portrait == "" {
		return options, usageError{errors.New("--mode learn needs --portrait FILE to learn into")}
	}
	if err := readPortrait(o.portrait, &options); err != nil {
		return options, err
	}
	for _, e := range o.exceptions {
		parts := append(strings.SplitN(e, ":", 3), "", "")
		options.Exceptions = append(options.Exceptions, intercept.Exception{Rule: parts[0], Path: parts[1], Name: parts[2]})
	}
	out, err := eventWriter(o.events, stdout)
	options.Tell = writeEvents(out, options.Log)
	return options, err
}

func sidecarOptions(o sidecarFlags, stdout io.Writer) (intercept.Options, error) {
	options, err := commonOptions(o, stdout)
	if err != nil {
		return options, err
	}
	u, err := url.Parse(o.upstream)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c" {
		return options, usageError{fmt.Errorf("--upstream %q is no http, https or h2c address", o.upstream)}
	}
	options.Upstream = u
	if o.certificate == "" && o.key == "" {
		return options, nil
	}
	certificate, err := tls.LoadX509KeyPair(o.certificate, o.key)
	if err != nil {
		return options, fmt.Errorf("reading --tls-certificate and --tls-key: %w", err)
	}
	options.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
	return options, nil
}

// readPortrait reads the file, if it is there.
func readPortrait(name string, options *intercept.Options) error {
	if name == "" {
		return nil
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) && options.Mode == intercept.Learn {
		options.Portrait = portrait.New()
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading --portrait: %w", err)
	}
	options.Portrait, err = portrait.Read(b)
	return err
}

// keepPortrait writes what was learned now and then, and at the end.
func keepPortrait(ctx context.Context, o sidecarFlags, options intercept.Options) func() {
	if options.Mode != intercept.Learn {
		return func() {}
	}
	write := func() {
		b, err := options.Portrait.Write()
		if err == nil {
			err = renameio.WriteFile(o.portrait, b, 0o600)
		}
		if err != nil {
			options.Log.Error("portrait not written", "error", err)
		}
	}
	var done sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	done.Go(func() {
		tick := time.NewTicker(30 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				write()
			}
		}
	})
	return func() {
		stop()
		done.Wait()
		write()
	}
}

func eventWriter(name string, stdout io.Writer) (io.Writer, error) {
	if name == "-" {
		return stdout, nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening --events: %w", err)
	}
	return f, nil
}

// writeEvents writes each event as a line.
func writeEvents(to io.Writer, log *slog.Logger) func(intercept.Event) {
	var lock sync.Mutex
	lines := json.NewEncoder(to)
	lines.SetEscapeHTML(false)
	return func(e intercept.Event) {
		lock.Lock()
		defer lock.Unlock()
		if err := lines.Encode(e); err != nil {
			log.Error("event lost", "id", e.ID, "error", err)
		}
	}
}
