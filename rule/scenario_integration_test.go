//go:build integration

package rule_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bulkhead"
	"bulkhead/rule"
	"bulkhead/rule/scenarios"
)

// Node is a node with a sensor that was asked for the needs of the rules, and an engine.
type Node interface {
	// LoadImage gives the docker-archive to the engine.
	LoadImage(t *testing.T, archive []byte)
	// Run runs the shell command in a new container of the image, with these options of
	// `docker run`; with Enter by `docker exec` in one that is idle (its default command
	// sleeps); with Protect under an enforced profile that knows nothing of the deed. It
	// returns all events of the container until it ended.
	Run(t *testing.T, image, command string, options Options) []bulkhead.Event
}

// Options say how a deed has to be run.
type Options struct {
	Docker  []string
	Enter   bool
	Protect bool
}

// TestScenariosInContainers does every pair for real.
func TestScenariosInContainers(t *testing.T) {
	set, err := rule.Default()
	if err != nil {
		t.Fatal(err)
	}
	all, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	node := openNode(t, set.Needs())
	node.LoadImage(t, attackImage(t, all))
	told := doAll(t, node, all)
	for i, s := range all {
		t.Run(s.Rule+"/fire", func(t *testing.T) {
			t.Parallel()
			if file := absent(s.Fire); file != "" {
				t.Skip("this kernel has no " + file)
			}
			if events := told[2*i]; !met(set, s.Rule, events) {
				t.Errorf("%s\ndoes not fire; events:\n%s", s.Fire.Command(), describe(events))
			}
		})
		t.Run(s.Rule+"/quiet", func(t *testing.T) {
			t.Parallel()
			switch events := told[2*i+1]; {
			case len(events) == 0:
				t.Error("the sensor told no event at all")
			case met(set, s.Rule, events):
				t.Errorf("%s\nfires; events:\n%s", s.Quiet.Command(), describe(events))
			}
		})
	}
}

// abreast is how many containers run at the same time: most of a deed is waiting for the engine.
const abreast = 6

// doAll does all deeds: the one that fires and the quiet one of each scenario after each other.
func doAll(t *testing.T, node Node, all []scenarios.Scenario) [][]bulkhead.Event {
	t.Helper()
	told := make([][]bulkhead.Event, 2*len(all))
	room := make(chan struct{}, abreast)
	var group sync.WaitGroup
	for i, s := range all {
		for j, d := range []scenarios.Deed{s.Fire, s.Quiet} {
			room <- struct{}{}
			group.Go(func() {
				defer func() { <-room }()
				if absent(d) == "" {
					told[2*i+j] = do(t, node, d)
				}
			})
		}
	}
	group.Wait()
	return told
}

// absent is the file of the kernel's that a deed is about and that this kernel was built without.
func absent(d scenarios.Deed) string {
	file := cmp.Or(d.Read, d.Write)
	if !strings.HasPrefix(file, "/proc/") && !strings.HasPrefix(file, "/sys/") {
		return ""
	}
	if _, err := os.Lstat(file); err == nil || strings.HasPrefix(file, "/proc/1/") || strings.HasPrefix(file, "/proc/self/") {
		return ""
	}
	return file
}

func describe(events []bulkhead.Event) string {
	var out strings.Builder
	for _, e := range events {
		e.Container, e.Boot, e.Node = bulkhead.Container{}, "", ""
		text, _ := json.Marshal(e)
		fmt.Fprintf(&out, "  %.700s\n", text)
	}
	return out.String()
}

func do(t *testing.T, node Node, d scenarios.Deed) []bulkhead.Event {
	t.Helper()
	return node.Run(t, scenarios.ImageName, d.Command(), Options{Docker: d.DockerOptions(), Enter: d.Enter, Protect: d.Protect})
}

func met(set *rule.Set, id string, events []bulkhead.Event) bool {
	for _, e := range events {
		for _, m := range set.Eval(e) {
			if m.Rule.ID == id {
				return true
			}
		}
	}
	return false
}

func attackImage(t *testing.T, all []scenarios.Scenario) []byte {
	t.Helper()
	helper := filepath.Join(t.TempDir(), "attack")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", helper, "bulkhead/rule/internal/attack")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the helper: %v\n%s", err, out)
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("find busybox: %v; install busybox-static", err)
	}
	list, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		t.Fatalf("list busybox's applets: %v", err)
	}
	var archive bytes.Buffer
	tools := scenarios.Tools{Busybox: contents(t, busybox), Attack: contents(t, helper), Applets: strings.Fields(string(list))}
	if err := scenarios.WriteImage(&archive, tools, all); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

func contents(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
