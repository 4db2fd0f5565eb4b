//go:build integration

package robust

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkhead/test/lab"
	"bulkhead/test/product"
)

const (
	memory = 80 << 20
	rounds = 3
	load   = 4 * time.Second
)

// TestFlood: a fork bomb and as many system calls as a processor makes, in one protected container. Its attacks stay
// blocked, what is not told is counted, the agent stays small, and a web server on the other processor pays what it
// pays without a flood.
func TestFlood(t *testing.T) {
	p := start(t)
	image, err := lab.Open("", t.Logf).Image(t.Context(), "nginx")
	if err != nil {
		t.Fatal(err)
	}
	last := strconv.Itoa(lastProcessor(t))
	evil := p.box(t, "flood", p.actorImage(t), "--pids-limit", "500", "--cpuset-cpus", last)
	web := p.box(t, "calm", image, "--cpuset-cpus", "0")
	p.Eventually(20*time.Second, func() error { _, err := net.Dial("tcp", web.ip+":80"); return err })
	wrk(t, web)
	evil.learn(p) // the flood is of what the profile allows
	for _, b := range []*box{evil, web} {
		p.mode(b.workload(), "protect")
	}
	host := listenOn(t, gateway(t, evil)+":0")
	go takeAll(host)
	if err := evil.get("/attack?arg="+host.Addr().String(), nil); err != nil {
		t.Fatal(err)
	}
	if err := evil.get("/flood", nil); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	before := p.cgroupUse(t, evil)
	var largest uint64
	var with, without []float64
	for i := range rounds {
		with = append(with, wrk(t, web))
		largest = max(largest, resident(t, p.Agent))
		if i == 0 {
			p.judgeFlood(t, evil, before)
		}
		p.Agent.Stop()
		p.Release()
		without = append(without, wrk(t, web))
		p.Agent.Start()
		time.Sleep(4 * time.Second) // until it has adopted its containers
	}
	if largest > memory {
		t.Errorf("the agent had %d MiB resident", largest>>20)
	}
	a, b := median(with), median(without)
	t.Logf("nginx beside the flood: %.0f requests/s protected %v, %.0f without Bulkhead %v: %+.1f %%; the agent had at most %d MiB resident", a, whole(with), b, whole(without), 100*(a/b-1), largest>>20)
}

// judgeFlood looks while the flood is on.
func (p *hull) judgeFlood(t *testing.T, evil *box, before uint64) {
	t.Helper()
	var l tally
	if err := evil.get("/tally", &l); err != nil {
		t.Fatal(err)
	}
	if l.Succeeded+l.NoCall > 0 || l.Attempts == 0 {
		t.Errorf("attacker in the flood: %+v", l)
	}
	n, err := p.Node()
	if err != nil {
		t.Fatal(err)
	}
	if n.FoldedEvents+n.LostEvents == 0 {
		t.Error("a flood is told in full, or not counted")
	}
	t.Logf("in the flood: %d attacks, %d succeeded; %d events, %d lost, %d folded; %d processes were made", l.Attempts, l.Succeeded, n.Events, n.LostEvents, n.FoldedEvents, p.cgroupUse(t, evil)-before)
}

func lastProcessor(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSpace(string(b))
	n, err := strconv.Atoi(text[strings.LastIndexAny(text, "-,")+1:])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// cgroupUse is how many processes this host has made so far.
func (p *hull) cgroupUse(t *testing.T, _ *box) uint64 {
	t.Helper()
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "processes "); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(rest), 10, 64)
			return n
		}
	}
	return 0
}

func resident(t *testing.T, p *product.Program) uint64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// wrk counts requests per second from the processor that the web server has to itself.
func wrk(t *testing.T, b *box) float64 {
	t.Helper()
	out, err := exec.Command("taskset", "-c", "0", "wrk", "-t1", "-c8", "-d"+load.String(), "http://"+b.ip+"/").CombinedOutput()
	if err != nil {
		t.Fatalf("wrk: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "Requests/sec:"); ok {
			n, _ := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			return n
		}
	}
	t.Fatalf("wrk: %s", out)
	return 0
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

func whole(list []float64) (out []int) {
	for _, n := range list {
		out = append(out, int(n))
	}
	return out
}
