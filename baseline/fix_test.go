package baseline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/baseline/repair"
	"bulkhead/baseline/tree"
)

// onDisk writes a fixture into a directory. What belongs to others needs root; without it the owner is who tests.
func (f fixture) onDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	files := f.files()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		writeFixture(t, filepath.Join(dir, name), files[name].Data, files[name].Mode, files[name].Sys)
	}
	return dir
}

func writeFixture(t *testing.T, path string, data []byte, mode fs.FileMode, sys any) {
	t.Helper()
	var err error
	switch {
	case mode.IsDir():
		err = os.MkdirAll(path, 0o755)
	case mode&fs.ModeSymlink != 0:
		if err := os.Symlink(string(data), path); err != nil {
			t.Fatal(err)
		}
		return
	default:
		err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o600))
	}
	if owner, ok := sys.(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		err = errors.Join(err, os.Chown(path, int(owner.Uid), int(owner.Gid)))
	}
	if err := errors.Join(err, os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

// snapshot is everything that a rollback restores.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%v %d:%d", info.Mode(), stat.Uid, stat.Gid)
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", content)
			if !strings.HasPrefix(path, filepath.Join(dir, "proc")) { // the kernel's own has no such time
				line += fmt.Sprint(info.ModTime().UnixNano())
			}
		}
		found[strings.TrimPrefix(path, dir)] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestFixes tries every fix on the host that fails its check: a dry run changes nothing and prints the plan that is then
// carried out, the check passes, a second fix finds nothing to do, and taking it back leaves no byte, owner or mode changed.
func TestFixes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not as root: fixes that give a file to its owner are tried by the integration test")
	}
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		t.Run(group, func(t *testing.T) { t.Parallel(); fixGroup(t, group) })
	}
}

func fixGroup(t *testing.T, group string) {
	checks, err := Load(group)
	if err != nil {
		t.Fatal(err)
	}
	all := pairs(t, group)
	tried := 0
	for _, c := range checks {
		if len(c.Fix) == 0 || needsOwners(all[c.ID].Fail) && os.Geteuid() != 0 {
			continue
		}
		tried++
		t.Run(c.ID, func(t *testing.T) { tryFix(t, c, all[c.ID].Fail) })
	}
	t.Logf("%d fixes of %s", tried, group)
}

// needsOwners reports whether a fixture has files of others, or checks look at who owns a file.
func needsOwners(f fixture) bool {
	for _, file := range f.Files {
		if file.Mode != "" || file.UID != 0 || file.GID != 0 {
			return true
		}
	}
	return false
}

func tryFix(t *testing.T, c Check, f fixture) {
	if f.Run == nil {
		f.Run = runs[c.Group]
	}
	dir, state := f.onDisk(t), t.TempDir()
	before := snapshot(t, dir)
	o := f.options(c.Layer)
	o.Root = tree.Open(dir)
	fix := Fix{IDs: []string{c.ID}, Dir: dir, State: state, Now: time.Now(), Live: true} // /proc/sys of the example is one of files

	fix.Dry = true
	_, planned, err := fix.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
		t.Fatalf("a dry run changes something (-before +after):\n%s", diff)
	}
	fix.Dry = false
	id, done, err := fix.Run(t.Context(), o)
	if err != nil || len(done) != 1 {
		t.Fatalf("fixing: %v, %v", done, err)
	}
	if done[0].Outcome != Done {
		t.Fatalf("%s: %s\n%s", done[0].Outcome, done[0].Reason, strings.Join(done[0].Plan, "\n"))
	}
	if diff := cmp.Diff(planned[0].Plan, done[0].Plan); diff != "" {
		t.Errorf("the dry run had another plan (-dry +done):\n%s", diff)
	}
	if _, again, err := fix.Run(t.Context(), o); err != nil || len(again) != 0 {
		t.Errorf("a second fix does %v, %v", again, err)
	}
	takeBack(t, dir, state, id)
	if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
		t.Errorf("the rollback is not exact (-before +after):\n%s", diff)
	}
}

func takeBack(t *testing.T, dir, state, id string) {
	t.Helper()
	disk, err := repair.OpenDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = disk.Close() }()
	if done, err := repair.Rollback(state, id, disk, false); err != nil || done.Already {
		t.Fatalf("rollback: %+v, %v", done, err)
	}
	if done, err := repair.Rollback(state, id, disk, false); err != nil || !done.Already {
		t.Fatalf("second rollback: %+v, %v", done, err)
	}
}

// unhelped is a host on which the fix of a check cannot help: what it writes is overruled.
func TestFixThatDoesNotHelpIsUndone(t *testing.T) {
	f := fixture{Files: map[string]fixtureFile{
		"/etc/systemd/journald.conf":                     {Text: "[Journal]\n"},
		"/etc/systemd/journald.conf.d/zz-last.conf":      {Text: "[Journal]\nStorage=volatile\n"},
		"/etc/systemd/journald.conf.d/50-something.conf": {Text: "[Journal]\nStorage=auto\n"},
	}}
	dir, state := f.onDisk(t), t.TempDir()
	before := snapshot(t, dir)
	o := f.options(Host)
	o.Root = tree.Open(dir)
	id, done, err := Fix{IDs: []string{"BH-H218"}, Dir: dir, State: state, Now: time.Now()}.Run(t.Context(), o)
	if err != nil || len(done) != 1 || done[0].Outcome != Undone || !strings.Contains(done[0].Reason, "did not help") {
		t.Fatalf("%+v, %v", done, err)
	}
	if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
		t.Errorf("something is left of it:\n%s", diff)
	}
	if id == "" {
		t.Error("it has no id")
	}
}

func TestFixThatBreaksSomethingIsUndone(t *testing.T) {
	f := fixture{Files: map[string]fixtureFile{"/etc/login.defs": {Text: "UMASK 022\n"}}}
	dir, state := f.onDisk(t), t.TempDir()
	before := snapshot(t, dir)
	o := f.options(Host)
	o.Root = tree.Open(dir)
	broken := func(context.Context, []string) error { return errors.New("the shop is closed") }
	_, done, err := Fix{IDs: []string{"BH-H149"}, Dir: dir, State: state, Now: time.Now(), Probe: broken}.Run(t.Context(), o)
	if err != nil || len(done) != 1 || done[0].Outcome != Undone || !strings.Contains(done[0].Reason, "the shop is closed") {
		t.Fatalf("%+v, %v", done, err)
	}
	if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
		t.Errorf("something is left of it:\n%s", diff)
	}
}

func TestRollbackSeesOthersChanges(t *testing.T) {
	f := fixture{Files: map[string]fixtureFile{"/etc/login.defs": {Text: "UMASK 022\n"}}}
	dir, state := f.onDisk(t), t.TempDir()
	o := f.options(Host)
	o.Root = tree.Open(dir)
	id, _, err := Fix{IDs: []string{"BH-H149"}, Dir: dir, State: state, Now: time.Now()}.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "etc/login.defs")
	if err := os.WriteFile(path, []byte("UMASK 077\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	disk, err := repair.OpenDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = disk.Close() }()
	if _, err := repair.Rollback(state, id, disk, false); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("somebody's change is overwritten: %v", err)
	}
	if _, err := repair.Rollback(state, id, disk, true); err != nil {
		t.Error(err)
	}
	if content, _ := os.ReadFile(path); string(content) != "UMASK 022\n" {
		t.Errorf("it is %q", content)
	}
}

// TestFixRefusesWhatItDoesNotUnderstand: a file that is broken stays as it is.
func TestFixRefusesWhatItDoesNotUnderstand(t *testing.T) {
	f := fixture{Files: map[string]fixtureFile{"/etc/docker/daemon.json": {Text: "{\n  \"icc\": true,\n}\n"}}, Run: runs["docker"]}
	dir := f.onDisk(t)
	o := f.options(Docker)
	o.Root = tree.Open(dir)
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(report.Checks, func(r Result) bool { return r.ID == "BH-E001" })
	if r := report.Checks[i]; r.Status != Manual || !strings.Contains(r.Evidence, "/etc/docker/daemon.json:3") {
		t.Errorf("%s: %s", r.Status, r.Evidence)
	}
	disk, err := repair.OpenDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = disk.Close() }()
	action := repair.Action{JSON: &repair.Merge{File: "/etc/docker/daemon.json", Fields: map[string]any{"icc": false}}}
	if _, err := repair.NewPlanner(disk, false).Plan([]repair.Action{action}); err == nil || !strings.Contains(err.Error(), "not understood") {
		t.Errorf("it is edited all the same: %v", err)
	}
}
