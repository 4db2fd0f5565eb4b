package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"bulkhead/cmd/bulkhead/supervise"
	"bulkhead/test/registry"
)

var update = flag.Bool("update", false, "write golden files again")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"bulkhead":       func() { os.Exit(run(unchecked(), os.Args[1:])) },
		"bulkhead-agent": fakeAgent,
	})
}

// unchecked is the command on a host of which nothing is required.
func unchecked() *app {
	a := newApp()
	a.checks = nil
	if os.Getenv("TEST_CHECK_FAILS") != "" {
		a.checks = []check{{"root", func() error { return fmt.Errorf("missing; become root") }}, {"never", func() error { return fmt.Errorf("not reached") }}}
	}
	return a
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       *update,
		Setup: func(e *testscript.Env) error {
			e.Values[planeKey{}] = &controlPlane{}
			e.Values[registryKey{}] = &[]*registry.Registry{}
			e.Setenv("TZ", "UTC")
			e.Setenv("BULKHEAD_RUN", filepath.Join(e.WorkDir, "run"))
			e.Setenv("BULKHEAD_LISTEN", "127.0.0.1:0")
			e.Setenv("BULKHEAD_BUS_LISTEN", "127.0.0.1:0")
			e.Setenv("BULKHEAD_STATE", filepath.Join(e.WorkDir, "state"))
			e.Setenv("BULKHEAD_CACHE", filepath.Join(e.WorkDir, "cache"))
			e.Defer(func() { stopAllIn(t, filepath.Join(e.WorkDir, "run")) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server":  serverCommand,
			"killpid": killCommand,
			"waitfor": waitCommand,
			"width":   widthCommand,
			"feeds":   feedsCommand,
			"image":   imageCommand,
			"hub":     hubCommand,
			"notify":  notifyCommand,
			"shows":   showsCommand,
			"idof":    idOfCommand,

			"registry": registryCommand,
			"fill":     fillCommand,

			"rollback": rollbackCommand,
		},
	})
}

// stopAllIn ends by their pid files what a script that failed may have left.
func stopAllIn(t *testing.T, run string) {
	for _, name := range []string{"up", "agent", "server"} {
		if id, err := supervise.ReadIdentity(supervise.PIDFile(run, name)); err == nil {
			if err := id.Stop(10 * time.Second); err != nil {
				t.Errorf("stopping %s: %v", name, err)
			}
		}
	}
}

// controlPlane is the fake of one script, kept in its environment.
type controlPlane struct {
	*fake
	stop func()
}

type planeKey struct{}

// serverCommand starts and stops the control plane in this process, and raises alerts:
// server start | stop | alert ID | silent ID.
func serverCommand(ts *testscript.TestScript, _ bool, args []string) {
	c := ts.Value(planeKey{}).(*controlPlane)
	switch args[0] {
	case "start":
		if c.fake == nil {
			c.fake = newFake(ts.Getenv("BULKHEAD_RUN"))
		}
		stop, err := c.start()
		ts.Check(err)
		t, err := localTarget(c.run)
		ts.Check(err)
		ts.Setenv("FAKE_ADDRESS", t.address)
		c.stop = sync.OnceFunc(stop)
		ts.Defer(c.stop)
	case "stop":
		c.stop()
	default:
		c.raise(args[1], args[0] == "alert")
	}
}

// rollbackCommand takes back the one run of fixes that there is: rollback ROOT.
func rollbackCommand(ts *testscript.TestScript, _ bool, args []string) {
	runs, err := os.ReadDir(filepath.Join(ts.Getenv("BULKHEAD_STATE"), "audit"))
	ts.Check(err)
	if len(runs) != 1 {
		ts.Fatalf("%d runs of fixes, want one", len(runs))
	}
	ts.Check(ts.Exec("bulkhead", "audit", "--root", args[0], "--rollback", runs[0].Name()))
}

// killCommand kills a recorded process as nothing else would: killpid NAME.
func killCommand(ts *testscript.TestScript, _ bool, args []string) {
	id, err := supervise.ReadIdentity(supervise.PIDFile(ts.Getenv("BULKHEAD_RUN"), args[0]))
	ts.Check(err)
	ts.Check(id.Signal(syscall.SIGKILL))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".killed"), fmt.Append(nil, id), 0o600))
}

// waitCommand waits for a state: waitfor back NAME (alive with another process than was killed),
// waitfor gone NAME, waitfor text FILE TEXT.
func waitCommand(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if reached(ts, args) {
			return
		}
	}
	ts.Fatalf("not reached: %s", strings.Join(args, " "))
}

func reached(ts *testscript.TestScript, args []string) bool {
	if args[0] == "text" {
		text, _ := os.ReadFile(ts.MkAbs(args[1]))
		return strings.Contains(string(text), args[2])
	}
	id, err := supervise.ReadIdentity(supervise.PIDFile(ts.Getenv("BULKHEAD_RUN"), args[1]))
	if args[0] == "gone" {
		return err != nil || !id.Alive()
	}
	killed, _ := os.ReadFile(ts.MkAbs(args[1] + ".killed"))
	return err == nil && id.Alive() && fmt.Sprint(id) != string(killed)
}

// widthCommand checks that no line of a file is wider, and that nothing in it moves a cursor: width FILE COLUMNS.
func widthCommand(ts *testscript.TestScript, _ bool, args []string) {
	most, err := strconv.Atoi(args[1])
	ts.Check(err)
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		line = strings.TrimSuffix(line, "\n")
		if cellsOf(line) > most {
			ts.Fatalf("%d columns: %s", cellsOf(line), line)
		}
		if oneLine(line) != line {
			ts.Fatalf("not printable: %q", line)
		}
	}
}
