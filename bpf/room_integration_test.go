//go:build integration

package bpf

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roomVariable makes the test binary the first process of a room: it holds the room's folder.
const roomVariable = "BULKHEAD_TEST_ROOM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(roomVariable); dir != "" {
		fmt.Fprintln(os.Stderr, "entering the room:", enterRoom(dir))
		os.Exit(120)
	}
	os.Exit(m.Run())
}

// image is the read-only layer of all rooms, made once per test.
type image struct{ dir, volume string }

func newImage(t testing.TB) *image {
	t.Helper()
	built := buildHelpers(t)
	im := &image{t.TempDir(), t.TempDir()}
	for _, d := range []string{"bin", "lib", "lib64", "opt", "etc/deep/er", "proc", "dev/shm", "vol", "run", "tmp", "root/.ssh", "data/app/sub", "data/logs"} {
		check(t, os.MkdirAll(filepath.Join(im.dir, d), 0o755))
	}
	for to, from := range map[string]string{
		"bin/attack": "attack", "bin/attack-dynamic": "attack-dynamic", "bin/jit": "attack", "bin/busybox": "busybox", "bin/probe": "probe",
		"bin/tool": "foreign", "bin/unlearned": "foreign", "bin/tool-dynamic": "foreign-dynamic", "bin/quiet-dynamic": "quiet-dynamic",
		"lib/own.so": "foreign.so", "lib/libc.so.6": "libc.so.6", "lib64/ld-linux-x86-64.so.2": "ld-linux-x86-64.so.2",
	} {
		im.copy(t, to, filepath.Join(built, from))
	}
	for _, name := range []string{"foreign", "foreign-dynamic", "foreign.so", "foreign-loader"} {
		data, err := os.ReadFile(filepath.Join(built, name))
		check(t, err)
		check(t, os.WriteFile(filepath.Join(im.volume, name), data, 0o755))
	}
	check(t, os.Symlink("busybox", filepath.Join(im.dir, "bin/sh")))
	check(t, os.Symlink("busybox", filepath.Join(im.dir, "bin/cat")))
	script := "#!/bin/sh\necho -n x >&9\n"
	for path, text := range map[string]string{
		"opt/script": script, "bin/letter": "x", "etc/shadow": "secret", "etc/passwd": "root", "etc/deep/er/key": "k", "etc/motd": "hello",
		"root/.ssh/id": "key", "data/app/sub/one.db": "1", "data/app/two.db": "2", "data/logs/a.log": "a",
		"lib/own-code": page(foreignCode), "lib/return": page([]byte{0xc3}),
	} {
		check(t, os.WriteFile(filepath.Join(im.dir, path), []byte(text), 0o755))
	}
	check(t, os.WriteFile(filepath.Join(im.volume, "script"), []byte(script), 0o755))
	check(t, os.WriteFile(filepath.Join(im.volume, "code"), []byte(page(foreignCode)), 0o755))
	return im
}

// foreignCode is write(9, "x", 1) wherever it is put: the bytes at code_start of attack.c.
var foreignCode, _ = hex.DecodeString("57565251415350b801000000bf09000000488d350f000000ba010000000f0558415b595a5e5fc378")

func page(code []byte) string { return string(code) + strings.Repeat("\x00", 4096-len(code)) }

func (im *image) copy(t testing.TB, to, from string) {
	t.Helper()
	data, err := os.ReadFile(from)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(im.dir, to), data, 0o755))
}

// buildHelpers compiles what runs in the rooms; in a virtual machine it was compiled before.
func buildHelpers(t testing.TB) string {
	t.Helper()
	if os.Getenv("BULKHEAD_KERNEL") != "" {
		return "built"
	}
	dir := t.TempDir()
	if out, err := exec.Command("sh", "testdata/build", dir).CombinedOutput(); err != nil {
		t.Fatalf("building helpers: %v: %s", err, out)
	}
	return dir
}

// room is a container of the tests' own: a cgroup, namespaces, an overlay over the image as its root, /proc, tmpfs
// and a volume. Its first process waits with its program until start.
type room struct {
	cgroup string
	slot   Slot
	canary *os.File
	out    bytes.Buffer
	cmd    *exec.Cmd
	gate   *os.File
}

// newRoom makes a room in a new cgroup below parent ("" is the root) for one run of a program.
func newRoom(t testing.TB, im *image, parent string, argv ...string) *room {
	t.Helper()
	if parent == "" {
		parent = cgroupRoot(t)
	}
	return newRoomIn(t, im, newCgroup(t, parent, fmt.Sprintf("bulkhead-test-%08x", rand.Uint32())), argv...)
}

func newCgroup(t testing.TB, parent, name string) string {
	t.Helper()
	dir := filepath.Join(parent, name)
	check(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() { removeCgroup(t, dir) })
	return dir
}

func removeCgroup(t testing.TB, dir string) {
	for range 100 {
		if err := os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%s could not be removed", dir)
}

func newRoomIn(t testing.TB, im *image, cgroup string, argv ...string) *room {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"upper", "work", "root"} {
		check(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	r := &room{cgroup: cgroup}
	var err error
	r.canary, err = os.OpenFile(filepath.Join(dir, "canary"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	check(t, err)
	fd, err := unix.Open(cgroup, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	check(t, err)
	defer unix.Close(fd)
	gate, opener, err := os.Pipe()
	check(t, err)
	ready, telling, err := os.Pipe()
	check(t, err)
	defer ready.Close()
	r.gate = opener
	r.cmd = exec.Command("/proc/self/exe", argv...)
	r.cmd.Env = []string{roomVariable + "=" + dir, "ROOM_IMAGE=" + im.dir, "ROOM_VOLUME=" + im.volume}
	r.cmd.ExtraFiles = []*os.File{gate, telling, r.canary}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	r.cmd.WaitDelay = time.Second
	r.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC, UseCgroupFD: true, CgroupFD: fd, Pdeathsig: syscall.SIGKILL,
	}
	check(t, r.cmd.Start())
	gate.Close()
	telling.Close()
	t.Cleanup(func() { r.end() })
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		r.cmd.Wait()
		t.Fatalf("the room was not set up: %s", r.out.String())
	}
	r.describe(t)
	return r
}

// describe fills the slot in as the enforcer does for a container.
func (r *room) describe(t testing.TB) {
	var st, cg syscall.Stat_t
	check(t, syscall.Stat(fmt.Sprintf("/proc/%d/root/", r.cmd.Process.Pid), &st))
	check(t, syscall.Stat(r.cgroup, &cg))
	r.slot = Slot{Cgroup: cg.Ino, RootDev: KernelDev(st.Dev), RuntimeMntNS: namespaceInode("/proc/self/ns/mnt"), Profile: 1}
}

func (r *room) start() { r.gate.Write([]byte{1}) }

// run lets the program go and waits for its end: what it said.
func (r *room) run() string {
	r.start()
	return r.wait()
}

// roomPatience grows with the attempts that are asked for: those of a race take milliseconds each.
func roomPatience() time.Duration {
	return 4*time.Minute + time.Duration(attempts())*100*time.Millisecond
}

func (r *room) wait() string {
	limit := time.AfterFunc(roomPatience(), func() { r.cmd.Process.Kill() })
	defer limit.Stop()
	r.cmd.Wait()
	return strings.TrimSpace(r.out.String())
}

// marks is how often code that counts has run.
func (r *room) marks() int {
	info, err := r.canary.Stat()
	if err != nil {
		return -1
	}
	return int(info.Size())
}

func (r *room) end() {
	r.gate.Close()
	r.cmd.Process.Kill()
	r.cmd.Wait()
	r.canary.Close()
}

// enterRoom runs in the room's first process: it makes the room's file systems and becomes its program.
func enterRoom(dir string) error {
	root := filepath.Join(dir, "root")
	overlay := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", os.Getenv("ROOM_IMAGE"), dir, dir)
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE, ""},
		{"overlay", root, "overlay", 0, overlay},
		{"proc", root + "/proc", "proc", 0, ""},
		{"tmpfs", root + "/dev", "tmpfs", 0, ""},
		{"tmpfs", root + "/run", "tmpfs", 0, ""},
		{os.Getenv("ROOM_VOLUME"), root + "/vol", "", unix.MS_BIND, ""},
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	if err := errors.Join(os.Mkdir(root+"/dev/shm", 0o777), unix.Mount("tmpfs", root+"/dev/shm", "tmpfs", 0, ""),
		unix.Mknod(root+"/dev/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), unix.Mknod(root+"/dev/zero", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5)))); err != nil {
		return err
	}
	if err := errors.Join(loopbackUp(), changeRoot(root), unix.Dup3(5, 9, 0)); err != nil {
		return err
	}
	unix.Write(4, []byte{1})
	for fd := 4; fd < 9; fd++ {
		unix.Close(fd)
	}
	if n, _ := unix.Read(3, make([]byte, 1)); n != 1 {
		return errors.New("nobody opened the gate")
	}
	unix.Close(3)
	return unix.Exec(os.Args[1], os.Args[1:], []string{"PATH=/bin"})
}

// changeRoot makes dir the root, as container runtimes do.
func changeRoot(dir string) error {
	if err := errors.Join(os.Chdir(dir), unix.PivotRoot(".", ".")); err != nil { // the first file system of a machine cannot be left so
		return errors.Join(unix.Mount(dir, "/", "", unix.MS_MOVE, ""), unix.Chroot("."), os.Chdir("/"))
	}
	return errors.Join(unix.Unmount(".", unix.MNT_DETACH), os.Chdir("/"))
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, request)
}

func cgroupRoot(t testing.TB) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(dir + "/cgroup.procs"); err == nil {
			return dir
		}
	}
	t.Fatal("no cgroup v2 hierarchy is mounted")
	return ""
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
