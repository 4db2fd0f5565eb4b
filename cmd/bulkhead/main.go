// Command bulkhead is the one command of the product: it starts the control plane and the agent of a host,
// and is a client of the API for everything a person asks. Start with [newRoot] and [client].
//
// It promises what scripts rely on: results on standard output and everything else on standard error,
// exit codes 0 done, 1 failed, 2 usage, 3 policy says no, and JSON whose fields stay. It is not the place
// for decisions about containers: those are the engines', which it calls or asks the server for.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(newApp(), os.Args[1:]))
}

// app is what the commands share: the outside world, and the flags that all of them know.
type app struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) string
	checks   []check // what `up` needs of the host

	run, state          string // directories
	server, token, cert string // of the client
	started             bool   // a command's own code was reached: what fails from here on is no usage error
}

func newApp() *app {
	return &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv, checks: hostChecks()}
}

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitPolicy = 3
)

func run(a *app, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	root := newRoot(a)
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	code := a.exitCode(err)
	if err.Error() != "" {
		fmt.Fprintln(a.err, "bulkhead:", paragraph(err.Error()))
	}
	if code == exitUsage {
		fmt.Fprintf(a.err, "usage: %s\nSee `%s --help`.\n", command.UseLine(), command.CommandPath())
	}
	return code
}

func (a *app) exitCode(err error) int {
	var usage usageError
	var policy policyError
	switch {
	case errors.As(err, &usage), !a.started:
		return exitUsage
	case errors.As(err, &policy):
		return exitPolicy
	}
	return exitFailed
}

// usageError is a command line that cannot be meant.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// policyError is a refusal that was decided, not a failure.
type policyError struct{ error }

func (e policyError) Unwrap() error { return e.error }

// newRoot builds the whole command line. What a later issue brings is added to this list by that issue.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "bulkhead",
		Short: "Container security from build to runtime",
		Long: "Bulkhead learns what each container does, and blocks everything else in the kernel.\n\n" +
			"Results go to standard output, all else to standard error.\n" +
			"Exit codes: 0 done, 1 failed, 2 usage, 3 policy says no.",
		Example:           "  bulkhead up --detach\n  bulkhead workloads\n  bulkhead mode docker/shop protect",
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(*cobra.Command, []string) error { a.started = true; return nil },
		RunE:              needsCommand,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	a.commonFlags(root)
	root.AddCommand(
		newScan(a), newDB(a), newImages(a), newAdmission(a), newAudit(a),
		newSign(a), newAttest(a), newVerify(a),
		newUp(a), newDown(a), newStatus(a), newServer(a),
		newWorkloads(a), newMode(a), newProfile(a),
		newSegment(a), newAlerts(a), newIncidents(a), newApprove(a), newNodes(a), newFlows(a), newClusters(a), newApply(a), newPolicies(a),
		newWAF(a),
		newDemo(a), newDrill(a), newVersion(a),
	)
	root.InitDefaultCompletionCmd("completion")
	return root
}

// commonFlags are known to every command; each has an environment variable of the same meaning.
func (a *app) commonFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&a.run, "run", or(a.env("BULKHEAD_RUN"), "/run/bulkhead"), "`DIR` of pid files and of the address and token for clients on this host [BULKHEAD_RUN]")
	f.StringVar(&a.state, "state", or(a.env("BULKHEAD_STATE"), defaultState), "`DIR` of everything that is kept [BULKHEAD_STATE]")
	f.StringVar(&a.server, "server", a.env("BULKHEAD_SERVER"), "`URL` of the server, instead of the one on this host [BULKHEAD_SERVER]")
	f.StringVar(&a.token, "token", "", "access `TOKEN` for --server; the variable keeps it out of the process list [BULKHEAD_TOKEN]")
	f.StringVar(&a.cert, "cert", a.env("BULKHEAD_CERT"), "PEM `FILE` with the one certificate that --server may show [BULKHEAD_CERT]")
}

func needsCommand(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unknown command %q for %q", args[0], c.CommandPath())
	}
	return usagef("%s needs a command", c.CommandPath())
}

func or(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
