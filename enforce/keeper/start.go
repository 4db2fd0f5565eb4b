package keeper

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// StartOptions say how to start a keeper.
type StartOptions struct {
	Program string   // what to run; empty: this program
	Args    []string // that make it call [Serve]; without the agent's name in them, for `pkill -f`
	Env     []string // nil: none; a keeper needs no secrets
	Dir     string   // where its file goes; on the same file system as Program it takes no room
	Cgroup  string   // optional: a cgroup v2 directory to run in, so that ending the agent's does not end it
	Leave   bool     // leave every cgroup of this process: it is in a container, whose end must not be the keeper's
	Log     *os.File // optional
}

// Start starts a keeper that has nothing to do with this process any more: its own session,
// no terminal, its own file. The file is a hard link (or a copy) named bulkhead-keeper, so
// that neither its name, its command line nor its executable is the agent's: killall, pkill
// and pidof of the agent pass it by, and the agent's file may be replaced under it.
func Start(o StartOptions) error {
	path, err := ownFile(o)
	if err != nil {
		return fmt.Errorf("start the keeper: %w", err)
	}
	cmd := exec.Command(path, o.Args...)
	cmd.Args[0] = Name
	cmd.Env = append([]string{}, o.Env...)
	cmd.Dir = "/"
	cmd.Stderr = nil
	if o.Log != nil {
		cmd.Stderr = o.Log
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// What the agent inherited (a lock, a pipe that somebody waits on) is not for a keeper to hold for ever.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the keeper: %w", err)
	}
	if o.Cgroup != "" {
		err = join(o.Cgroup, cmd.Process.Pid)
	}
	if o.Leave {
		err = errors.Join(err, leave("/sys/fs/cgroup", cmd.Process.Pid))
	}
	go cmd.Wait() // only so that it does not stay a zombie while this process lives
	return err
}

func join(cgroup string, pid int) error {
	if err := os.MkdirAll(cgroup, 0o755); err != nil {
		return fmt.Errorf("make the keeper's cgroup: %w", err)
	}
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		return fmt.Errorf("put the keeper into its cgroup: %w", err)
	}
	return nil
}

// leave moves a process to the root of every hierarchy, which is nobody's container.
func leave(mounts string, pid int) error {
	roots, err := filepath.Glob(filepath.Join(mounts, "*", "cgroup.procs"))
	if err != nil {
		return err
	}
	if whole := filepath.Join(mounts, "cgroup.procs"); exists(whole) { // one hierarchy: what is below it are its cgroups
		roots = []string{whole}
	}
	if len(roots) == 0 {
		return fmt.Errorf("put the keeper outside the container: no cgroups at %s: mount the host's there", mounts)
	}
	for _, root := range roots {
		if err := os.WriteFile(root, []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("put the keeper outside the container: %w", err)
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func ownFile(o StartOptions) (string, error) {
	program := o.Program
	if program == "" {
		program = "/proc/self/exe" // also after the file was replaced
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(o.Dir, Name)
	fresh := path + "." + strconv.Itoa(os.Getpid())
	os.Remove(fresh)
	if real, err := filepath.EvalSymlinks(program); err != nil || os.Link(real, fresh) != nil {
		if err := copyFile(program, fresh); err != nil {
			return "", err
		}
	}
	return path, os.Rename(fresh, path)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o700)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
