//go:build integration

package baseline

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/test/lab"
)

// wholeMachine are settings of the kernel that no namespace has for itself: a test that sets them sets those of
// everything else that runs here. Their fixes are tried in virtual machines (TestKernelSettings), and on files (TestFixes).
func wholeMachine(setting string) bool {
	return !strings.HasPrefix(setting, "net.ipv") && setting != ""
}

// TestFixesOfDebian runs the program itself in a Debian, for each fix that there is: the check fails, is fixed and passes, is
// taken back, and no byte, owner or mode of the system is another. Processes that a check asks for really run.
func TestFixesOfDebian(t *testing.T) {
	d := newDebian(t)
	tried, left := 0, map[string]string{}
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		checks, err := Load(group)
		if err != nil {
			t.Fatal(err)
		}
		all := pairs(t, group)
		for _, c := range checks {
			if len(c.Fix) == 0 {
				continue
			}
			f := all[c.ID].Fail
			if f.Run == nil {
				f.Run = runs[c.Group]
			}
			if reason := elsewhere(c); reason != "" {
				left[c.ID] = reason
				continue
			}
			tried++
			t.Run(c.ID, func(t *testing.T) { d.try(t, c, f) })
		}
	}
	t.Logf("%d fixes tried in Debian, %d elsewhere", tried, len(left))
	for _, id := range slices.Sorted(maps.Keys(left)) {
		t.Logf("%s: %s", id, left[id])
	}
}

// elsewhere says why a fix is not tried in a Debian on this kernel; empty: it is.
func elsewhere(c Check) string {
	for _, a := range c.Fix {
		for name := range a.Sysctl {
			if wholeMachine(name) {
				return name + " is the whole machine's"
			}
		}
	}
	return ""
}

// debian is a real root of Debian in namespaces of its own.
type debian struct {
	dir  string
	init *exec.Cmd
}

func newDebian(t *testing.T) *debian {
	l := lab.Start(t)
	if _, err := l.Image(t.Context(), "tools"); err != nil {
		t.Fatal(err)
	}
	d := &debian{dir: t.TempDir()}
	must(t, sh("id=$(docker create lab/tools:bookworm true) && docker export $id | tar -x -C "+d.dir+" && docker rm $id >/dev/null; rm -f "+d.dir+"/.dockerenv"))
	must(t, os.WriteFile(filepath.Join(d.dir, "engine.sock"), nil, 0o600)) // the lab's engine answers there
	must(t, sh("cd "+d.dir+" && for g in docker ssh_keys etcd; do grep -q ^$g: etc/group || echo $g:x:$((900+${#g})): >>etc/group; done && echo etcd:x:904:904::/var/lib/etcd:/usr/sbin/nologin >>etc/passwd"))
	d.program(t)
	d.init = exec.Command("unshare", "-m", "-p", "-f", "-n", "-u", "-i", "--kill-child", "sh", "-c",
		`mount --make-rprivate / && mount --bind . . && cd "$PWD" && mount -t proc proc proc && mount --bind "$1" engine.sock && exec chroot . sleep infinity`, "sh", l.Docker())
	d.init.Dir = d.dir
	d.init.Stderr = os.Stderr
	must(t, d.init.Start())
	t.Cleanup(func() { _ = d.init.Process.Kill(); _ = d.init.Wait() })
	for range 100 {
		if d.pid() != 0 && d.command("test", "-r", "/proc/1/status").Run() == nil {
			return d
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the Debian does not start")
	return nil
}

func (d *debian) program(t *testing.T) {
	to := filepath.Join(d.dir, "usr", "bin", "bulkhead")
	if from := os.Getenv("BULKHEAD_PROGRAMS"); from != "" {
		must(t, sh("cp "+filepath.Join(from, "bulkhead")+" "+to))
		return
	}
	c := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", to, "bulkhead/cmd/bulkhead")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
}

// pid is the first process of the Debian, as this machine counts.
func (d *debian) pid() int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", d.init.Process.Pid, d.init.Process.Pid))
	n := 0
	if err == nil {
		_, _ = fmt.Sscan(string(b), &n)
	}
	return n
}

// command runs in the Debian.
func (d *debian) command(args ...string) *exec.Cmd {
	c := exec.Command("nsenter", append([]string{"-t", fmt.Sprint(d.pid()), "-m", "-p", "-n", "-u", "-i", "-r", "-w", "--"}, args...)...)
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "DOCKER_HOST=unix:///engine.sock"}
	return c
}

func sh(script string) error {
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (d *debian) try(t *testing.T, c Check, f fixture) {
	defer d.put(t, f)()
	defer d.start(t, f.Run)()
	before := d.snapshot(t)
	var done struct {
		ID    string
		Fixes []Fixed
	}
	d.audit(t, &done, c.Layer, "--fix", c.ID)
	if len(done.Fixes) != 1 || done.Fixes[0].Outcome != Done {
		t.Fatalf("fixed: %+v", done.Fixes)
	}
	var report Report
	d.audit(t, &report, c.Layer)
	i := slices.IndexFunc(report.Checks, func(r Result) bool { return r.ID == c.ID })
	if i < 0 || report.Checks[i].Status != Pass {
		t.Errorf("after the fix it is %+v", report.Checks[i])
	}
	var back struct{ ID string }
	d.audit(t, &back, "--rollback", done.ID)
	if diff := cmp.Diff(before, d.snapshot(t)); diff != "" {
		t.Errorf("the rollback is not exact (-before +after):\n%s", diff)
	}
}

// audit runs the program; that checks fail is no error.
func (d *debian) audit(t *testing.T, into any, args ...string) {
	t.Helper()
	c := d.command(append([]string{"/usr/bin/bulkhead", "audit", "--format", "json"}, args...)...)
	var problems strings.Builder
	c.Stderr = &problems
	out, err := c.Output()
	var ended *exec.ExitError
	if err != nil && (!errors.As(err, &ended) || ended.ExitCode() != 3) {
		t.Fatalf("bulkhead audit %s: %v: %s%s", strings.Join(args, " "), err, problems.String(), out)
	}
	must(t, json.Unmarshal(out, into))
}

// put writes what the host of a fixture has, and returns what takes it away again.
func (d *debian) put(t *testing.T, f fixture) (restore func()) {
	var undo []func()
	for _, name := range slices.Sorted(maps.Keys(f.Sysctl)) {
		undo = append(undo, d.set(t, name, f.Sysctl[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(f.Files)) {
		if strings.HasPrefix(name, "/proc/") || strings.HasPrefix(name, "/sys/") {
			continue // the kernel's own
		}
		undo = append(undo, d.write(t, name, f.Files[name])...)
	}
	return func() {
		for _, u := range slices.Backward(undo) {
			u()
		}
	}
}

// set changes a setting of the running kernel.
func (d *debian) set(t *testing.T, name, value string) func() {
	file := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
	old, err := d.command("cat", file).Output()
	must(t, err)
	write := func(value string) error {
		out, err := d.command("sh", "-c", `printf %s "$1" >"$2"`, "sh", value, file).CombinedOutput()
		if err != nil {
			return fmt.Errorf("set %s: %w: %s", name, err, out)
		}
		return nil
	}
	must(t, write(value))
	return func() { must(t, write(strings.TrimSpace(string(old)))) }
}

// write puts one file where Debian has another, or none.
func (d *debian) write(t *testing.T, name string, file fixtureFile) (undo []func()) {
	real := filepath.Join(d.dir, name)
	if parent, err := filepath.EvalSymlinks(filepath.Dir(real)); err == nil {
		real = filepath.Join(parent, filepath.Base(real))
	}
	for dir := filepath.Dir(real); dir != d.dir; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); err == nil {
			break
		}
		undo = append(undo, func() { _ = os.Remove(dir) })
	}
	slices.Reverse(undo)
	saved := filepath.Join(t.TempDir(), "saved")
	if _, err := os.Lstat(real); err == nil {
		if info, _ := os.Stat(real); file.Dir && info.IsDir() { // its mode and owner alone
			return append(undo, d.chmod(t, real, file))
		}
		must(t, sh("cp -a "+real+" "+saved+" && rm -rf "+real))
		undo = append(undo, func() { must(t, sh("rm -rf "+real+" && cp -a "+saved+" "+real)) })
	} else {
		undo = append(undo, func() { _ = os.RemoveAll(real) })
	}
	one := (fixture{Files: map[string]fixtureFile{name: file}}).files()[strings.TrimPrefix(path.Clean(name), "/")]
	writeFixture(t, real, one.Data, one.Mode, one.Sys)
	return undo
}

func (d *debian) chmod(t *testing.T, real string, file fixtureFile) func() {
	info, err := os.Stat(real)
	must(t, err)
	stat := info.Sys().(*syscall.Stat_t)
	one := (fixture{Files: map[string]fixtureFile{"/x": file}}).files()["x"]
	must(t, errors.Join(os.Chown(real, int(file.UID), int(file.GID)), os.Chmod(real, one.Mode)))
	return func() {
		must(t, errors.Join(os.Chown(real, int(stat.Uid), int(stat.Gid)), os.Chmod(real, info.Mode())))
	}
}

// start runs processes with these names and arguments: a shell that waits under another name.
func (d *debian) start(t *testing.T, lines []string) (stop func()) {
	var all []*exec.Cmd
	for _, line := range lines {
		c := d.command("bash", "-c", `exec -a "$0" bash -c 'while sleep 60; do :; done' "$@"`)
		c.Args = append(c.Args, strings.Fields(line)...)
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		must(t, c.Start())
		all = append(all, c)
		name := strings.Fields(line)[0]
		for range 100 {
			if d.command("sh", "-c", `grep -lz "^$1$" /proc/[0-9]*/cmdline`, "sh", name).Run() == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return func() {
		for _, c := range all {
			_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
			_ = c.Wait()
		}
	}
}

// snapshot is every file of the system, but for what the program keeps for the way back.
func (d *debian) snapshot(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(d.dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside := strings.TrimPrefix(name, d.dir)
		if inside == "/proc" || inside == "/sys" || inside == "/var/lib/bulkhead" || inside == "/tmp" {
			return filepath.SkipDir
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		found[inside], err = described(inside, name, info)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(found, "/var/lib") // made for what is kept
	return found
}

// described is what must be the same: of programs and libraries, which no fix writes, the size stands for the bytes.
func described(inside, name string, info fs.FileInfo) (string, error) {
	stat := info.Sys().(*syscall.Stat_t)
	text := fmt.Sprintf("%v %d:%d", info.Mode(), stat.Uid, stat.Gid)
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(name)
		return text + " -> " + target, err
	case !info.Mode().IsRegular():
		return text, nil
	case strings.HasPrefix(inside, "/usr/"):
		return fmt.Sprintf("%s %d bytes of %d", text, info.Size(), info.ModTime().UnixNano()), nil
	}
	content, err := os.ReadFile(name)
	return fmt.Sprintf("%s %x %d", text, sha256.Sum256(content), info.ModTime().UnixNano()), err
}
