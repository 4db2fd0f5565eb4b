//go:build integration

package robust

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/test/lab"
)

const (
	kills       = 50
	keeperKills = 10
	hang        = time.Second
)

// tally is what the actor's attacker saw.
type tally struct {
	Attempts, Succeeded, NoCall, Odd, Probes, Broken int64
	Longest                                          time.Duration
	Last, Slow                                       string
}

func (b *box) judge(t *testing.T) tally {
	t.Helper()
	var l tally
	if err := b.get("/tally", &l); err != nil {
		t.Fatal(err)
	}
	if l.Succeeded+l.NoCall+l.Odd+l.Broken > 0 || l.Longest > hang || l.Attempts == 0 || l.Probes == 0 {
		t.Errorf("attacker: %+v", l)
	}
	return l
}

// visitors send requests until they are told to stop.
type visitors struct {
	requests, broken atomic.Int64
	longest          atomic.Int64
	last             atomic.Value
	group            sync.WaitGroup
}

func visit(ctx context.Context, n int, url string) *visitors {
	v := &visitors{}
	for range n {
		v.group.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				err := v.one(url)
				v.requests.Add(1)
				if took := int64(time.Since(began)); took > v.longest.Load() {
					v.longest.Store(took)
				}
				if err != nil {
					v.broken.Add(1)
					v.last.Store(err.Error())
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	return v
}

func (v *visitors) one(url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != 200 {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	return nil
}

// spoolWatch reads every line that was ever on the spool: it holds on to files that the agent removes.
type spoolWatch struct {
	dir string

	mu    sync.Mutex
	files map[string]*os.File
}

func (w *spoolWatch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	names, _ := filepath.Glob(filepath.Join(w.dir, "*.alerts"))
	for _, name := range names {
		if w.files[name] == nil {
			if f, err := os.Open(name); err == nil {
				w.files[name] = f
			}
		}
	}
}

func (w *spoolWatch) follow(ctx context.Context) {
	for ctx.Err() == nil {
		w.look()
		time.Sleep(3 * time.Millisecond)
	}
}

// written are the alerts by id, with the highest count.
func (w *spoolWatch) written() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string]int{}
	for _, f := range w.files {
		lines := bufio.NewReader(io.NewSectionReader(f, 0, 1<<40))
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				break
			}
			var a bulkhead.Alert
			if json.Unmarshal(bytes.TrimSpace(line), &a) == nil {
				all[a.ID] = max(all[a.ID], a.Count)
			}
		}
	}
	return all
}

// arrived compares the control plane's list with what was ever written.
func (p *hull) arrived(t *testing.T, w *spoolWatch) error {
	var list []bulkhead.Alert
	if err := p.Ask(&list, "alerts", "--limit", "0"); err != nil {
		return err
	}
	w.look()
	want := w.written()
	got := map[string]int{}
	for _, a := range list {
		if _, twice := got[a.ID]; twice {
			return fmt.Errorf("%s is in the list twice", a.ID)
		}
		got[a.ID] = a.Count
	}
	for id, n := range want {
		if got[id] != n {
			return fmt.Errorf("%s was written with count %d and arrived with %d (%d written, %d arrived)", id, n, got[id], len(want), len(got))
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d written, %d arrived", len(want), len(got))
	}
	return nil
}

func (p *hull) wantAlert(t *testing.T, b *box, object string) error {
	list, err := p.Alerts("--workload", b.workload())
	for _, a := range list {
		if a.Cause.Object == object && a.Action == bulkhead.ActionBlocked {
			return nil
		}
	}
	if err == nil {
		err = fmt.Errorf("none of %d alerts is about %s", len(list), object)
	}
	return err
}

// TestKill kills the agent, the control plane and the keeper while an application works and an attacker tries.
func TestKill(t *testing.T) {
	p := start(t)
	image, err := lab.Open("", t.Logf).Image(t.Context(), "nginx")
	if err != nil {
		t.Fatal(err)
	}
	evil, web := p.box(t, "kill", p.actorImage(t)), p.box(t, "web", image)
	url := "http://" + web.ip + "/"
	watch := &spoolWatch{dir: p.Path("state", "agent", "spool"), files: map[string]*os.File{}}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var following sync.WaitGroup
	following.Go(func() { watch.follow(ctx) })
	p.Eventually(20*time.Second, func() error { return new(visitors).one(url) })
	teaching, taught := context.WithCancel(ctx)
	teacher := visit(teaching, 2, url)
	evil.learn(p)
	taught()
	teacher.group.Wait()
	for _, b := range []*box{evil, web} {
		p.mode(b.workload(), "protect")
	}
	host := listenOn(t, gateway(t, evil)+":0")
	go takeAll(host)
	if err := evil.get("/attack?arg="+host.Addr().String(), nil); err != nil {
		t.Fatal(err)
	}
	working, done := context.WithCancel(ctx)
	users := visit(working, 2, url)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	began := time.Now()
	for range kills {
		victim := p.Agent
		if random.IntN(5) < 2 {
			victim = p.Server
		}
		time.Sleep(time.Duration(50+random.IntN(1300)) * time.Millisecond)
		victim.Kill()
		time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
		victim.Start()
	}
	t.Logf("%d kills of agent and control plane in %v", kills, time.Since(began).Round(time.Second))
	p.Await()
	report(t, evil, users)
	p.killKeepers(t, random)
	report(t, evil, users)
	done()
	users.group.Wait()
	if n := users.broken.Load(); n > 0 {
		t.Errorf("%d of %d requests broken: %v", n, users.requests.Load(), users.last.Load())
	}
	docker(t, "stop", "-t", "1", evil.name) // no more alerts
	var last error
	p.Eventually(30*time.Second, func() error { last = p.arrived(t, watch); return last })
	stop()
	following.Wait()
	t.Logf("%d alerts were written to the spool; each arrived once", len(watch.written()))
}

func report(t *testing.T, evil *box, users *visitors) {
	t.Helper()
	l := evil.judge(t)
	t.Logf("attacker: %d attempts, %d succeeded, %d ENOSYS; %d probes, %d broken; the longest call took %v (%s). users: %d requests, %d broken, the longest %v",
		l.Attempts, l.Succeeded, l.NoCall, l.Probes, l.Broken, l.Longest.Round(time.Millisecond), l.Slow, users.requests.Load(), users.broken.Load(), time.Duration(users.longest.Load()).Round(time.Millisecond))
}

// killKeepers: the agent answers in a keeper's place until the next one has everything.
func (p *hull) killKeepers(t *testing.T, random *rand.Rand) {
	t.Helper()
	for range keeperKills {
		var pids []int
		p.Eventually(10*time.Second, func() error {
			if pids = p.Keepers(); len(pids) != 1 {
				return fmt.Errorf("keepers: %v", pids)
			}
			return nil
		})
		if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(200+random.IntN(1000)) * time.Millisecond)
	}
	t.Logf("%d kills of the keeper", keeperKills)
}
