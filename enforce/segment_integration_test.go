//go:build integration

package enforce

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/bpf"
	"bulkhead/topology"
	"bulkhead/topology/truth"
)

// cluster is the pods of the truth table, as processes.
type cluster struct {
	t        *testing.T
	kernel   *bpf.Kernel
	enforcer *Enforcer
	pods     map[truth.Pod]*testPod // by what both kinds of address have in common
	network  Network
	root     string
	hub      int
}

// who is a pod whatever kind of address is meant.
func who(p truth.Pod) truth.Pod {
	if p.Namespace != "" {
		p.Address = ""
	}
	return p
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, root: cgroup2(t), pods: map[truth.Pod]*testPod{}}
	var err error
	if c.kernel, err = bpf.Load(bpf.Options{CgroupRoot: c.root}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kernel.Close)
	if err := c.kernel.CountFlows(true); err != nil {
		t.Fatal(err)
	}
	if c.enforcer, err = New(Options{Kernel: c.kernel, CgroupRoot: c.root, Node: "node"}); err != nil {
		t.Fatal(err)
	}
	c.hub = hub(t)
	c.network = Network{Known: &topology.Record{}, Places: map[netip.Addr][]bulkhead.Endpoint{}}
	for _, n := range truth.Namespaces {
		c.network.Known.Namespaces = append(c.network.Known.Namespaces, topology.Namespace{Name: n, Labels: map[string]string{"ns": n}})
	}
	six := truth.Pods(true)
	for i, p := range truth.Pods(false) {
		if p.Namespace == "" {
			c.pods[p] = newPod(t, c.root, c.hub, bulkhead.Workload{}, p.Address, six[i].Address)
			c.pods[six[i]] = c.pods[p]
			continue
		}
		c.add(p, p.Address, six[i].Address)
	}
	return c
}

// add starts a pod of a workload, and holds it to what is in force.
func (c *cluster) add(p truth.Pod, addresses ...string) *testPod {
	c.t.Helper()
	pod := newPod(c.t, c.root, c.hub, bulkhead.Workload{Name: p.Workload(), Kind: "pod", Namespace: p.Namespace}, addresses...)
	c.pods[who(p)] = pod
	c.network.Known.Workloads = append(c.network.Known.Workloads, topology.Workload{
		Name: p.Workload(), Namespace: p.Namespace, Labels: p.Labels(), Ports: []topology.NamedPort{{Name: "serve-80-tcp", Protocol: "tcp", Port: 80}, {Name: "serve-81-udp", Protocol: "udp", Port: 81}},
	})
	for _, a := range addresses {
		c.network.Places[netip.MustParseAddr(a)] = []bulkhead.Endpoint{{Kind: bulkhead.EndWorkload, Name: p.Workload()}}
	}
	if err := c.enforcer.Attach(pod.Container); err != nil {
		c.t.Fatal(err)
	}
	return pod
}

func (c *cluster) policies(texts ...string) []topology.Policy {
	c.t.Helper()
	text := `{"apiVersion":"v1","kind":"List","items":[` + strings.Join(texts, ",") + `]}`
	if !strings.HasPrefix(texts[0], "{") {
		text = strings.Join(texts, "---\n")
	}
	d, err := topology.ReadPolicies("p", strings.NewReader(text), "default")
	if err != nil {
		c.t.Fatal(err)
	}
	return d.Policies
}

func (c *cluster) enforce(texts ...string) {
	c.t.Helper()
	c.network.Enforced = nil
	if len(texts) > 0 {
		c.network.Enforced = c.policies(texts...)
	}
	c.segment()
}

func (c *cluster) segment() {
	c.t.Helper()
	if err := c.enforcer.Segment(&c.network); err != nil {
		c.t.Fatal(err)
	}
}

// TestEnforcedTruth holds what really passes between pods against the text of Kubernetes' API, for sets of policies of the truth
// table: one in 40 of them, or all with BULKHEAD_ALL_TRUTH.
func TestEnforcedTruth(t *testing.T) {
	c := newCluster(t)
	every := 40
	if os.Getenv("BULKHEAD_ALL_TRUTH") != "" {
		every = 1
	}
	for _, six := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[six], func(t *testing.T) {
			n, sets, probes, passed := 0, 0, 0, 0
			for set := range truth.Sets(six) {
				if n++; n%every != 0 {
					continue
				}
				sets++
				c.enforce(set...)
				p, ok := c.compare(t, set, truth.Pods(six))
				probes += p
				passed += ok
			}
			t.Logf("%d sets of policies, %d connections tried, %d passed", sets, probes, passed)
		})
	}
}

type tried struct {
	from, to truth.Pod
	port     truth.Port
	want     bool
}

func (c *cluster) compare(t *testing.T, set []string, pods []truth.Pod) (probes, passed int) {
	t.Helper()
	judge, err := truth.NewJudge(set)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	for _, from := range pods {
		var list []tried
		for _, to := range pods {
			if from == to || from.Namespace == "" && to.Namespace == "" {
				continue
			}
			for _, port := range truth.Ports {
				if port.Protocol == "sctp" {
					continue
				}
				list = append(list, tried{from, to, port, judge.Passes(from, to, port)})
			}
		}
		probes += len(list)
		wait.Go(func() {
			wrong := c.wrong(t, list, 80*time.Millisecond)
			if len(wrong) > 0 { // a busy machine may have been slow
				wrong = c.wrong(t, wrong, 2*time.Second)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, w := range wrong {
				t.Errorf("%v -> %v %v: passed %v under\n%s", w.from, w.to, w.port, !w.want, strings.Join(set, "\n"))
			}
			for _, w := range list {
				if w.want {
					passed++
				}
			}
		})
	}
	wait.Wait()
	return probes, passed
}

func (c *cluster) wrong(t *testing.T, list []tried, patience time.Duration) (wrong []tried) {
	o := order{Do: "probe", Wait: patience}
	for _, l := range list {
		o.Probes = append(o.Probes, probe{l.port.Protocol, l.to.Address, l.port.Number})
	}
	for i, got := range c.pods[who(list[0].from)].ask(t, o) {
		if got != list[i].want {
			wrong = append(wrong, list[i])
		}
	}
	return wrong
}

const onlyB = "apiVersion: bulkhead/v1\nkind: Segment\nmetadata: {name: a}\nspec:\n  for: {workload: x/pod/a}\n  ingress:\n  - from: [{workload: x/pod/b}]\n    ports: [tcp/80, udp/81]\n  egress:\n  - to: [{workload: x/pod/b}]\n    ports: [tcp/80, icmp, icmpv6]\n"

// TestSegment: what stands is cut at once, what is staged is counted and passes, a quarantine lets nothing through, and a
// policy is for workloads, wherever they are.
func TestSegment(t *testing.T) {
	c := newCluster(t)
	four, six := truth.Pods(false), truth.Pods(true)
	a, b, third := c.pods[who(four[0])], c.pods[who(four[1])], c.pods[who(four[2])]
	type end struct{ a, b, c string }
	for _, at := range []end{{four[0].Address, four[1].Address, four[2].Address}, {six[0].Address, six[1].Address, six[2].Address}} {
		t.Run(at.a, func(t *testing.T) {
			c.t = t
			c.enforce()
			hold := []probe{{"tcp", at.a, 81}, {"tcp", at.a, 80}}
			if got := third.ask(t, order{Do: "hold", Probes: hold, Wait: time.Second}); !got[0] || !got[1] {
				t.Fatal("nothing is in force, and there is no way")
			}
			if got := b.ask(t, order{Do: "hold", Probes: hold, Wait: time.Second}); !got[0] || !got[1] {
				t.Fatal("nothing is in force, and there is no way")
			}
			if !a.reaches(t, "icmp", at.c, 0) {
				t.Error("nothing is in force, and a ping is lost")
			}
			c.network.Staged = c.policies(onlyB)
			c.segment()
			if !third.reaches(t, "tcp", at.a, 81) {
				t.Error("a staged policy cuts")
			}
			c.count(t, a, func(f bpf.Flow) bool { return f.Role == bpf.FlowServer && f.Port == 81 && f.Peer().String() == at.c }, 0, 2)
			c.network.Staged = nil
			began := time.Now()
			c.enforce(onlyB)
			t.Logf("in force after %v", time.Since(began).Round(10*time.Microsecond))
			if got := third.ask(t, order{Do: "held", Probes: hold, Wait: 300 * time.Millisecond}); got[0] || got[1] {
				t.Errorf("connections of a stranger still answer: %v", got)
			}
			if got := b.ask(t, order{Do: "held", Probes: hold, Wait: 300 * time.Millisecond}); got[0] || !got[1] {
				t.Errorf("port 81 must be cut and port 80 must not: %v", got)
			}
			for _, w := range []struct {
				from     *testPod
				protocol string
				to       string
				port     uint16
				want     bool
			}{
				{b, "tcp", at.a, 80, true},
				{b, "udp", at.a, 81, true},
				{b, "udp", at.a, 80, false},
				{b, "tcp", at.a, 81, false},
				{third, "udp", at.a, 81, false},
				{a, "tcp", at.b, 80, true},
				{a, "tcp", at.b, 81, false},
				{a, "udp", at.b, 80, false},
				{a, "icmp", at.b, 0, true},
				{a, "icmp", at.c, 0, false},
				{a, "tcp", at.a, 81, true},
				{third, "tcp", at.b, 81, true},
			} {
				if got := w.from.reaches(t, w.protocol, w.to, w.port); got != w.want {
					t.Errorf("%s -> %s %s/%d: %v", w.from.Workload.Name, w.to, w.protocol, w.port, got)
				}
			}
			c.count(t, a, func(f bpf.Flow) bool { return f.Role == bpf.FlowClient && f.Port == 81 && f.Peer().String() == at.b }, 1, 0)
			c.enforce()
			if got := b.ask(t, order{Do: "hold", Probes: hold, Wait: time.Second}); !got[0] || !got[1] {
				t.Error("it was taken back, and there is no way")
			}
			c.network.Quarantined = []string{a.Workload.Name}
			c.segment()
			if got := b.ask(t, order{Do: "held", Probes: hold, Wait: 300 * time.Millisecond}); got[0] || got[1] {
				t.Errorf("connections of the quarantined still answer: %v", got)
			}
			for _, way := range []struct{ from, to *testPod }{{b, a}, {a, b}} {
				to := map[*testPod]string{a: at.a, b: at.b}[way.to]
				if way.from.reaches(t, "tcp", to, 80) || way.from.reaches(t, "udp", to, 80) {
					t.Errorf("%s reaches %s in quarantine", way.from.Workload.Name, to)
				}
			}
			c.network.Quarantined = nil
			c.enforce(onlyB)
			if !b.reaches(t, "tcp", at.a, 80) {
				t.Error("it is out of quarantine, and there is no way")
			}
		})
	}
	c.t = t
	t.Run("another container", func(t *testing.T) { c.t = t; c.another(t, a, four) })
}

// another: a second container of a workload has what the first has from its first packet on, and one whose address goes to
// somebody else loses it.
func (c *cluster) another(t *testing.T, a *testPod, four []truth.Pod) {
	c.enforce(onlyB)
	b2 := newPod(t, c.root, c.hub, bulkhead.Workload{Name: four[1].Workload(), Namespace: "x"}, "10.0.1.50")
	if b2.reaches(t, "tcp", four[0].Address, 80) {
		t.Error("an address that nobody is known at gets through")
	}
	moved := netip.MustParseAddr("10.0.1.50")
	c.network.Places[moved] = []bulkhead.Endpoint{{Kind: bulkhead.EndWorkload, Name: four[1].Workload()}}
	began := time.Now()
	c.segment()
	t.Logf("another address in force after %v", time.Since(began).Round(10*time.Microsecond))
	if !b2.reaches(t, "tcp", four[0].Address, 80) {
		t.Error("another container of a workload that may does not get through")
	}
	hold := []probe{{"tcp", four[0].Address, 80}}
	b2.ask(t, order{Do: "hold", Probes: hold, Wait: time.Second})
	c.network.Places[moved] = []bulkhead.Endpoint{{Kind: bulkhead.EndWorkload, Name: four[2].Workload()}}
	c.segment()
	if b2.ask(t, order{Do: "held", Probes: hold, Wait: 300 * time.Millisecond})[0] || b2.reaches(t, "tcp", four[0].Address, 80) {
		t.Error("an address that went to another workload keeps what it had")
	}
	delete(c.network.Places, moved)
	a2 := c.add(truth.Pod{Namespace: "x", Name: "a", Address: "10.0.1.51"}, "10.0.1.51")
	c.pods[who(four[0])] = a
	if a2.reaches(t, "tcp", four[2].Address, 80) {
		t.Error("a new container of a closed workload gets out")
	}
	if !a2.reaches(t, "tcp", four[1].Address, 80) {
		t.Error("a new container of a workload that may does not get through")
	}
}

// count waits for what the kernel counted of an edge of a pod.
func (c *cluster) count(t *testing.T, pod *testPod, edge func(bpf.Flow) bool, denied, would uint64) {
	t.Helper()
	list, err := c.kernel.Flows()
	if err != nil {
		t.Fatal(err)
	}
	var sum bpf.FlowCounts
	for _, f := range list {
		if f.Cgroup == pod.CgroupID && edge(f) {
			sum.Denied += f.Denied
			sum.WouldDeny += f.WouldDeny
		}
	}
	if sum.Denied < denied || sum.WouldDeny < would {
		t.Errorf("denied %d, would be %d; at least %d and %d were", sum.Denied, sum.WouldDeny, denied, would)
	}
}

// TestEntries: a range of ports is covered by its blocks, each port once.
func TestEntries(t *testing.T) {
	for _, r := range [][2]uint16{{80, 80}, {1, 65535}, {30000, 32767}, {79, 81}, {65535, 65535}, {1024, 2047}} {
		seen := map[int]int{}
		list := entries(topology.Opening{Protocol: "tcp", From: r[0], To: r[1]})
		for _, e := range list {
			for p := range 1 << (16 - e.Bits) {
				seen[int(e.Port)+p]++
			}
		}
		for p := range 65536 {
			if want := p >= int(r[0]) && p <= int(r[1]); (seen[p] == 1) != want || seen[p] > 1 {
				t.Fatal(fmt.Sprint(r, p, seen[p]))
			}
		}
		if len(list) > 30 {
			t.Errorf("%v: %d blocks", r, len(list))
		}
	}
}
