// Package web puts the layer-7 firewall in the path of workloads' requests on a node, as people decided. Start with
// [Open], [Web.Set] and [Web.Started].
//
// It promises that what was decided is kept on the node's own disk and holds for containers that run and for those that
// come; that it is switched without restarting anything; and that an application is never without service because of it,
// unless somebody chose that. It is not for carrying connections (package intercept) or judging them (package waf).
package web

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"google.golang.org/protobuf/proto"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/bpf"
	"bulkhead/intercept"
	"bulkhead/waf"
)

// Options for [Open].
type Options struct {
	Dir  string // settings and portraits
	Pin  string // on a BPF file system, for what stays closed
	Tell func(bulkhead.Container, intercept.Event)
	Log  *slog.Logger
}

// Web is the firewall of one node.
type Web struct {
	o         Options
	engine    func() *waf.Engine // made when the first workload needs it
	portraits *portraits

	settling sync.Mutex // one change after the other

	mu         sync.Mutex
	settings   map[string]*pb.WebSetting
	digest     string
	containers map[string]bulkhead.Container // that run, by id
	standing   map[string]*standing          // by the container's id
	retiring   sync.WaitGroup
	serving    *bpf.Serving                // while somebody stands inline
	before     map[string]intercept.Counts // of what no longer stands, by workload
	over       bool                        // nobody is to stand any more: another agent may come in this process
}

// standing is one container in whose path the firewall is, or should be.
type standing struct {
	container bulkhead.Container
	shape     string // what cannot be changed while it stands
	place     place
	namespace uint64
	ports     []uint16
	err       error // why it does not stand
}

// place is where requests come by.
type place interface {
	Change(intercept.Policy)
	Counts() intercept.Counts
	Flights(at time.Time, before time.Duration) []intercept.Flight
	Detach() error
	Drain(time.Duration)
	Leave() error
}

const (
	settingsFile = "settings.pb"
	endFor       = 10 * time.Minute // connections that were under way when the firewall was taken away
	tryAgain     = 10 * time.Second
	saveEvery    = 30 * time.Second
	maxSettings  = 4 << 20
)

// Open reads what was decided before. What cannot be read is an error beside a firewall that knows nothing: the control
// plane sends it again.
func Open(o Options) (*Web, error) {
	w := &Web{
		o: o, engine: sync.OnceValue(func() *waf.Engine { return waf.New(waf.Options{}) }), portraits: newPortraits(filepath.Join(o.Dir, "portraits")),
		settings: map[string]*pb.WebSetting{}, containers: map[string]bulkhead.Container{}, standing: map[string]*standing{}, before: map[string]intercept.Counts{},
	}
	if err := os.MkdirAll(w.portraits.dir, 0o700); err != nil {
		return w, fmt.Errorf("making the firewall's directory: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(o.Dir, settingsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	all := &pb.SetWebs{}
	if err == nil {
		err = proto.Unmarshal(b, all)
	}
	if err != nil {
		return w, fmt.Errorf("the settings of the layer-7 firewall cannot be read: %w; they are taken from the control plane again", err)
	}
	w.take(all)
	return w, nil
}

func (w *Web) take(all *pb.SetWebs) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settings = map[string]*pb.WebSetting{}
	for _, s := range all.Settings {
		w.settings[s.Workload] = s
	}
	w.digest = api.WebDigest(all.Settings)
}

// Digest names the settings that are in force.
func (w *Web) Digest() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.digest
}

// Set puts settings in force, all of them, and keeps them. It returns what could not be put in force here.
func (w *Web) Set(all *pb.SetWebs) error {
	if proto.Size(all) > maxSettings {
		return fmt.Errorf("the settings of the layer-7 firewall have %d bytes, the limit is %d", proto.Size(all), maxSettings)
	}
	for _, s := range all.Settings {
		if err := check(s); err != nil {
			return err
		}
	}
	b, err := proto.Marshal(all)
	if err == nil {
		err = renameio.WriteFile(filepath.Join(w.o.Dir, settingsFile), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keeping the settings of the layer-7 firewall: %w", err)
	}
	w.take(all)
	return w.settle(all.About)
}

// check refuses what this agent cannot do: it may be older than the control plane.
func check(s *pb.WebSetting) error {
	if !bulkhead.WebMode(s.Mode).Valid() || !bulkhead.WebPlace(s.Place).Valid() {
		return fmt.Errorf("workload %s: the layer-7 firewall has no mode %q at the place %q; is this agent older than the control plane?", s.Workload, s.Mode, s.Place)
	}
	_, err := policyOf(s)
	return err
}

// Started is told of every container that runs, also again where it got a better name.
func (w *Web) Started(c bulkhead.Container) {
	w.mu.Lock()
	w.containers[c.ID] = c
	_, wanted := w.settings[c.Workload.Name]
	_, stands := w.standing[c.ID]
	w.mu.Unlock()
	if wanted || stands {
		_ = w.settle("") // a failure is told with the workload's state
	}
}

// Ended is told of every container that ended.
func (w *Web) Ended(id string) {
	w.mu.Lock()
	delete(w.containers, id)
	_, stands := w.standing[id]
	w.mu.Unlock()
	if stands {
		_ = w.settle("")
	}
}

// Run saves what is learned and tries again what failed, until ctx ends; then new connections go to applications
// directly, or nowhere where that was chosen.
func (w *Web) Run(ctx context.Context) error {
	again, save := time.NewTicker(tryAgain), time.NewTicker(saveEvery)
	defer again.Stop()
	defer save.Stop()
	sweep := time.After(time.Minute)
	for {
		select {
		case <-ctx.Done():
			w.leave()
			return nil
		case <-again.C:
			if w.failing() {
				_ = w.settle("")
			}
		case <-save.C:
			if err := w.portraits.save(); err != nil {
				w.o.Log.Error("portraits were not saved", "err", err)
			}
		case <-sweep:
			w.sweep()
		}
	}
}

func (w *Web) failing() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.standing {
		if s.err != nil {
			return true
		}
	}
	return false
}

// sweep takes away what keeps connections to containers closed that are not to be so any more.
func (w *Web) sweep() {
	files, _ := filepath.Glob(filepath.Join(w.o.Pin, "*"))
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range files {
		if w.standing[filepath.Base(f)] == nil {
			_ = os.Remove(f)
		}
	}
}

func (w *Web) leave() {
	w.settling.Lock()
	defer w.settling.Unlock()
	w.mu.Lock()
	w.over = true
	var all []place
	for _, s := range w.standing {
		if s.place != nil {
			all = append(all, s.place)
		}
	}
	w.standing = map[string]*standing{}
	w.mu.Unlock()
	w.serve()
	var wait sync.WaitGroup
	for _, p := range all {
		wait.Go(func() { _ = p.Leave() })
	}
	wait.Wait()
	if err := w.portraits.save(); err != nil {
		w.o.Log.Error("portraits were not saved", "err", err)
	}
}

// settle brings every container to what is decided about its workload. Its error is about one workload, or all.
func (w *Web) settle(about string) error {
	w.settling.Lock()
	defer w.settling.Unlock()
	w.mu.Lock()
	if w.over {
		w.mu.Unlock()
		return nil
	}
	wanted := map[string]*pb.WebSetting{}
	for id, c := range w.containers {
		if s := w.settings[c.Workload.Name]; s != nil && s.Mode != string(bulkhead.WebOff) {
			wanted[id] = s
		}
	}
	var gone []string
	for id, s := range w.standing {
		if want := wanted[id]; want == nil || shapeOf(want, w.containers[id]) != s.shape || s.err != nil {
			gone = append(gone, id)
		}
	}
	w.mu.Unlock()
	for _, id := range gone {
		w.end(id)
	}
	var errs []error
	for id, s := range wanted {
		if err := w.stand(id, s); about == "" || about == s.Workload {
			errs = append(errs, err)
		}
	}
	w.serve()
	return errors.Join(errs...)
}

// shapeOf is what a place is made of: when it changes there has to be another.
func shapeOf(s *pb.WebSetting, c bulkhead.Container) string {
	return fmt.Sprint(s.Place, s.Ports, s.Closed, c.PID, c.Workload.Name, c.Image.Digest)
}

func (w *Web) end(id string) {
	w.mu.Lock()
	s := w.standing[id]
	delete(w.standing, id)
	if s.place == nil {
		w.mu.Unlock()
		return
	}
	w.before[s.container.Workload.Name] = add(w.before[s.container.Workload.Name], s.place.Counts())
	w.mu.Unlock()
	w.o.Log.Info("the layer-7 firewall leaves a container", "workload", s.container.Workload.Name, "container", id)
	if err := s.place.Detach(); err != nil {
		w.o.Log.Warn("the layer-7 firewall was not taken away", "container", id, "err", err)
	}
	w.retiring.Go(func() { s.place.Drain(endFor) })
}

func add(a, b intercept.Counts) intercept.Counts {
	return intercept.Counts{Requests: a.Requests + b.Requests, Blocked: a.Blocked + b.Blocked, Detected: a.Detected + b.Detected}
}

// stand puts the firewall in a container's path, or gives it another policy there.
func (w *Web) stand(id string, s *pb.WebSetting) error {
	w.mu.Lock()
	c, stands := w.containers[id], w.standing[id]
	w.mu.Unlock()
	policy, err := policyOf(s)
	if err != nil {
		return err
	}
	w.portrait(c, &policy)
	if stands != nil {
		stands.place.Change(policy)
		return nil
	}
	stands = &standing{container: c, shape: shapeOf(s, c)}
	stands.err = w.open(stands, s, policy)
	if stands.err != nil {
		stands.err = fmt.Errorf("container %s: %w", cmp.Or(c.Name, c.ID), stands.err)
		w.o.Log.Warn("the layer-7 firewall does not stand", "workload", s.Workload, "container", id, "err", stands.err)
	} else {
		w.o.Log.Info("the layer-7 firewall stands", "workload", s.Workload, "container", id, "mode", s.Mode, "place", s.Place, "ports", s.Ports)
	}
	w.mu.Lock()
	w.standing[id] = stands
	w.mu.Unlock()
	return stands.err
}

func (w *Web) open(st *standing, s *pb.WebSetting, policy intercept.Policy) error {
	path := fmt.Sprintf("/proc/%d/ns/net", st.container.PID)
	var err error
	if st.namespace, err = inode(path); err != nil {
		return fmt.Errorf("looking for its network: %w", err)
	}
	if ofHost(st.namespace) {
		return errors.New("it uses the host's network, where others' connections would be steered too: put the sidecar before it")
	}
	for _, port := range s.Ports {
		st.ports = append(st.ports, uint16(port))
	}
	if err := w.alone(st); err != nil && s.Place == string(bulkhead.PlaceInline) {
		return err
	}
	proxy := intercept.Options{Engine: w.engine(), Mode: policy.Mode, Log: w.o.Log, Tell: func(e intercept.Event) { w.o.Tell(st.container, e) }}
	if s.Place == string(bulkhead.PlaceTap) {
		t, err := intercept.NewTap(intercept.TapOptions{Namespace: path, Ports: st.ports, Proxy: proxy})
		if err != nil {
			return err
		}
		t.Change(policy)
		st.place = t
		return nil
	}
	in := intercept.InlineOptions{Namespace: path, Ports: st.ports, Closed: s.Closed, Proxy: proxy}
	if s.Closed {
		in.Pin = filepath.Join(w.o.Pin, st.container.ID)
	}
	i, err := intercept.NewInline(in)
	if err != nil {
		return err
	}
	i.Change(policy)
	st.place = i
	return nil
}

// alone refuses to steer a port twice: the two would give connections to each other for ever.
func (w *Web) alone(st *standing) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, other := range w.standing {
		if _, inline := other.place.(*intercept.Inline); !inline || other.namespace != st.namespace {
			continue
		}
		if slices.ContainsFunc(st.ports, func(p uint16) bool { return slices.Contains(other.ports, p) }) {
			return fmt.Errorf("its network is that of %s too, whose port the firewall has already", other.container.Workload.Name)
		}
	}
	return nil
}

// ofHost knows the host's network: that of its first process, where it may be asked, or the agent's own.
func ofHost(namespace uint64) bool {
	for _, path := range []string{"/proc/1/ns/net", "/proc/self/ns/net"} {
		if own, err := inode(path); err == nil && own == namespace {
			return true
		}
	}
	return false
}

func inode(path string) (uint64, error) {
	var st syscall.Stat_t
	err := syscall.Stat(path, &st)
	return st.Ino, err
}

// policyOf is what a proxy is to do.
func policyOf(s *pb.WebSetting) (intercept.Policy, error) {
	p := intercept.Policy{Mode: intercept.Mode(s.Mode)}
	for _, e := range s.Exceptions {
		p.Exceptions = append(p.Exceptions, intercept.Exception{Rule: e.Rule, Path: e.Path, Name: e.Name})
	}
	for _, one := range s.Patches {
		pattern, err := intercept.CompilePattern(one.Pattern)
		if err != nil {
			return p, fmt.Errorf("workload %s, patch %s: %w", s.Workload, one.Id, err)
		}
		p.Patches = append(p.Patches, intercept.Patch{ID: one.Id, Method: one.Method, Path: one.Path, Name: one.Name, Pattern: pattern})
	}
	return p, nil
}

// State is what the firewall does with a workload's requests here; nil: nothing.
func (w *Web) State(workload string) *pb.WebState {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.settings[workload]
	if s == nil {
		return nil
	}
	out := &pb.WebState{Mode: s.Mode, Place: s.Place, Ports: s.Ports, Closed: s.Closed}
	sum := w.before[workload]
	for _, st := range w.standing {
		switch {
		case st.container.Workload.Name != workload:
		case st.err != nil:
			out.Errors = append(out.Errors, strings.ReplaceAll(st.err.Error(), "\n", "; "))
		default:
			out.Containers++
			sum = add(sum, st.place.Counts())
			endpoints, learned := w.portraits.learned(workload, st.container.Image.Digest)
			out.Endpoints, out.Learned = max(out.Endpoints, int32(endpoints)), max(out.Learned, uint64(learned))
		}
	}
	slices.Sort(out.Errors)
	out.Requests, out.Blocked, out.Detected = sum.Requests, sum.Blocked, sum.Detected
	return out
}

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}
