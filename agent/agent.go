// Package agent runs one node: it senses what containers do, learns their profiles, keeps protection in force
// and tells about it. Start with [Run] and [Options].
//
// It promises to work with the control plane away, to keep what was decided on its own disk, and to lose no
// alert that reached that disk within the bound of its spool. It is not for the kernel's side (bpf), for what a
// profile is (profile) or for people (server).
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/agent/respond"
	"bulkhead/agent/web"
	"bulkhead/bpf"
	"bulkhead/container"
	"bulkhead/enforce"
	"bulkhead/enforce/keeper"
	"bulkhead/image"
	"bulkhead/rule"
	"bulkhead/sensor"
)

// Options for [Run].
type Options struct {
	Node        string // this node's name; empty: the host's
	Cluster     string
	State       string                     // profiles, modes and alerts not yet delivered
	Run         string                     // sockets, and engines.d with one "KIND SOCKET" file for each further engine
	Credentials string                     // of the bus; may appear later
	Rules       string                     // directory of rule files over the default ones; empty: none
	Pin         string                     // on a BPF file system; empty: /sys/fs/bpf/bulkhead
	NoLSM       bool                       // leave BPF-LSM alone
	Kill        bool                       // end processes for system calls outside their profile
	Keeper      func() keeper.StartOptions // how to start a keeper; nil: system calls are not held to profiles
	Events      func(*bulkhead.Event)      // hears every event, before it may become an alert; nil: nobody does
	Registries  image.Options              // how they are spoken to for signatures
	Seccomp     string                     // the kubelet's directory of seccomp profiles, which gets the learned ones; empty: none
	Cgroup      string                     // containers in this cgroup are this node's alone; empty: all of this kernel are
	NRI         string                     // socket of an engine's plug-in interface; empty: none
	ReadAlong   []string                   // workloads of which is told what they are asked, and ask: names, with * for any characters
	HostRoot    string                     // the host's files, for audits; empty: as the first process of this agent's pid namespace sees them
	Auditor     string                     // a program that audits this node when it is started with the word audit, as bulkhead-agent does; empty: nothing is audited
	Version     string
	Log         *slog.Logger
}

// Agent is one running node.
type Agent struct {
	options      Options
	log          *slog.Logger
	lock         *os.File // of the pins
	kernel       *bpf.Kernel
	containers   *container.Directory
	enforcer     *enforce.Enforcer
	keeper       *keeper.Client
	sensor       *sensor.Sensor
	spool        *spool
	alerts       *alerter
	images       *images
	addresses    *addresses
	flows        *flows
	network      *network
	translations *translations
	trust        *trust
	response     *respond.Responder
	web          *web.Web
	auditsWait   chan struct{} // for the control plane

	adopting turns // of workloads: one change at a time
	needs    needs

	mu        sync.Mutex
	rules     *rule.Set
	workloads map[string]*workload
	problems  map[string]string // by what they are about
	changed   chan struct{}     // something worth reporting
	ready     chan struct{}     // closed once all parts are there: the keeper speaks before
}

// Run works until the context ends. What is in force stays in force after it.
func Run(ctx context.Context, o Options) error {
	ctx, cancel := context.WithCancel(ctx) // with it end also those who follow the engines
	defer cancel()
	a, err := start(ctx, &o)
	if a != nil {
		defer a.close()
	}
	if err != nil {
		return err
	}
	return a.run(ctx)
}

// close lets go of what is open; what is in force stays so.
func (a *Agent) close() {
	if a.keeper != nil {
		_ = a.keeper.Close()
	}
	if a.kernel != nil {
		a.kernel.Close()
	}
	if a.spool != nil {
		a.spool.close()
	}
	if a.lock != nil {
		a.lock.Close()
	}
}

func start(ctx context.Context, o *Options) (*Agent, error) {
	o.defaults()
	if err := privileged(); err != nil {
		return nil, err
	}
	a := &Agent{options: *o, log: o.Log, workloads: map[string]*workload{}, problems: map[string]string{}, changed: make(chan struct{}, 1), ready: make(chan struct{}), images: newImages(), addresses: newAddresses(), flows: newFlows(), network: newNetwork(), translations: newTranslations(), auditsWait: make(chan struct{}, 1)}
	var err error
	if err := mountPins(o.Pin); err != nil {
		return a, err
	}
	if a.lock, err = alone(o.Pin); err != nil {
		return a, err
	}
	if err := os.MkdirAll(filepath.Join(o.State, "workloads"), 0o700); err != nil {
		return a, fmt.Errorf("making the agent's state directory: %w", err)
	}
	if err := a.loadRules(); err != nil {
		return a, err
	}
	if err := a.loadWorkloads(); err != nil {
		return a, err
	}
	if a.spool, err = openSpool(filepath.Join(o.State, "spool"), spoolBytes); a.spool == nil {
		return a, err
	} else if err != nil {
		a.problem("spool", err.Error())
	}
	a.openTrust()
	a.openWeb()
	return a, a.openKernel(ctx)
}

func (o *Options) defaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Node == "" {
		o.Node, _ = os.Hostname()
	}
	if o.Cluster == "" {
		o.Cluster = "local"
	}
	if o.Pin == "" {
		o.Pin = "/sys/fs/bpf/bulkhead"
	}
}

func (a *Agent) openKernel(ctx context.Context) error {
	root, err := cgroupRoot()
	if err != nil {
		return err
	}
	a.kernel, err = bpf.Load(bpf.Options{Pin: a.options.Pin, CgroupRoot: root, NoLSM: a.options.NoLSM, Log: a.log})
	if err != nil {
		return fmt.Errorf("loading kernel programs: %w", err)
	}
	if err := a.watchCalls(); err != nil {
		return err
	}
	if a.containers, err = container.Open(ctx, a.engines(root)); err != nil {
		return fmt.Errorf("looking for containers: %w", err)
	}
	if err := a.openKeeper(ctx); err != nil {
		a.problem("keeper", "system calls are not held to profiles: "+err.Error())
	}
	a.enforcer, err = enforce.New(enforce.Options{Kernel: a.kernel, Keeper: a.keeper, CgroupRoot: root, Node: a.options.Node, Kill: a.options.Kill, Addresses: a.addresses.of, Cut: a.cut, ReadAlong: a.readsAlong, Log: a.log})
	if err != nil {
		return err
	}
	if err := a.kernel.CountFlows(true); err != nil {
		a.problem("flows", "who talks to whom is not counted, and network policies are not in force: "+err.Error())
	}
	a.loadNetwork()
	_ = a.segment() // a failure is among the node's problems; what is in force stays so
	if err := a.kernel.HoldNew(a.keeper != nil); err != nil {
		return err
	}
	a.alerts = newAlerter(a)
	if a.response, err = respond.New(respond.Options{CgroupRoot: root, Dir: filepath.Join(a.options.State, "response"), Cut: a.cutOff, Log: a.log}); a.response == nil {
		return err
	} else if err != nil {
		a.problem("response", fmt.Sprintf("a container that a rule had held still was not let go: %v; run `bulkhead-agent resume`", err))
	}
	if a.sensor, err = sensor.New(sensor.Options{Kernel: a.kernel, Lookup: a.lookup, Node: a.options.Node, Log: a.log}); err != nil {
		return err
	}
	close(a.ready)
	return nil
}

func (a *Agent) openKeeper(ctx context.Context) error {
	if a.options.Keeper == nil {
		return errors.New("no keeper was asked for")
	}
	start := a.options.Keeper()
	running := ctx
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client, err := keeper.Dial(ctx, keeper.ClientOptions{
		Socket: filepath.Join(a.options.Run, "keeper.sock"),
		Start:  func(context.Context) error { return keeper.Start(start) },
		Denied: func(list []keeper.Denial) { a.whenReady(running, func() { a.denied(list) }) },
		Unknown: func(cgroup uint64, pid int) {
			a.whenReady(running, func() { go a.arrived(context.Background(), cgroup, pid) })
		},
		Log: a.log,
	})
	a.keeper = client
	return err
}

// whenReady does something now, or once all parts are there.
func (a *Agent) whenReady(ctx context.Context, do func()) {
	select {
	case <-a.ready:
		do()
		return
	default:
	}
	go func() {
		select {
		case <-a.ready:
			do()
		case <-ctx.Done():
		}
	}()
}

// run starts the parts and waits: each one is a loop that ends with the context.
func (a *Agent) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	for name, part := range map[string]func(context.Context) error{
		"containers": a.followContainers,
		"sensor":     func(ctx context.Context) error { return a.sensor.Run(ctx, a.handle) },
		"clock":      a.clock,
		"alerts":     a.alerts.run,
		"response":   a.response.Run,
		"delivery":   a.deliver,
		"engines":    a.followEngines,
		"heads":      a.followHeads,
		"turns":      a.followTurns,
		"trust":      a.followTrust,
		"docker":     a.serveDocker,
		"nri":        a.serveNRI,
		"translated": a.followTranslations,
		"seccomp":    a.writeSeccomp,
		"web":        a.web.Run,
		"audit":      a.auditNode,
	} {
		wait.Go(func() {
			if err := part(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	a.log.Info("agent is running", "node", a.options.Node, "kernel", a.kernel.Features().Release, "lsm", a.kernel.Features().LSM, "adopted", a.kernel.Features().Adopted)
	wait.Wait()
	a.saveAll()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// loadRules reads the default rules and the user's over them.
func (a *Agent) loadRules() error {
	if a.options.Rules == "" {
		set, err := rule.Default()
		a.rules = set
		return err
	}
	last := filepath.Join(a.options.State, "rules")
	set, err := rule.Load(os.DirFS(a.options.Rules))
	if err == nil {
		a.rules = set
		if err := keepRules(a.options.Rules, last); err != nil {
			a.problem("rules", fmt.Sprintf("keeping a copy of the rules: %v; free room in %s", err, a.options.State))
		}
		return nil
	}
	inForce := "those that were good last"
	if a.rules, _ = rule.Load(os.DirFS(last)); a.rules == nil {
		inForce = "the default ones"
		if a.rules, _ = rule.Default(); a.rules == nil {
			return err
		}
	}
	a.problem("rules", fmt.Sprintf("reading the rules in %s: %v; in force are %s: mend the file and start the agent again", a.options.Rules, err, inForce))
	return nil
}

// keepRules copies the rule files that were read, for a day when they cannot be.
func keepRules(from, to string) error {
	fresh, err := os.MkdirTemp(filepath.Dir(to), ".rules-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	files, _ := filepath.Glob(filepath.Join(from, "*.y*ml"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil {
			err = os.WriteFile(filepath.Join(fresh, filepath.Base(f)), b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.Rename(fresh, to)
}

// problem keeps one line about something that a person should mend; an empty text takes it back.
func (a *Agent) problem(about, text string) {
	text = strings.ReplaceAll(text, "\n", "; ")
	a.mu.Lock()
	defer a.mu.Unlock()
	if text == "" {
		delete(a.problems, about)
		return
	}
	if a.problems[about] != text {
		a.log.Warn("problem", "about", about, "text", text)
	}
	a.problems[about] = text
}

func (a *Agent) poke() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

func (a *Agent) lookup(cgroup uint64) (bulkhead.Container, bool) {
	if c, ok := a.containers.Lookup(cgroup); ok {
		return c, true
	}
	return a.enforcer.Container(cgroup)
}
