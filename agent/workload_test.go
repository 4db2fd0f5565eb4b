package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/profile"
)

// savedWorkload leaves one workload on the disk, as an agent that ended.
func savedWorkload(t *testing.T, state string, mode bulkhead.Mode) (file string, p bulkhead.Profile) {
	t.Helper()
	a := newTestAgent(t, state)
	w := a.newWorkload(shop.Workload, shop.Image)
	for i := range 20 {
		e := execEvent("/usr/bin/app", bulkhead.Allowed, "")
		e.Time = time.Unix(1700000000+int64(i), 0)
		w.recorder.Observe(e)
	}
	w.recorder.ObserveSyscalls([]string{"read", "openat"})
	w.Profile = w.current()
	w.Mode = mode
	a.workloads[w.Name] = w
	a.saveAll()
	if problems(a) != "" {
		t.Fatal(problems(a))
	}
	return a.file(w.Name), w.current()
}

func loaded(t *testing.T, state string) *Agent {
	t.Helper()
	a := newTestAgent(t, state)
	if err := a.loadWorkloads(); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestWorkloadAfterRestart(t *testing.T) {
	for _, mode := range []bulkhead.Mode{bulkhead.Learn, bulkhead.Monitor, bulkhead.Protect} {
		state := t.TempDir()
		_, p := savedWorkload(t, state, mode)
		a := loaded(t, state)
		w := a.workloads["docker/shop"]
		if w == nil || problems(a) != "" {
			t.Fatalf("%s: not loaded: %s", mode, problems(a))
		}
		if w.Mode != mode || w.Image != shop.Image || w.Workload != shop.Workload {
			t.Errorf("%s: %+v", mode, w)
		}
		if d := profile.Diff(p, w.current()); len(d) != 0 {
			t.Errorf("%s: %v", mode, d)
		}
	}
}

func TestCorruptState(t *testing.T) {
	for _, test := range []struct {
		name    string
		corrupt func(text string) string
		place   string // what follows the file's name
	}{
		{"not JSON", func(s string) string { return "{\n  nonsense" }, ":2:3: "},
		{"cut off", func(s string) string { return s[:len(s)/2] }, ":"},
		{"empty", func(string) string { return "" }, ":1:1: "},
		{"zero bytes", func(s string) string { return strings.Repeat("\x00", len(s)) }, ":1:1: "},
		{"another type", func(s string) string { return `[1,2]` }, ":1:"},
		{"no mode", func(s string) string { return strings.Replace(s, `"mode": "protect"`, `"mode": "sleep"`, 1) }, ":10:2: there is no mode \"sleep\""},
		{"bad profile", func(s string) string { return strings.Replace(s, `"read"`, `"nosuchcall"`, 1) }, ":"},
	} {
		t.Run(test.name, func(t *testing.T) {
			state := t.TempDir()
			file, _ := savedWorkload(t, state, bulkhead.Protect)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			bad := test.corrupt(string(text))
			write(t, file, bad)
			a := loaded(t, state)
			if got := problems(a); !strings.Contains(got, file+test.place) || !strings.Contains(got, ".bad, and its last good copy is in force") {
				t.Errorf("said %q", got)
			}
			if w := a.workloads["docker/shop"]; w == nil || w.Mode != bulkhead.Protect || len(w.Profile.Executables) != 1 {
				t.Errorf("the last good one is not in force: %+v", w)
			}
			if kept, _ := os.ReadFile(file + ".bad"); string(kept) != bad {
				t.Errorf("%s.bad is not what was there", filepath.Base(file))
			}
			a.saveAll()
			if again := loaded(t, state); problems(again) != "" || again.workloads["docker/shop"] == nil {
				t.Errorf("after it was saved again: %s", problems(again))
			}
		})
	}
}

func TestCorruptStateWithoutCopy(t *testing.T) {
	state := t.TempDir()
	file, _ := savedWorkload(t, state, bulkhead.Learn)
	write(t, file, "?")
	a := loaded(t, state)
	if len(a.workloads) != 0 || !strings.Contains(problems(a), file+":1:1: ") || !strings.Contains(problems(a), "learned again") {
		t.Errorf("%v, %s", a.workloads, problems(a))
	}
}

// TestPlaceInProfile: a fault in the profile is named by its place in the file.
func TestPlaceInProfile(t *testing.T) {
	state := t.TempDir()
	file, _ := savedWorkload(t, state, bulkhead.Protect)
	text, _ := os.ReadFile(file)
	line := 0
	for i, l := range strings.Split(string(text), "\n") {
		if strings.Contains(l, `"read"`) {
			line = i + 1
			write(t, file, strings.Replace(string(text), `"read"`, `"nosuchcall"`, 1))
			if got := problems(loaded(t, state)); !strings.Contains(got, file+":"+itoa(line)+":"+itoa(1+strings.Index(l, `"read"`))+": ") {
				t.Errorf("the fault is in line %d: %s", line, got)
			}
		}
	}
	if line == 0 {
		t.Fatal("no such line")
	}
}

func itoa(n int) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

func FuzzLoadWorkload(f *testing.F) {
	dir := f.TempDir()
	f.Add([]byte(`{"workload":{"name":"a"},"image":{},"mode":"protect","profile":{"version":"bulkhead/profile/v1"}}`))
	f.Add([]byte(`{"profile":"x"}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, b []byte) {
		file := filepath.Join(dir, "w.json")
		write(t, file, string(b))
		a := &Agent{workloads: map[string]*workload{}, images: newImages()}
		if err := a.loadWorkload(file); err != nil && !strings.HasPrefix(err.Error(), file+":") {
			t.Errorf("%q: an error without its place: %v", b, err)
		}
	})
}
