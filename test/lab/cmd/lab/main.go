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
		return print(l)
	case "images":
		return l.Images(ctx, args...)
	case "env":
		return print(l)
	case "down":
		return l.Down(ctx)
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

func print(l *lab.Lab) error {
	for _, variable := range l.Environment() {
		fmt.Println("export " + variable)
	}
	return nil
}
