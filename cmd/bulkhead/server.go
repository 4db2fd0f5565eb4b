package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newServer(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "server",
		Short:   "The control plane alone",
		Long:    "Runs the control plane in the foreground: the API, the console, the bus that agents report to.",
		Example: "  bulkhead server --listen 0.0.0.0:8443",
		Args:    cobra.NoArgs,
	}
	o := serverOptions{}
	c.Flags().StringVar(&o.listen, "listen", a.env("BULKHEAD_LISTEN"), "`ADDRESS` of the console and the API [BULKHEAD_LISTEN]")
	c.RunE = func(c *cobra.Command, _ []string) error { return a.serve(c.Context(), a, o) }
	return c
}

type serverOptions struct{ listen string }

var errNoServer error

func serve(context.Context, *app, serverOptions) error { return errNoServer }
