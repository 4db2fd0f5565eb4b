package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// runOn boots a machine and returns what its tests said.
func (s *suite) runOn(ctx context.Context, kernels *fetcher, work string, b boot) (outcome, error) {
	k, err := kernels.kernel(ctx, b.suite)
	if err != nil {
		return outcome{}, err
	}
	root := filepath.Join(work, b.name()+".cpio")
	if err := writeRoot(root, append(slices.Clone(s.files), moduleFiles(k)...)); err != nil {
		return outcome{}, fmt.Errorf("writing the first file system: %w", err)
	}
	defer os.Remove(root)
	result := outcome{log: filepath.Join(kernels.dir, b.name()+".log"), wanted: s.names}
	if err := emulate(ctx, b, k.image, root, result.log); err != nil {
		return result, err
	}
	return result, result.read()
}

func moduleFiles(k kernel) []file {
	var order strings.Builder
	var files []file
	for _, m := range k.modules {
		fmt.Fprintln(&order, m.path)
		files = append(files, file{"modules/" + m.path, m.mode, m.data})
	}
	return append(files, file{"modules/order", 0o644, []byte(order.String())})
}

// emulate runs the machine to its end. One thread: with more, emulation of two processors
// has been seen to hang.
func emulate(ctx context.Context, b boot, image, root, log string) error {
	out, err := os.Create(log)
	if err != nil {
		return err
	}
	defer out.Close()
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	// The kernel hands a word with "=" that it does not know to init, as a variable.
	line := "console=ttyS0 quiet panic=-1 softlockup_panic=1 mitigations=off cryptomgr.notests lsm=" + b.lsm + " BULKHEAD_KERNEL=" + b.name()
	if *counting {
		line += " BULKHEAD_COUNT=1"
	}
	args := []string{
		"-n", "5", "qemu-system-x86_64",
		"-accel", "tcg,thread=single,tb-size=256", "-cpu", "max,-la57", "-smp", "1", "-m", fmt.Sprint(*memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", image, "-initrd", root, "-append", line,
	}
	if *counting {
		args = append(args, "-icount", "shift=0,sleep=off")
	}
	cmd := exec.CommandContext(ctx, "nice", args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("the machine was ended after %s", *limit)
	}
	return err
}

// writeRoot writes files and the folders they need as a cpio archive (the "newc" form), which
// a kernel unpacks as its first file system.
func writeRoot(path string, files []file) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	w := &cpio{Writer: bufio.NewWriter(out)}
	made := map[string]bool{".": true}
	for _, f := range files {
		w.folders(filepath.Dir(f.path), made)
		w.entry(f)
	}
	w.folders("root", made)
	w.entry(file{path: "TRAILER!!!"})
	return w.Flush()
}

// cpio writes entries; a failure to write shows at the last Flush.
type cpio struct {
	*bufio.Writer
	inode int
}

func (w *cpio) folders(path string, made map[string]bool) {
	if made[path] {
		return
	}
	made[path] = true
	w.folders(filepath.Dir(path), made)
	w.entry(file{path: path, mode: fs.ModeDir | 0o755})
}

func (w *cpio) entry(f file) {
	w.inode++
	mode := uint32(f.mode.Perm())
	switch {
	case f.mode.IsDir():
		mode |= 0o040000
	case f.mode&fs.ModeSymlink != 0:
		mode |= 0o120000
	default:
		mode |= 0o100000
	}
	header := []uint32{uint32(w.inode), mode, 0, 0, 1, 0, uint32(len(f.data)), 0, 0, 0, 0, uint32(len(f.path) + 1), 0}
	w.WriteString("070701")
	for _, field := range header {
		fmt.Fprintf(w, "%08x", field)
	}
	w.WriteString(f.path)
	w.pad(1, 110+len(f.path)+1)
	w.Write(f.data)
	w.pad(0, len(f.data))
}

// pad writes at least n zero bytes, and ends what has length bytes at a multiple of four.
func (w *cpio) pad(n, length int) {
	w.Write(make([]byte, n+(4-length%4)%4))
}

// outcome is what a machine's serial line says about its tests.
type outcome struct {
	log                     string
	wanted                  []string
	release                 string
	exits                   map[string]string // test → exit status
	passed, failed, skipped int
	empty                   bool // a test program found nothing to run
	done                    bool
	costs                   []string // the lines that begin with COST, with -count
}

func (o *outcome) read() error {
	text, err := os.ReadFile(o.log)
	if err != nil {
		return err
	}
	o.exits = map[string]string{}
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\r", "")) {
		o.take(strings.TrimSuffix(line, "\n"))
	}
	return nil
}

func (o *outcome) take(line string) {
	fields := strings.Fields(line)
	switch {
	case len(fields) == 2 && strings.HasSuffix(fields[0], "KERNEL"): // firmware's control codes may stand before it
		o.release = fields[1]
	case len(fields) == 4 && fields[0] == "EXIT":
		o.exits[fields[1]] = fields[2]
	case strings.HasSuffix(line, "warning: no tests to run"):
		o.empty = true
	case line == "DONE":
		o.done = true
	case *counting && strings.HasPrefix(line, "COST "):
		o.costs = append(o.costs, line[len("COST "):])
	case strings.HasPrefix(line, "--- PASS"):
		o.passed++
	case strings.HasPrefix(line, "--- FAIL"):
		o.failed++
	case strings.HasPrefix(line, "--- SKIP"):
		o.skipped++
	}
}

// err says what is wrong. Silence is: a machine must reach its end, and a test its exit.
func (o outcome) err() error {
	if !o.done {
		return errors.New("the machine did not reach its end")
	}
	for _, name := range o.wanted {
		if o.exits[name] != "0" {
			return fmt.Errorf("%s on %s: %d tests failed, exit status %q", name, o.release, o.failed, o.exits[name])
		}
	}
	if o.empty || o.passed == 0 {
		return errors.New("a package had no test to run")
	}
	return nil
}

func (o outcome) String() string {
	text := fmt.Sprintf("Linux %s, %d tests passed", o.release, o.passed)
	if o.skipped > 0 {
		text += fmt.Sprintf(", %d skipped", o.skipped)
	}
	return text
}

func (o outcome) tail() []byte {
	text, _ := os.ReadFile(o.log)
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-40):], []byte("\n"))
}
