package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"bulkhead/console"
	"bulkhead/server"
)

// serverOptions are the flags of `server`.
type serverOptions struct {
	listen, busListen, database string
	plain                       []string
	running                     bool
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
	c.Flags().StringSliceVar(&o.plain, "insecure-http", nil, "`REGISTRY` whose images are scanned without TLS; no other is")
	c.Flags().BoolVar(&o.running, "scan-running", false, "scan the images that workloads run too; their names are asked of their registries")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o.database = or(o.database, a.env("BULKHEAD_DATABASE")) // not as the flag's default: help would show its password
		return a.serve(c.Context(), o)
	}
	return c
}

// serverFlags are those that `up` hands on.
func (a *app) serverFlags(c *cobra.Command, o *serverOptions) {
	c.Flags().StringVar(&o.listen, "listen", or(a.env("BULKHEAD_LISTEN"), "127.0.0.1:8443"), "`ADDRESS` of the console and the API; port 0 takes a free one [BULKHEAD_LISTEN]")
	c.Flags().StringVar(&o.busListen, "bus-listen", or(a.env("BULKHEAD_BUS_LISTEN"), "127.0.0.1:4333"), "`ADDRESS` for agents [BULKHEAD_BUS_LISTEN]")
}

// serverDir is where the control plane keeps its files.
func serverDir(state string) string { return filepath.Join(state, "server") }

func (a *app) serve(ctx context.Context, o serverOptions) error {
	if err := errors.Join(os.MkdirAll(a.run, 0o700), os.MkdirAll(a.state, 0o700)); err != nil {
		return fmt.Errorf("making a directory to work in: %w; --run and --state name others", err)
	}
	log := slog.New(slog.NewTextHandler(a.err, nil))
	return server.Run(ctx, server.Options{
		Dir: serverDir(a.state), Run: a.run, Listen: o.listen, BusListen: o.busListen, Database: o.database,
		Console: console.Handler(), Log: log, Version: version(),
		Images: server.ImageOptions{Database: a.databasePath(a.env("BULKHEAD_DB")), PlainHTTP: o.plain, Running: o.running},
		Ready:  func(address server.Address) { log.Info("control plane is up", "address", address.URL) },
	})
}
