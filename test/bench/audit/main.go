// Command audit compares bulkhead audit with docker-bench-security and kube-bench: the same machine, the same state, each
// check of theirs that has a counterpart of ours. Start with [main] and [states].
//
// It promises that nothing of this machine is changed: every state is made in a copy of it, with files, processes and a
// network of its own, and a real Docker where Docker is asked about. A difference is told, and is a failure where
// docs/baseline.md does not say why. The others are not part of this project: their directories are named. It is not for
// measuring time.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

var (
	dockerBench = flag.String("docker-bench", os.Getenv("DOCKER_BENCH"), "`DIR` of a clone of docker-bench-security")
	kubeBench   = flag.String("kube-bench", os.Getenv("KUBE_BENCH"), "`DIR` of a clone of kube-bench, with its program kube-bench in it")
	benchmark   = flag.String("benchmark", "cis-1.11", "which of kube-bench's benchmarks")
	ours        = flag.String("bulkhead", "bin/bulkhead", "the program to compare")
	reasons     = flag.String("reasons", "docs/baseline.md", "`FILE` that says why ours is right where the two differ")
	image       = flag.String("image", "", "`FILE` of docker save with lab/busybox:1, for the containers of the states")
	only        = flag.String("only", "", "this state alone; \"here\" is this machine as it is, without a copy")
	all         = flag.Bool("all", false, "tell also where both agree")
	inside      = flag.String("inside", "", "used by the program itself: it is in the copy")
)

func main() {
	if slices.Contains(programs, filepath.Base(os.Args[0])) {
		for { // an actor: only its name and its arguments are looked at
			time.Sleep(time.Hour)
		}
	}
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "comparison of audits:", err)
		os.Exit(1)
	}
}

func run() error {
	if *dockerBench == "" && *kubeBench == "" {
		return errors.New("say where the others are: -docker-bench DIR, -kube-bench DIR")
	}
	for _, path := range []*string{dockerBench, kubeBench, ours, reasons, image} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if *inside != "" {
		return inCopy(*inside)
	}
	why, err := readReasons(*reasons)
	if err != nil {
		return err
	}
	var rows []row
	for _, s := range chosen() {
		found, err := ask(s)
		if err != nil {
			return fmt.Errorf("state %s: %w", s, err)
		}
		rows = append(rows, found...)
	}
	return tell(rows, why)
}

// chosen are the names of the states that are asked about.
func chosen() (names []string) {
	if *only != "" {
		return []string{*only}
	}
	for _, s := range states {
		if s.nodes != nil && *kubeBench != "" || s.nodes == nil && *dockerBench != "" {
			names = append(names, s.name)
		}
	}
	return names
}

// row is what both say of one section of a benchmark.
type row struct {
	State, Peer, Section string
	Theirs               string
	Checks               []check // ours
}

// check is one of ours.
type check struct {
	ID, Status, Evidence string
	Maps                 struct{ CIS []string }
}

// ask runs this program again in a copy of the machine, and reads the rows that it writes.
func ask(name string) (rows []row, err error) {
	if name == "here" {
		return compare(name)
	}
	c := exec.Command("/proc/self/exe", append([]string{"-inside", name}, os.Args[1:]...)...)
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	data, err := os.MkdirTemp("/var/tmp", "compare-audits-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(data) }()
	c.Env = append(os.Environ(), "COPY_DATA="+data)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return nil, err
	}
	return rows, json.Unmarshal(out, &rows)
}

// copyMachine makes what the mounts show a copy: what is written goes to memory, engines keep their layers in $COPY_DATA.
const copyMachine = `set -e
mount --make-rprivate /
w=/mnt; mount -t tmpfs tmpfs $w; mkdir $w/up $w/work $w/root; r=$w/root
mount -t overlay overlay -o lowerdir=/,upperdir=$w/up,workdir=$w/work $r
mount -t proc proc $r/proc; mount --rbind /sys $r/sys; mount --rbind /dev $r/dev
mount -t tmpfs -o mode=755 tmpfs $r/run
mkdir -p $r/var/lib/docker $r/var/lib/containerd $r/mnt/old "$COPY_DATA/docker" "$COPY_DATA/containerd"
mount --bind "$COPY_DATA/docker" $r/var/lib/docker; mount --bind "$COPY_DATA/containerd" $r/var/lib/containerd
cd $r; pivot_root . mnt/old; umount -l /mnt/old; mount --make-rshared /
ip link set lo up; hostname copy; ln -sfn /run /var/run
for f in audit docker kubernetes cni; do rm -rf /etc/$f; done
groupadd -f docker; groupadd -f etcd; id etcd >/dev/null 2>&1 || useradd -M -g etcd etcd`

// inCopy makes the copy and the state, and writes the rows.
func inCopy(name string) error {
	i := slices.IndexFunc(states, func(s state) bool { return s.name == name })
	if i < 0 {
		return errors.New("there is no such state")
	}
	if err := shell(copyMachine); err != nil {
		return fmt.Errorf("make a copy of this machine: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := syscall.Chroot("."); err != nil {
		return err
	}
	if err := states[i].make(); err != nil {
		return err
	}
	rows, err := compare(name)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(rows)
}

func shell(script string) error {
	c := exec.Command("bash", "-c", script)
	c.Stderr = os.Stderr
	c.Stdout = os.Stderr
	return c.Run()
}

// compare asks both, as the machine is now.
func compare(name string) (rows []row, err error) {
	checks, err := bulkheadSays()
	if err != nil {
		return nil, err
	}
	node := slices.ContainsFunc(states, func(s state) bool { return s.name == name && s.nodes != nil })
	for _, p := range peers() {
		if name != "here" && node != (p.benchmark == "kubernetes") {
			continue
		}
		said, err := p.ask()
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", p.name, err)
		}
		for _, a := range said {
			mine := counterparts(checks, p.benchmark+"/"+a.section)
			if len(mine) > 0 {
				rows = append(rows, row{name, p.name, a.section, a.status, mine})
			}
		}
	}
	return rows, nil
}

func counterparts(checks []check, section string) (found []check) {
	for _, c := range checks {
		if slices.Contains(c.Maps.CIS, section) {
			found = append(found, c)
		}
	}
	return found
}

func bulkheadSays() ([]check, error) {
	layers := []string{"audit", "--format", "json"}
	if *dockerBench != "" {
		layers = append(layers, "docker")
	}
	if *kubeBench != "" {
		layers = append(layers, "kubernetes")
	}
	c := exec.Command(*ours, layers...)
	out, err := c.Output()
	var ended *exec.ExitError
	if err != nil && (!errors.As(err, &ended) || ended.ExitCode() != 3) {
		return nil, fmt.Errorf("bulkhead audit: %w", err)
	}
	var report struct{ Checks []check }
	return report.Checks, json.Unmarshal(out, &report)
}

// differing are the checks that say another thing. Several of ours may be one of theirs: they fail together when one
// fails, and pass when none fails and one passes.
func (r row) differing() []check {
	with := func(status string) (list []check) {
		for _, c := range r.Checks {
			if c.Status == status {
				list = append(list, c)
			}
		}
		return list
	}
	failed, passed := with("fail"), with("pass")
	switch {
	case r.Theirs == "pass" && len(failed) > 0:
		return failed
	case r.Theirs == "fail" && len(failed) > 0, r.Theirs == "pass" && len(passed) > 0:
		return nil
	case len(passed) > 0:
		return passed
	}
	return r.Checks
}

// tell prints the differences, and what they are compared with.
func tell(rows []row, why []reason) error {
	compared, agree, explained := 0, 0, 0
	var open []string
	failing := map[string]bool{} // checks of ours with a section that fails
	for _, r := range rows {
		for _, c := range r.Checks {
			if r.Theirs == "fail" {
				failing[r.State+r.Peer+c.ID] = true
			}
		}
	}
	for _, r := range rows {
		if r.Theirs == "" {
			continue // they leave it to people
		}
		compared++
		differ := r.differing()
		if r.Theirs == "pass" { // one of ours may be two of theirs, as mode and owner
			differ = slices.DeleteFunc(differ, func(c check) bool { return failing[r.State+r.Peer+c.ID] })
		}
		switch {
		case len(differ) == 0:
			agree++
			if *all {
				fmt.Printf("%-13s %-12s %-7s %-5s agrees\n", r.State, r.Peer, r.Section, r.Theirs)
			}
			continue
		case slices.ContainsFunc(differ, func(c check) bool { return find(why, r, c) == "" }):
			open = append(open, r.State+" "+r.Peer+" "+r.Section)
		default:
			explained++
		}
		for _, c := range differ {
			text := find(why, r, c)
			if text == "" {
				text = "UNEXPLAINED; seen: " + c.Evidence
			}
			fmt.Printf("%-13s %-12s %-7s theirs %-5s %s %-14s %s\n", r.State, r.Peer, r.Section, r.Theirs, c.ID, c.Status, text)
		}
	}
	fmt.Printf("%d answers compared: %d the same, %d explained, %d unexplained\n", compared, agree, explained, len(open))
	if len(open) > 0 {
		return fmt.Errorf("docs/baseline.md does not say why: %s", strings.Join(open, ", "))
	}
	return nil
}
