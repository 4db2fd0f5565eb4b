// Command kernels runs the tests of packages as root on other kernels, each in a virtual
// machine of its own, without hardware virtualisation. Start with main and [boots].
//
// It promises the kernels that Debian ships, fetched once; the tests' own exit status, read
// from the serial line; and a failure where a machine does not reach its end. It is not for
// measuring time, which means nothing under emulation.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"bulkhead/test/lab"
)

// boot is one virtual machine: a release's kernel and the security modules it starts with.
type boot struct {
	suite string
	lsm   string
}

const (
	withBPF    = "capability,landlock,yama,bpf"
	withoutBPF = "capability,landlock,yama"
)

// boots: without bpf among the security modules its programs load and attach, and never
// run. That is the default of the oldest, and one newer machine keeps it tested.
var boots = []boot{
	{"trixie", withBPF},
	{"bookworm", withBPF},
	{"forky", withBPF},
	{"bookworm", withoutBPF},
	{"bullseye", withoutBPF},
}

func (b boot) name() string {
	if b.lsm == withoutBPF {
		return b.suite + "-nolsm"
	}
	return b.suite
}

var (
	only     = flag.String("only", "", "boot only these, e.g. bookworm,bullseye-nolsm")
	parallel = flag.Int("parallel", 2, "machines at a time; each uses one processor")
	memory   = flag.Int("memory", 768, "MiB of memory of a machine")
	limit    = flag.Duration("timeout", 15*time.Minute, "for one machine")
	counting = flag.Bool("count", false, "let one instruction take one nanosecond, and print the lines that begin with COST")
	extra    = flag.String("with", "", "files to put into /bin of each machine, comma-separated")
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: kernels [flags] PACKAGE[:REGEXP]...   e.g. kernels ./bpf ./enforce:TestKernel")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := runAll(ctx, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(1)
	}
}

func runAll(ctx context.Context, packages []string) error {
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	dir := filepath.Join(lab.Open("", nil).Dir(), "kernels")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making a folder for kernels: %w", err)
	}
	if err := installTools(ctx, dir); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "kernel-tests-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	tests, err := buildTests(ctx, work, packages)
	if err != nil {
		return err
	}
	return bootAll(ctx, dir, work, tests, chosen)
}

func choose(names string) ([]boot, error) {
	if names == "" {
		return boots, nil
	}
	var chosen []boot
	for _, name := range strings.Split(names, ",") {
		found := false
		for _, b := range boots {
			if b.name() == name {
				chosen, found = append(chosen, b), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no machine %q", name)
		}
	}
	return chosen, nil
}

func bootAll(ctx context.Context, dir, work string, tests *suite, chosen []boot) error {
	var (
		group  sync.WaitGroup
		slots  = make(chan struct{}, *parallel)
		failed = make(chan error, len(chosen))
	)
	kernels := fetcher{dir: dir}
	for _, b := range chosen {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			failed <- report(b, func() (outcome, error) { return tests.runOn(ctx, &kernels, work, b) })
		})
	}
	group.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			return errors.New("some machines failed")
		}
	}
	return nil
}

// report prints one line about a machine, and the end of its log where something is wrong.
func report(b boot, run func() (outcome, error)) error {
	start := time.Now()
	result, err := run()
	if err == nil {
		err = result.err()
	}
	took := time.Since(start).Seconds()
	if err != nil {
		fmt.Fprintf(os.Stderr, "---- %s, the last lines:\n%s\n----\n", b.name(), result.tail())
		fmt.Fprintf(os.Stderr, "%7.1fs  kernel %s  FAILED: %v; all of it: %s\n", took, b.name(), err, result.log)
		return err
	}
	fmt.Printf("%7.1fs  kernel %s: %s\n", took, b.name(), result)
	for _, line := range result.costs {
		fmt.Println("          " + line)
	}
	return nil
}
