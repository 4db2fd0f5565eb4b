package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// many is the number of containers beside which the agent is measured.
const many = 50

// agentFigures measures what the agent and its keeper need: memory beside many containers, processor time while
// these do nothing, and while one of them opens 1,000 files, makes 100 connections and starts 10 programs a second.
func (h *host) agentFigures(ctx context.Context) error {
	if err := h.stopProduct(); err != nil {
		return err
	}
	defer h.removeMany()
	for n := range many {
		if _, err := output(h.docker("run", "-d", "--name", h.oneOfMany(n), h.prefix+"image", "/bin/load", "wait")); err != nil {
			return err
		}
	}
	if err := h.startProduct(ctx); err != nil {
		return err
	}
	time.Sleep(20 * time.Second) // until all are adopted, and what was read at the start is garbage
	fmt.Printf("\n| the agent and its keeper, %d containers | of one processor | resident now | at most | what both have counted once |\n|---|---|---|---|---|\n", many+len(containers))
	for _, mode := range []string{"learn", "monitor", "protect"} {
		if err := h.manyInto(mode); err != nil {
			return err
		}
		if err := h.figure("idle, mode "+mode, func() error { time.Sleep(30 * time.Second); return nil }); err != nil {
			return err
		}
		if err := h.figure("at work, mode "+mode, func() error {
			_, err := output(h.docker("exec", h.prefix+"load", "/bin/load", "steady", "30"))
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) oneOfMany(n int) string { return h.prefix + "many-" + strconv.Itoa(n) }

// manyInto switches all containers; before they are held to a profile they have a round of the work.
func (h *host) manyInto(mode string) error {
	if mode == "learn" {
		if _, err := output(h.docker("exec", h.prefix+"load", "/bin/load", "steady", "5")); err != nil {
			return err
		}
	}
	names := []string{h.prefix + "load"}
	for n := range many {
		names = append(names, h.oneOfMany(n))
	}
	for _, name := range names {
		if _, err := output(h.cli("mode", "docker/"+name, mode, "--anyway")); err != nil {
			return err
		}
	}
	time.Sleep(3 * time.Second)
	return nil
}

// figure prints what the two programs used while do ran.
func (h *host) figure(what string, do func() error) error {
	before, err := h.used()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := do(); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := h.used()
	if err != nil {
		return err
	}
	busy := (after.busy - before.busy).Seconds()
	fmt.Printf("| %s | %.2f %% | %d MiB | %d MiB | %d MiB |\n", what, 100*busy/took.Seconds(), after.resident>>20, after.most>>20, after.shared>>20)
	return nil
}

// usage is what the agent and the keeper used together.
type usage struct {
	busy           time.Duration
	resident, most uint64 // bytes, now and at most: the pages of the program that both are count twice
	shared         uint64 // bytes now, in which those count once (proportional set sizes)
}

func (h *host) used() (u usage, err error) {
	pids, err := h.programs()
	if err != nil {
		return u, err
	}
	for _, pid := range pids {
		stat, serr := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		status, terr := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		rollup, rerr := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err := errors.Join(serr, terr, rerr); err != nil {
			return u, err
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, text := range fields[11:13] { // utime and stime, in hundredths of a second
			n, _ := strconv.ParseInt(text, 10, 64)
			u.busy += time.Duration(n) * 10 * time.Millisecond
		}
		u.resident += statusBytes(status, "VmRSS:")
		u.most += statusBytes(status, "VmHWM:")
		u.shared += statusBytes(rollup, "Pss:")
	}
	return u, nil
}

func statusBytes(status []byte, name string) uint64 {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kib, _ := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// programs finds the agent and the keeper that it started.
func (h *host) programs() ([]int, error) {
	pids := append([]int{h.agent.Process.Pid}, h.keepers()...)
	if len(pids) != 2 {
		return nil, fmt.Errorf("the agent and one keeper should run; there are %d programs", len(pids))
	}
	return pids, nil
}

// keepers outlive their agent by design.
func (h *host) keepers() (pids []int) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, line := range lines {
		b, _ := os.ReadFile(line)
		if args := strings.Split(string(b), "\x00"); len(args) > 2 && args[1] == "keeper" && strings.Contains(string(b), h.dir) {
			pid, _ := strconv.Atoi(strings.Split(line, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

func (h *host) removeMany() {
	for n := range many {
		_, _ = output(h.docker("rm", "-f", h.oneOfMany(n)))
	}
}
