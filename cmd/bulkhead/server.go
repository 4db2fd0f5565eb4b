package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/console"
	"bulkhead/kube/webhook"
	"bulkhead/server"
)

// serverOptions are the flags of `server`.
type serverOptions struct {
	listen, busListen, database string
	busAddress, agentSecret     string
	images                      server.ImageOptions
	registries                  registryFlags
}

func newServer(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "server",
		Short: "The control plane alone",
		Long: "Runs the control plane in the foreground: the API and the console over HTTPS, and the bus that agents report to.\n" +
			"It keeps its files in server/ below the state directory; agents elsewhere need server/bus/agent.json from there.\n" +
			"Clients on this host find it by client.json in the run directory.",
		Example: "  bulkhead server --listen 0.0.0.0:8443 --bus-listen 0.0.0.0:4333",
		Args:    cobra.NoArgs,
	}
	var o serverOptions
	a.serverFlags(c, &o)
	c.Flags().StringVar(&o.database, "database", "", "`URL` of a PostgreSQL database, instead of a file in the state directory [BULKHEAD_DATABASE]")
	c.Flags().StringVar(&o.busAddress, "bus-address", "", "`HOST:PORT` by which agents elsewhere reach the bus (default: where it listens)")
	c.Flags().StringVar(&o.agentSecret, "agent-secret", "", "in Kubernetes: `NAME` of a secret of this namespace that gets the credentials of agents")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := o.settle(); err != nil {
			return err
		}
		o.database = or(o.database, a.env("BULKHEAD_DATABASE")) // not as the flag's default: help would show its password
		return a.serve(c.Context(), o)
	}
	return c
}

// serverFlags are those that `up` hands on.
func (a *app) serverFlags(c *cobra.Command, o *serverOptions) {
	c.Flags().StringVar(&o.listen, "listen", or(a.env("BULKHEAD_LISTEN"), "127.0.0.1:8443"), "`ADDRESS` of the console and the API; port 0 takes a free one [BULKHEAD_LISTEN]")
	c.Flags().StringVar(&o.busListen, "bus-listen", or(a.env("BULKHEAD_BUS_LISTEN"), "127.0.0.1:4333"), "`ADDRESS` for agents [BULKHEAD_BUS_LISTEN]")
	imageFlags(c, &o.images)
	o.registries.declare(c.Flags())
}

// imageFlags say how the control plane scans images.
func imageFlags(c *cobra.Command, o *server.ImageOptions) {
	c.Flags().StringSliceVar(&o.PlainHTTP, "insecure-http", nil, "`REGISTRY` whose images are scanned without TLS; no other is")
	c.Flags().BoolVar(&o.Running, "scan-running", false, "scan the images that workloads run too; their names are asked of their registries")
	c.Flags().IntVar(&o.Workers, "scan-workers", 1, "how many images are scanned at the same time, 8 at most")
	c.Flags().IntVar(&o.Keep, "keep-reports", 2000, "how many reports of images are kept, one for each digest")
	c.Flags().DurationVar(&o.KeepFor, "keep-reports-for", 180*24*time.Hour, "how long a report is kept after its image was last scanned or seen under a name")
}

// settle finds at the start what would fail at the first scan, and says how registries are reached.
func (o *serverOptions) settle() error {
	if err := errors.Join(checkImages(o.images), o.registries.check()); err != nil {
		return err
	}
	o.images.CAs = o.registries.cas
	var err error
	o.images.Mirrors, err = o.registries.byRegistry()
	return err
}

// checkImages finds at the start what would fail at the first scan.
func checkImages(o server.ImageOptions) error {
	switch {
	case o.Workers < 1 || o.Workers > 8:
		return usagef("--scan-workers is %d: choose 1 to 8", o.Workers)
	case o.Keep < 1:
		return usagef("--keep-reports is %d: keep at least one", o.Keep)
	case o.KeepFor < time.Hour:
		return usagef("--keep-reports-for is %s: keep them for an hour at least", o.KeepFor)
	}
	return nil
}

// flags are those that say the same to another process, with paths that hold in any directory.
func (o serverOptions) flags() []string {
	list := []string{"--listen", o.listen, "--bus-listen", o.busListen}
	list = append(list, o.plainFlags()...)
	for _, mirror := range o.registries.mirrors {
		list = append(list, "--mirror", mirror)
	}
	for _, file := range o.registries.cas {
		if whole, err := filepath.Abs(file); err == nil {
			file = whole
		}
		list = append(list, "--registry-ca", file)
	}
	if o.images.Running {
		list = append(list, "--scan-running")
	}
	return append(list, "--scan-workers", strconv.Itoa(o.images.Workers), "--keep-reports", strconv.Itoa(o.images.Keep),
		"--keep-reports-for", o.images.KeepFor.String())
}

// shareCredentials puts what agents need to reach the bus into a secret, which they have mounted.
func (a *app) shareCredentials(ctx context.Context, secret string, log *slog.Logger) {
	if secret == "" {
		return
	}
	for wait := time.Second; ctx.Err() == nil; wait = min(2*wait, time.Minute) {
		text, err := os.ReadFile(server.AgentCredentials(serverDir(a.state)))
		if err == nil {
			err = webhook.ShareSecret(ctx, or(a.env("BULKHEAD_NAMESPACE"), "bulkhead-system"), secret, map[string][]byte{"agent.json": text})
		}
		if err == nil {
			log.Info("agents' credentials are shared", "secret", secret)
			return
		}
		log.Warn("agents' credentials are not shared; trying again", "secret", secret, "err", err)
		sleep(ctx, wait)
	}
}

// plainFlags are the registries without TLS, for the agent too: it looks for signatures there.
func (o serverOptions) plainFlags() (list []string) {
	for _, registry := range o.images.PlainHTTP {
		list = append(list, "--insecure-http", registry)
	}
	return list
}

// serverDir is where the control plane keeps its files.
func serverDir(state string) string { return filepath.Join(state, "server") }

func (a *app) serve(ctx context.Context, o serverOptions) error {
	if err := errors.Join(os.MkdirAll(a.run, 0o700), os.MkdirAll(a.state, 0o700)); err != nil {
		return fmt.Errorf("making a directory to work in: %w; --run and --state name others", err)
	}
	log := slog.New(slog.NewTextHandler(a.err, nil))
	o.images.Database = a.databasePath(a.env("BULKHEAD_DB"))
	return server.Run(ctx, server.Options{
		Dir: serverDir(a.state), Run: a.run, Listen: o.listen, BusListen: o.busListen, BusAddress: o.busAddress, Database: o.database,
		Console: console.Handler(), Log: log, Version: version(),
		Images: o.images,
		Ready: func(address server.Address) {
			log.Info("control plane is up", "address", address.URL)
			go a.shareCredentials(ctx, o.agentSecret, log)
		},
	})
}
