// Command lab brings real container engines and images up for the tests, and takes them
// away. Start with main and commands.
//
// It promises to end exactly what it started. It is not part of the product.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"bulkhead/test/lab"
)

const usage = `usage: lab up                 start the engines; print what a shell needs: eval "$(lab up)"
       lab images [NAME...]   build the images that are missing (all: %s)
       lab env                print what a shell needs
       lab cluster up [nri]   a Kubernetes of two nodes; nri takes containerd 2: eval "$(lab cluster up)"
       lab cluster build [nri]   only build its programs
       lab cluster env|down   print what a shell needs; end the cluster
       lab down               end everything; images stay for the next time
       lab install FILE=PACKAGE...   install the Debian packages whose file is not there
       lab missing FILE=PACKAGE...   exit status 1 if any is not there
State: BULKHEAD_LAB, default %s
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) < 2 {
		fmt.Fprintf(os.Stderr, usage, strings.Join(lab.Names(), " "), lab.DefaultDir)
		os.Exit(2)
	}
	if err := command(ctx, os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, verb string, args []string) error {
	start := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "lab %5.1fs  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
	l := lab.Open("", say)
	switch verb {
	case "up":
		if err := l.Up(ctx); err != nil {
			return err
		}
		return export(l.Environment())
	case "images":
		return l.Images(ctx, args...)
	case "env":
		return export(l.Environment())
	case "down":
		l.Cluster().Down(ctx)
		return l.Down(ctx)
	case "cluster":
		return cluster(ctx, l.Cluster(), args)
	}
	packages, err := parse(args)
	if err != nil {
		return err
	}
	switch verb {
	case "install":
		return lab.Install(ctx, say, packages...)
	case "missing":
		if missing := lab.Missing(packages...); len(missing) > 0 {
			return fmt.Errorf("not installed: %s", strings.Join(missing, " "))
		}
		return nil
	}
	return fmt.Errorf("no command %q; lab alone lists them", verb)
}

func cluster(ctx context.Context, c *lab.Cluster, args []string) error {
	o := lab.ClusterOptions{NRI: len(args) > 1 && args[1] == "nri"}
	switch strings.Join(args[:min(1, len(args))], "") {
	case "up":
		if err := c.Up(ctx, o); err != nil {
			return err
		}
		return export(c.Environment())
	case "build":
		return c.Build(ctx, o.NRI)
	case "env":
		return export(c.Environment())
	case "down":
		return c.Down(ctx)
	}
	return fmt.Errorf("lab cluster up, build, env or down, not %q", args)
}

func parse(args []string) ([]lab.Package, error) {
	var packages []lab.Package
	for _, arg := range args {
		file, name, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not FILE=PACKAGE", arg)
		}
		packages = append(packages, lab.Package{Name: name, File: file})
	}
	return packages, nil
}

func export(variables []string) error {
	for _, variable := range variables {
		fmt.Println("export " + variable)
	}
	return nil
}
