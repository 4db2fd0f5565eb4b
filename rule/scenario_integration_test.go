//go:build integration

package rule_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	for _, s := range all {
		t.Run(s.Rule+"/fire", func(t *testing.T) {
			if events := do(t, node, s.Fire); !met(set, s.Rule, events) {
				t.Errorf("%s\ndoes not fire; events: %+v", s.Fire.Command(), events)
			}
		})
		t.Run(s.Rule+"/quiet", func(t *testing.T) {
			if events := do(t, node, s.Quiet); met(set, s.Rule, events) {
				t.Errorf("%s\nfires", s.Quiet.Command())
			}
		})
	}
}

func do(t *testing.T, node Node, d scenarios.Deed) []bulkhead.Event {
	t.Helper()
	events := node.Run(t, scenarios.ImageName, d.Command(), Options{Docker: d.DockerOptions(), Enter: d.Enter, Protect: d.Protect})
	if len(events) == 0 {
		t.Fatal("the sensor told no event at all")
	}
	return events
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
