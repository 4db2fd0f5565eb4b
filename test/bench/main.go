// Command bench measures what protection costs: the same loads with the agent off, learning, monitoring and
// protecting, in turn, in one run, as ratios. Start with main and [host.round].
//
// It promises to leave the host as it was: its containers, programs and directories are its own. It is not for
// functions inside a process (go test -bench has those), and asserts nothing.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bulkhead/test/lab"
)

//go:embed load/load.c
var source string

// loads are what is measured in each mode: a command in one of the containers, or against it, that prints one number.
var loads = []load{
	{name: "fork+exec", container: "load", unit: "ns", command: inside("load", "exec"), number: aNumber},
	{name: "getppid", container: "load", unit: "ns", command: inside("load", "call"), number: aNumber},
	{name: "open+close of an image file", container: "load", unit: "ns", command: inside("load", "open", "/bin/load"), number: aNumber},
	{name: "open+close of another file", container: "load", unit: "ns", command: inside("load", "open", "/etc/hostname"), number: aNumber},
	{name: "nginx, requests (wrk, 2 connections)", container: "nginx", unit: "/s", more: true, command: wrk, number: regexp.MustCompile(`Requests/sec:\s+([\d.]+)`), requests: regexp.MustCompile(`(\d+) requests in`)},
	{name: "redis GET and SET, requests", container: "redis", unit: "/s", more: true, command: redis, number: regexp.MustCompile(`(?s)GET: ([\d.]+)`)},
}

type load struct {
	name, container, unit string
	more                  bool // more is better
	command               func(h *host) *exec.Cmd
	number                *regexp.Regexp
	requests              *regexp.Regexp // how many there were; nil: as many as redis was asked for
}

var aNumber = regexp.MustCompile(`([\d.]+)`)

// perRequest names the second figure of a server: what its container used of the processors, which other programs on
// the machine disturb less than its rate.
func (l load) perRequest() string { return l.name + ": processor time of one" }

var containers = []string{"load", "nginx", "redis"}

var modes = []string{"off", "learn", "monitor", "protect"}

func inside(container string, what ...string) func(*host) *exec.Cmd {
	return func(h *host) *exec.Cmd {
		return h.docker(append([]string{"exec", h.prefix + container, "/bin/load"}, what...)...)
	}
}

func wrk(h *host) *exec.Cmd {
	return exec.Command("wrk", "-t1", "-c2", "-d3s", "http://"+h.address["nginx"]+"/")
}

func redis(h *host) *exec.Cmd {
	return exec.Command("redis-benchmark", "-h", h.address["redis"], "-t", "get,set", "-n", strconv.Itoa(redisRequests/2), "-c", "4", "-q")
}

const redisRequests = 200000

// host is what the measurement runs on.
type host struct {
	lab         *lab.Lab
	dir, prefix string
	address     map[string]string
	agent       *exec.Cmd
	server      *exec.Cmd
	bin         string
}

func main() {
	rounds := flag.Int("rounds", 5, "how often each mode has its turn; 0: only what the agent needs")
	bin := flag.String("bin", "bin", "where bulkhead and bulkhead-agent are")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, rounds int) (err error) {
	h := &host{prefix: fmt.Sprintf("bench-%d-", os.Getpid()), address: map[string]string{}}
	if h.bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	if h.dir, err = os.MkdirTemp("", "bulkhead-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.end()) }()
	if err := h.prepare(ctx); err != nil {
		return err
	}
	results := map[string]map[string][]float64{}
	for n := range rounds {
		if err := h.round(ctx, results); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "round %d of %d done\n", n+1, rounds)
	}
	if rounds > 0 {
		print(results)
	}
	return h.agentFigures(ctx)
}

func (h *host) docker(args ...string) *exec.Cmd {
	c := exec.Command("docker", args...)
	c.Env = append(os.Environ(), "DOCKER_HOST=unix://"+h.lab.Docker())
	return c
}

func output(c *exec.Cmd) (string, error) {
	b, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(c.Args, " "), err, b)
	}
	return strings.TrimSpace(string(b)), nil
}

// prepare starts the containers: the loads' own, nginx and redis.
func (h *host) prepare(ctx context.Context) error {
	h.lab = lab.Open("", func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
	if err := errors.Join(h.lab.Up(ctx), h.lab.Images(ctx, "nginx", "redis", "tools")); err != nil {
		return err
	}
	if err := h.buildLoad(); err != nil {
		return err
	}
	for name, args := range map[string][]string{
		"load": {h.prefix + "image", "/bin/load", "wait"}, "nginx": {lab.Reference("nginx")}, "redis": {lab.Reference("redis")},
	} {
		if _, err := output(h.docker(append([]string{"run", "-d", "--name", h.prefix + name}, args...)...)); err != nil {
			return err
		}
	}
	return h.locate()
}

// locate asks where the containers are: a restart may move them.
func (h *host) locate() error {
	for _, name := range containers {
		ip, err := output(h.docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", h.prefix+name))
		if err != nil {
			return err
		}
		h.address[name] = ip
	}
	time.Sleep(2 * time.Second)
	return nil
}

func (h *host) buildLoad() error {
	c := filepath.Join(h.dir, "load.c")
	file := "FROM " + lab.Reference("tools") + "\nCOPY load /bin/load\n"
	if err := errors.Join(os.WriteFile(c, []byte(source), 0o600), os.WriteFile(filepath.Join(h.dir, "Dockerfile"), []byte(file), 0o600)); err != nil {
		return err
	}
	if _, err := output(exec.Command("gcc", "-O2", "-static", "-o", filepath.Join(h.dir, "load"), c)); err != nil {
		return err
	}
	build := h.docker("build", "-q", "-t", h.prefix+"image", h.dir)
	build.Env = append(build.Env, "DOCKER_BUILDKIT=0")
	_, err := output(build)
	return err
}

// round gives each mode its turn.
func (h *host) round(ctx context.Context, results map[string]map[string][]float64) error {
	for _, mode := range modes {
		if err := h.enter(ctx, mode); err != nil {
			return fmt.Errorf("entering mode %s: %w", mode, err)
		}
		for _, l := range loads {
			if err := h.measure(l, mode, results); err != nil {
				return fmt.Errorf("measuring %s in mode %s: %w", l.name, mode, err)
			}
		}
	}
	return nil
}

func (h *host) measure(l load, mode string, results map[string]map[string][]float64) error {
	add := func(name string, v float64) {
		if results[name] == nil {
			results[name] = map[string][]float64{}
		}
		results[name][mode] = append(results[name][mode], v)
	}
	before, err := h.processorTime(l.container)
	if err != nil {
		return err
	}
	text, err := output(l.command(h))
	if err != nil {
		return err
	}
	after, err := h.processorTime(l.container)
	if err != nil {
		return err
	}
	m := l.number.FindStringSubmatch(strings.ReplaceAll(text, "\r", "\n"))
	if m == nil {
		return fmt.Errorf("no number in %q", text)
	}
	v, _ := strconv.ParseFloat(m[1], 64)
	add(l.name, v)
	if l.more {
		add(l.perRequest(), (after-before)/l.count(text))
	}
	return nil
}

func (l load) count(text string) float64 {
	if l.requests == nil {
		return redisRequests
	}
	m := l.requests.FindStringSubmatch(text)
	if m == nil {
		return 1
	}
	n, _ := strconv.ParseFloat(m[1], 64)
	return n
}

// processorTime is what a container has used of the processors so far, in nanoseconds.
func (h *host) processorTime(container string) (float64, error) {
	pid, err := output(h.docker("inspect", "-f", "{{.State.Pid}}", h.prefix+container))
	if err != nil {
		return 0, err
	}
	b, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		if slices.Contains(strings.Split(controllers, ","), "cpuacct") {
			text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/cpuacct", path, "cpuacct.usage"))
			n, _ := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
			return n, err
		}
	}
	text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", strings.TrimSpace(strings.TrimPrefix(string(b), "0::")), "cpu.stat"))
	m := regexp.MustCompile(`usage_usec (\d+)`).FindStringSubmatch(string(text))
	if err == nil && m == nil {
		err = errors.New("no processor time in cpu.stat")
	}
	if err != nil {
		return 0, err
	}
	n, _ := strconv.ParseFloat(m[1], 64)
	return n * 1000, nil
}

// enter puts a mode in force on all three containers. Learning begins with every function of the loads.
func (h *host) enter(ctx context.Context, mode string) error {
	if mode == "off" {
		return h.stopProduct()
	}
	if h.agent == nil {
		if err := h.startProduct(ctx); err != nil {
			return err
		}
		for _, l := range loads {
			if _, err := output(l.command(h)); err != nil {
				return err
			}
		}
		time.Sleep(2 * time.Second)
	}
	for _, c := range containers {
		if _, err := output(h.cli("mode", "docker/"+h.prefix+c, mode, "--anyway")); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) dirs() []string {
	return []string{"--state", filepath.Join(h.dir, "state"), "--run", filepath.Join(h.dir, "run")}
}

func (h *host) cli(args ...string) *exec.Cmd {
	if i := slices.Index(args, "--anyway"); i >= 0 && args[i-1] != "protect" {
		args = args[:i]
	}
	return exec.Command(filepath.Join(h.bin, "bulkhead"), append(args, h.dirs()...)...)
}

func (h *host) startProduct(ctx context.Context) error {
	notes := filepath.Join(h.dir, "run", "engines.d")
	if err := errors.Join(os.MkdirAll(notes, 0o700), os.WriteFile(filepath.Join(notes, "lab"), []byte("docker "+h.lab.Docker()+"\n"), 0o600)); err != nil {
		return err
	}
	h.server = h.cli("server", "--listen", "127.0.0.1:18443", "--bus-listen", "127.0.0.1:14333")
	h.agent = exec.Command(filepath.Join(h.bin, "bulkhead-agent"), append([]string{"run", "--pin", h.pin()}, h.dirs()...)...)
	for name, c := range map[string]*exec.Cmd{"server": h.server, "agent": h.agent} {
		log, err := os.OpenFile(filepath.Join(h.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		c.Stdout, c.Stderr = log, log
		if err := c.Start(); err != nil {
			return err
		}
	}
	for range 100 {
		text, _ := output(h.cli("workloads", "--format", "json"))
		if strings.Contains(text, h.prefix+"load") && strings.Contains(text, h.prefix+"redis") && strings.Contains(text, h.prefix+"nginx") {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	return errors.New("the agent does not report the containers")
}

func (h *host) pin() string { return "/sys/fs/bpf/" + filepath.Base(h.dir) }

// stopProduct takes everything out of the kernel, as if it had never been there.
func (h *host) stopProduct() error {
	for _, c := range []*exec.Cmd{h.agent, h.server} {
		if c != nil && c.Process != nil {
			_ = c.Process.Signal(syscall.SIGTERM)
			_ = c.Wait()
		}
	}
	running := h.agent != nil
	h.agent, h.server = nil, nil
	if !running {
		return nil
	}
	_, err := output(exec.Command(filepath.Join(h.bin, "bulkhead-agent"), append([]string{"release", "--pin", h.pin()}, h.dirs()...)...))
	// Filters stay in their processes: the next learning begins with new ones.
	for _, c := range containers {
		_, rerr := output(h.docker("restart", "-t", "1", h.prefix+c))
		err = errors.Join(err, rerr)
	}
	return errors.Join(err, os.RemoveAll(filepath.Join(h.dir, "state")), h.locate())
}

func (h *host) end() error {
	err := h.stopProduct()
	for _, pid := range h.keepers() {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	if h.lab != nil {
		_, rmErr := output(h.docker("rm", "-f", h.prefix+"load", h.prefix+"nginx", h.prefix+"redis"))
		_, imageErr := output(h.docker("rmi", "-f", h.prefix+"image"))
		err = errors.Join(err, rmErr, imageErr)
	}
	return errors.Join(err, os.RemoveAll(h.dir))
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// print writes a table of medians and of the medians of the rounds' ratios to "off".
func print(results map[string]map[string][]float64) {
	fmt.Printf("| what | off | learn | monitor | protect |\n|---|---|---|---|---|\n")
	for _, l := range loads {
		row(l.name, l.unit, l.more, results[l.name])
		if l.more {
			row(l.perRequest(), "ns", false, results[l.perRequest()])
		}
	}
}

func row(name, unit string, more bool, values map[string][]float64) {
	off := values["off"]
	fmt.Printf("| %s | %.1f %s |", name, median(off), unit)
	for _, mode := range modes[1:] {
		var ratios []float64
		for i, v := range values[mode] {
			if more {
				ratios = append(ratios, off[i]/v)
			} else {
				ratios = append(ratios, v/off[i])
			}
		}
		fmt.Printf(" %.1f (%+.1f %%) |", median(values[mode]), (median(ratios)-1)*100)
	}
	fmt.Println()
}
