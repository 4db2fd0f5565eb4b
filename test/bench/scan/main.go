// Command scan measures bulkhead scan beside Trivy and Grype: the same images, databases with the same advisories, in
// turn, in one run, as ratios. Start with [main] and [measure].
//
// It promises the median of several runs, on files that are in memory before, and that nothing is downloaded: the
// others are built from their own modules and get databases made of the feeds that are named. It is not for what is
// found (tests compare that) and asserts nothing.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

var (
	feeds = flag.String("feeds", os.Getenv("FEEDS"), "`DIR` with feeds, as for bulkhead db import")
	dir   = flag.String("dir", ".cache/peers", "`DIR` of what is built, kept for the next time")
	runs  = flag.Int("runs", 5, "how many times each, of which the median counts")
	only  = flag.Bool("prepare", false, "make what is needed and measure nothing")
	big   = flag.Int64("big", 2<<30, "bytes of the large image")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench of scans:", err)
		os.Exit(1)
	}
}

func run() error {
	if *feeds == "" {
		return errors.New("say where the feeds are: FEEDS=DIR make bench-scan")
	}
	var err error
	if *dir, err = filepath.Abs(*dir); err != nil {
		return err
	}
	if *only {
		return errors.Join(prepare(), makeImages())
	}
	// In a process of its own: what a parent has in memory counts for its children, as the system sees it.
	c := exec.Command(os.Args[0], append([]string{"-prepare"}, os.Args[1:]...)...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	fmt.Printf("%-14s %-34s %9s %9s %9s %10s\n", "image", "what", "wall", "processor", "memory", "times ours")
	for _, image := range images() {
		if err := compare(image); err != nil {
			return err
		}
	}
	return nil
}

// way is one way to scan. Those of one group are compared with the first of it.
type way struct {
	group, name string
	args        func(image string) []string
	env         []string
	before      func() error // before each run
}

// ways are what is measured.
func ways() []way {
	cache := filepath.Join(*dir, "layers")
	empty := func() error { return os.RemoveAll(cache) }
	bulkhead := func(more ...string) func(string) []string {
		return func(image string) []string {
			return append(append([]string{"bin/bulkhead", "scan", "--format", "json", "--db", filepath.Join(*dir, "bulkhead.db")}, more...), image)
		}
	}
	trivy := func(more ...string) func(string) []string {
		return func(image string) []string {
			base := []string{filepath.Join(*dir, "trivy"), "image", "--quiet", "--format", "json", "--cache-dir", filepath.Join(*dir, "trivy-cache"), "--skip-db-update", "--skip-java-db-update", "--skip-version-check", "--offline-scan"}
			return append(append(base, more...), "--input", image)
		}
	}
	grype := func(image string) []string {
		return []string{filepath.Join(*dir, "grype"), "docker-archive:" + image, "--quiet", "-o", "json"}
	}
	offline := []string{"GRYPE_DB_CACHE_DIR=" + filepath.Join(*dir, "grype-cache"), "GRYPE_DB_AUTO_UPDATE=false", "GRYPE_DB_VALIDATE_AGE=false", "GRYPE_CHECK_FOR_APP_UPDATE=false"}
	return []way{
		{"packages, cold", "bulkhead --no-cache", bulkhead("--only", "vuln", "--no-cache"), nil, nil},
		{"packages, cold", "bulkhead, an empty cache", bulkhead("--only", "vuln", "--cache", cache), nil, empty},
		{"packages, cold", "trivy --scanners vuln", trivy("--scanners", "vuln", "--cache-backend", "memory"), nil, nil},
		{"packages, cold", "grype", grype, offline, nil},
		{"packages, warm", "bulkhead, a cache", bulkhead("--only", "vuln", "--cache", cache), nil, nil},
		{"packages, warm", "trivy, a cache", trivy("--scanners", "vuln"), nil, nil},
		{"everything, cold", "bulkhead --no-cache", bulkhead("--no-cache"), nil, nil},
		{"everything, cold", "trivy vuln,secret,misconfig", trivy("--scanners", "vuln,secret,misconfig", "--cache-backend", "memory"), nil, nil},
	}
}

func compare(image string) error {
	ours := map[string]time.Duration{}
	for _, w := range ways() {
		m, err := measure(w, image)
		if err != nil {
			fmt.Printf("%-14s %-34s %v\n", name(image), w.group+": "+w.name, err)
			continue
		}
		if ours[w.group] == 0 {
			ours[w.group] = m.wall
		}
		fmt.Printf("%-14s %-34s %7.0fms %7.0fms %6d MiB %10.1f\n", name(image), strings.TrimPrefix(w.group, "packages, ")+": "+w.name,
			milli(m.wall), milli(m.processor), m.memory>>20, float64(m.wall)/float64(ours[w.group]))
	}
	return nil
}

func milli(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func name(image string) string { return strings.TrimSuffix(filepath.Base(image), ".tar") }

// result is what one run took.
type result struct {
	wall, processor time.Duration
	memory          int64 // the most that was resident, in bytes
}

// measure runs once to warm what the system keeps, and then as often as was asked.
func measure(w way, image string) (result, error) {
	var all []result
	for range *runs + 1 {
		if w.before != nil {
			if err := w.before(); err != nil {
				return result{}, err
			}
		}
		r, err := once(w, image)
		if err != nil {
			return r, err
		}
		all = append(all, r)
	}
	all = all[1:]
	slices.SortFunc(all, func(a, b result) int { return cmp.Compare(a.wall, b.wall) })
	return all[len(all)/2], nil
}

func once(w way, image string) (result, error) {
	args := w.args(image)
	c := exec.Command(args[0], args[1:]...)
	c.Env = append(os.Environ(), w.env...)
	var problems strings.Builder
	c.Stderr = &problems
	start := time.Now()
	err := c.Run()
	wall := time.Since(start)
	if err != nil {
		lines := strings.Split(strings.TrimSpace(problems.String()), "\n")
		return result{}, fmt.Errorf("%w: %.200s", err, lines[len(lines)-1])
	}
	usage := c.ProcessState.SysUsage().(*syscall.Rusage)
	return result{wall, c.ProcessState.UserTime() + c.ProcessState.SystemTime(), usage.Maxrss << 10}, nil
}
