//go:build integration

package store

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestPostgreSQL runs the suite of SQLite against a PostgreSQL of our own: another folder, a socket, no port.
func TestPostgreSQL(t *testing.T) {
	dir, credential := postgresHome(t)
	run := func(name string, args ...string) *exec.Cmd {
		command := exec.Command(program(t, name), args...)
		command.Dir = dir
		command.SysProcAttr = &syscall.SysProcAttr{Credential: credential, Pdeathsig: syscall.SIGKILL}
		return command
	}
	must := func(command *exec.Cmd) {
		t.Helper()
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command.Path, err, out)
		}
	}
	data := filepath.Join(dir, "data")
	must(run("initdb", "-D", data, "-U", "bulkhead", "-A", "trust", "-E", "UTF8", "--no-sync"))
	must(run("pg_ctl", "-D", data, "-w", "-l", filepath.Join(dir, "log"), "-o", "-c listen_addresses='' -k "+dir, "start"))
	t.Cleanup(func() { must(run("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")) })
	var n atomic.Int32
	suite(t, func(t *testing.T) string {
		name := fmt.Sprintf("test%d", n.Add(1))
		must(run("createdb", "-h", dir, "-U", "bulkhead", name))
		return fmt.Sprintf("postgres://bulkhead@/%s?host=%s", name, dir)
	})
}

// postgresHome is a folder whose path is short enough for a socket, of a user whom PostgreSQL accepts: it refuses root.
func postgresHome(t *testing.T) (string, *syscall.Credential) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Geteuid() != 0 {
		return dir, nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return dir, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// program finds PostgreSQL where Debian puts it, the newest version first, or on the path.
func program(t *testing.T, name string) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	slices.Sort(found)
	if len(found) > 0 {
		return found[len(found)-1]
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: install PostgreSQL (Debian: postgresql)", err)
	}
	return path
}
