package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"bulkhead"
	"bulkhead/agent/gate"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/container"
	"bulkhead/profile"
	"bulkhead/sign"
)

const (
	// judgeAgain is how often running containers are held against the policies anew: signatures come, scans grow old.
	judgeAgain = 5 * time.Minute
	// judgeTime bounds one judgment of a container that waits for it.
	judgeTime = 4 * time.Second
)

// trust is what the policies say of the containers of this node.
type trust struct {
	gate    *gate.Gate
	changed chan struct{} // the policies did

	mu      sync.Mutex
	engines map[string]gate.Docker // by socket
	pods    map[string]*container.Containerd
	known   map[string]judged // by container id
}

// judged is a verdict, and by which policies.
type judged struct {
	gate.Verdict
	policies string
	at       time.Time
}

func (a *Agent) openTrust() {
	a.trust = &trust{changed: make(chan struct{}, 1), engines: map[string]gate.Docker{}, pods: map[string]*container.Containerd{}, known: map[string]judged{}}
	var err error
	a.trust.gate, err = gate.Open(gate.Options{Dir: filepath.Join(a.options.State, "trust"), Registry: a.options.Registries, Log: a.log, Told: a.refusedBefore})
	if err != nil {
		a.problem("trust", err.Error())
	}
}

// setPolicies puts in force what the control plane sends.
func (a *Agent) setPolicies(documents [][]byte) error {
	if err := a.trust.gate.Set(documents); err != nil {
		return err
	}
	a.problem("trust", "")
	select {
	case a.trust.changed <- struct{}{}:
	default:
	}
	a.poke()
	return nil
}

// dockers are the Docker engines of this node.
func (a *Agent) dockers() []gate.Docker {
	a.trust.mu.Lock()
	defer a.trust.mu.Unlock()
	var all []gate.Docker
	for _, e := range a.containers.Engines() {
		if e.Name != "docker" {
			continue
		}
		if a.trust.engines[e.Socket] == nil {
			a.trust.engines[e.Socket] = container.DialDocker(e.Socket)
		}
		all = append(all, a.trust.engines[e.Socket])
	}
	return all
}

// serveDocker answers Docker, where somebody told it to ask. What it cannot serve is a problem, not the end.
func (a *Agent) serveDocker(ctx context.Context) error {
	socket := filepath.Join(a.options.Run, "docker-plugin.sock")
	if err := a.trust.gate.ServeDocker(ctx, socket, a.dockers); err != nil {
		a.problem("docker plug-in", err.Error())
	}
	<-ctx.Done()
	return nil
}

// serveNRI answers containerd or CRI-O about the containers of pods.
func (a *Agent) serveNRI(ctx context.Context) error {
	if a.options.NRI != "" {
		a.trust.gate.ServeNRI(ctx, gate.NRI{Socket: a.options.NRI, Digest: a.digestInPods, Log: a.log}, func(err error) {
			text := ""
			if err != nil {
				text = err.Error()
			}
			a.problem("nri", text)
		})
	}
	<-ctx.Done()
	return nil
}

// digestInPods asks the engines for the digest of an image by the name that a pod has it.
func (a *Agent) digestInPods(ctx context.Context, reference string) string {
	for _, e := range a.containers.Engines() {
		if e.Name != "containerd" {
			continue
		}
		if digest := a.engineOfPods(e.Socket).Digest(ctx, "k8s.io", reference); digest != "" {
			return digest
		}
	}
	return ""
}

func imageOf(reference, digest string) bulkhead.Image {
	return bulkhead.Image{Reference: reference, Digest: digest}
}

// judge holds a container that runs, or is about to, against the policies. A verdict is good for some minutes.
func (a *Agent) judge(ctx context.Context, c bulkhead.Container) gate.Verdict {
	if !a.trust.gate.Active() {
		return gate.Verdict{Allowed: true}
	}
	digest := a.trust.gate.Digest()
	a.trust.mu.Lock()
	have, ok := a.trust.known[c.ID]
	a.trust.mu.Unlock()
	if ok && have.policies == digest && time.Since(have.at) < judgeAgain {
		return have.Verdict
	}
	ctx, cancel := context.WithTimeout(ctx, judgeTime)
	defer cancel()
	v := a.trust.gate.Judge(ctx, a.ask(ctx, c))
	a.trust.mu.Lock()
	a.trust.known[c.ID] = judged{v, digest, time.Now()}
	a.trust.mu.Unlock()
	return v
}

// ask describes a container by what its engine and its first process say.
func (a *Agent) ask(ctx context.Context, c bulkhead.Container) gate.Ask {
	ask := gate.Ask{Container: c.Name, Workload: c.Workload.Name, Reference: c.Image.Reference, Powers: gate.PowersOf(c.PID), Profile: true}
	if c.Engine == "docker" {
		for _, d := range a.dockers() {
			if i, err := d.Image(ctx, c.Image.Config); err == nil {
				return gate.AskDocker(ask, i)
			}
		}
	}
	ask.Names = gate.Named(c.Image)
	return ask
}

// refuse ends a container that waits before its first instruction, when its image or what it asks for is not allowed.
func (a *Agent) refuse(ctx context.Context, c bulkhead.Container, pid int) bool {
	v := a.judge(ctx, c)
	if v.Allowed {
		return false
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	a.tellRefusal(c, v, bulkhead.ActionBlocked)
	return true
}

// slippedFor is how old a container may be that is ended although it runs: one that is older was let in by somebody.
const slippedFor = 10 * time.Second

// slipped ends a container that is not allowed and just started, where nothing stopped it before its first instruction: no
// keeper, or a cgroup that does not look like a container's.
func (a *Agent) slipped(c bulkhead.Container) bool {
	if time.Since(c.Started) > slippedFor || a.runsHere(c.CgroupID) {
		return false
	}
	return a.refuse(context.Background(), c, c.PID)
}

// holdBeside has the kernel stop the first process of each container that is made beside this one, where an engine calls
// cgroups by names that tell nothing: ctr's NAMESPACE/NAME.
func (a *Agent) holdBeside(c bulkhead.Container) {
	ref, ok := container.ParseCgroup(c.Cgroup)
	root, err := cgroupRoot()
	if !ok || ref.Sure || err != nil {
		return
	}
	var st syscall.Stat_t
	if syscall.Stat(filepath.Dir(filepath.Join(root, ref.Dir)), &st) == nil {
		if err := a.kernel.Parent(st.Ino); err != nil {
			a.log.Warn("the kernel does not hold new containers there", "cgroup", filepath.Dir(ref.Dir), "err", err)
		}
	}
}

// runsHere reports whether a cgroup is that of a container which was let in before.
func (a *Agent) runsHere(cgroup uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workloads {
		if _, ok := w.containers[cgroup]; ok {
			return true
		}
	}
	return false
}

// refusedBefore tells of what an engine was answered: there is no container yet.
func (a *Agent) refusedBefore(ask gate.Ask, v gate.Verdict) {
	c := bulkhead.Container{Name: ask.Container, Image: bulkhead.Image{Reference: ask.Reference}, Workload: bulkhead.Workload{Name: ask.Workload}}
	if _, digest, ok := strings.Cut(v.Pinned, "@"); ok {
		c.Image.Digest = digest
	}
	action := bulkhead.ActionBlocked
	if v.Allowed {
		action = bulkhead.ActionDetected
	}
	a.whenReady(context.Background(), func() { a.tellRefusal(c, v, action) })
}

// tellRefusal makes one alert of a verdict.
func (a *Agent) tellRefusal(c bulkhead.Container, v gate.Verdict, action string) {
	now := time.Now().UTC()
	al := bulkhead.Alert{
		ID: "trust-" + rand.Text(), Time: now, Cluster: a.options.Cluster, Node: a.options.Node, Workload: c.Workload.Name,
		Container: c.Name, Image: c.Image.Reference, Digest: c.Image.Digest, Action: action, Severity: bulkhead.High, Count: 1,
		Rule: "image/trust", Title: "An image that does not satisfy the trust policies", Technique: "T1204.003", Tactic: "execution",
		Process: bulkhead.AlertProcess{PID: c.PID, Args: []string{}, Ancestry: []bulkhead.Ancestor{}},
		Cause:   bulkhead.AlertCause{Kind: bulkhead.EventContainer, Object: c.Image.Reference}, Message: v.String(),
	}
	if slices.ContainsFunc(v.Reasons, func(r sign.Reason) bool { return strings.Contains(r.Rule, "/containers/") }) {
		al.Rule, al.Title, al.Technique, al.Tactic = "image/containers", "A container that asks for what the trust policies refuse", "T1611", "privilege-escalation"
	}
	a.alerts.add(al)
}

// followTrust holds what runs against the policies, when those change and from time to time: a container whose image
// no longer satisfies them is marked and told of, and goes on.
func (a *Agent) followTrust(ctx context.Context) error {
	tick := time.NewTicker(judgeAgain)
	defer tick.Stop()
	for {
		a.judgeAll(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-a.trust.changed:
		}
	}
}

func (a *Agent) judgeAll(ctx context.Context) {
	running := map[string]bool{}
	for _, c := range a.containers.List() {
		running[c.ID] = true
		if c.PID == 0 || ctx.Err() != nil {
			continue
		}
		a.judgeRunning(ctx, c)
	}
	a.trust.mu.Lock()
	maps.DeleteFunc(a.trust.known, func(id string, _ judged) bool { return !running[id] || !a.trust.gate.Active() })
	a.trust.mu.Unlock()
	a.poke()
}

func (a *Agent) judgeRunning(ctx context.Context, c bulkhead.Container) {
	a.trust.mu.Lock()
	before := a.trust.known[c.ID]
	a.trust.mu.Unlock()
	v := a.judge(ctx, c)
	if len(v.Reasons) > 0 && v.String() != before.String() {
		a.tellRefusal(c, v, bulkhead.ActionDetected)
	}
	if v.Profile != nil {
		a.locate(ctx, c)
		if _, err := a.adopt(ctx, c, v); err != nil {
			a.problem("container "+c.ID, err.Error())
		}
	}
}

// trustOf is what is said of a workload: the worst of what is said of its containers. To be called with the lock held.
func (a *Agent) trustOf(w *workload) *pb.ImageTrust {
	a.trust.mu.Lock()
	defer a.trust.mu.Unlock()
	ranks := []gate.Status{gate.Unmatched, gate.Trusted, gate.Unknown, gate.Untrusted}
	worst := &pb.ImageTrust{}
	for _, c := range w.containers {
		v, ok := a.trust.known[c.ID]
		if !ok || slices.Index(ranks, v.Status) < slices.Index(ranks, gate.Status(worst.Status)) {
			continue
		}
		worst = &pb.ImageTrust{Status: string(v.Status), Signers: v.Signers}
		for _, r := range v.Reasons {
			worst.Reasons = append(worst.Reasons, r.Rule+": "+r.Message)
		}
		if v.Profile != nil {
			worst.Profile = v.Mode
		}
	}
	return worst
}

// takeProfile puts a workload under the profile that is signed onto its image, unless a person decided its mode. To be
// called with the lock held.
func (a *Agent) takeProfile(w *workload, c bulkhead.Container, v gate.Verdict) {
	sum := sha256.Sum256(v.Profile)
	name := hex.EncodeToString(sum[:])
	if v.Profile == nil || w.Decided || w.Attested == name && w.Image.Digest == c.Image.Digest {
		return
	}
	p, err := profile.Read(bytes.NewReader(v.Profile), "the profile of "+v.Pinned)
	if err != nil {
		a.log.Warn("a signed profile cannot be read", "err", err)
		return
	}
	p.Workload = w.Name
	w.Profile, w.Mode, w.Image, w.Attested = p, bulkhead.Mode(v.Mode), c.Image, name
	if err := profile.Gate(p); err != nil && w.Mode == bulkhead.Protect {
		w.Mode = bulkhead.Monitor // it would break the application: whoever signed it should know
		a.log.Warn("a signed profile is not complete enough to block by: its workload is monitored", "workload", w.Name, "err", err)
	}
}
