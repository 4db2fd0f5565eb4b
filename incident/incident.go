// Package incident makes one thing of the many alerts of one cause. Start with [Of] and [Incident].
//
// It promises that the same alerts give the same incidents, in whatever order they come, so that
// stored alerts can be replayed; and that alerts are put together only for a reason that an incident
// names: the same container, the same line of processes, a connection from one to the other, the same
// deed in containers of the same image. It is pure, and not for storing or telling: the control plane
// and the command line do that.
package incident

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

// Incident is what a person looks into.
type Incident struct {
	ID         string            `json:"id"` // of the first alert: it stays while more alerts come
	Title      string            `json:"title"`
	Severity   bulkhead.Severity `json:"severity"`
	First      time.Time         `json:"first"`
	Last       time.Time         `json:"last"`
	Clusters   []string          `json:"clusters"`
	Nodes      []string          `json:"nodes"`
	Workloads  []string          `json:"workloads"`
	Containers []string          `json:"containers"`
	Images     []string          `json:"images"`
	Blocked    int               `json:"blocked"`  // alerts
	Detected   int               `json:"detected"` // alerts
	Path       []Station         `json:"path"`     // of the attack, in time
	Stopped    []Stop            `json:"stopped"`  // what was stopped, where
	Causes     []Cause           `json:"causes"`   // why these alerts are one incident
	Alerts     []string          `json:"alerts"`   // ids, in time
}

// Station is a technique the first time that it was used.
type Station struct {
	Time      time.Time `json:"time"`
	Tactic    string    `json:"tactic"`
	Technique string    `json:"technique"`
	Title     string    `json:"title"`
	Workload  string    `json:"workload"`
	Blocked   bool      `json:"blocked"` // each time that it was tried
	Times     int       `json:"times"`
}

// Stop is a place where the attack was stopped.
type Stop struct {
	Where string `json:"where"` // executables, files, network, syscalls, memory
	What  string `json:"what"`  // the first thing stopped there
	Times int    `json:"times"`
}

// Cause is a reason to put alerts together.
type Cause string

// The causes.
const (
	SameContainer Cause = "container" // in one container, one soon after the other
	SameLine      Cause = "processes" // by processes of one line
	Connection    Cause = "edge"      // in a workload that the first had called
	SameDeed      Cause = "image"     // the same deed in another container of the same image
)

// Options say how alerts are put together.
type Options struct {
	Gap time.Duration // how long nothing may happen within an incident; 0: half an hour
	// Owner says which workload has an address, or "". Without it no incident follows a connection.
	Owner func(cluster string, address netip.Addr) string
}

// Of puts alerts together. The newest incident comes first.
func Of(alerts []bulkhead.Alert, o Options) []Incident {
	if o.Gap <= 0 {
		o.Gap = 30 * time.Minute
	}
	alerts = slices.Clone(alerts)
	slices.SortFunc(alerts, func(a, b bulkhead.Alert) int { return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.ID, b.ID)) })
	j := newJoiner(alerts, o)
	for i := range alerts {
		j.add(i)
	}
	incidents := j.incidents()
	slices.SortStableFunc(incidents, func(a, b Incident) int { return b.Last.Compare(a.Last) })
	return incidents
}

// joiner is a forest of alerts: each tree is an incident.
type joiner struct {
	Options
	alerts []bulkhead.Alert
	above  []int
	causes []map[Cause]bool // of a root
	seen   map[string]int   // the latest alert with a key
}

func newJoiner(alerts []bulkhead.Alert, o Options) *joiner {
	j := &joiner{Options: o, alerts: alerts, above: make([]int, len(alerts)), causes: make([]map[Cause]bool, len(alerts)), seen: map[string]int{}}
	for i := range alerts {
		j.above[i], j.causes[i] = i, map[Cause]bool{}
	}
	return j
}

func (j *joiner) root(i int) int {
	for j.above[i] != i {
		j.above[i] = j.above[j.above[i]]
		i = j.above[i]
	}
	return i
}

// join puts two trees together; the root is the earlier one.
func (j *joiner) join(a, b int, why Cause) {
	a, b = j.root(a), j.root(b)
	if a > b {
		a, b = b, a
	}
	j.causes[a][why] = true
	if a == b {
		return
	}
	j.above[b] = a
	for c := range j.causes[b] {
		j.causes[a][c] = true
	}
}

// add joins an alert with earlier ones that have a key of its own, and leaves its keys for later ones.
func (j *joiner) add(i int) {
	a := j.alerts[i]
	for _, k := range keys(a) {
		j.meet(k.text, i, k.why)
		j.seen[k.text] = i
	}
	j.meet("called\x00"+a.Cluster+"\x00"+a.Workload, i, Connection)
	if called := j.calls(a); called != "" && called != a.Workload {
		j.seen["called\x00"+a.Cluster+"\x00"+called] = i
	}
}

func (j *joiner) meet(key string, i int, why Cause) {
	earlier, ok := j.seen[key]
	if ok && j.alerts[i].Time.Sub(j.alerts[earlier].Time) <= j.Gap {
		j.join(earlier, i, why)
	}
}

type key struct {
	text string
	why  Cause
}

// keys are what two alerts of one cause have in common.
func keys(a bulkhead.Alert) []key {
	place := a.Cluster + "\x00" + a.Node
	all := []key{{strings.Join([]string{"container", place, a.Workload, a.Container}, "\x00"), SameContainer}}
	for _, pid := range line(a.Process) {
		all = append(all, key{"process\x00" + place + "\x00" + strconv.Itoa(pid), SameLine})
	}
	if a.Digest != "" && a.Cause.Object != "" {
		all = append(all, key{strings.Join([]string{"deed", a.Cluster, a.Digest, a.Rule, a.Cause.Object}, "\x00"), SameDeed})
	}
	return all
}

// supervisors start everything on a node: to have one of them above itself says nothing.
var supervisors = []string{
	"systemd", "init", "dockerd", "containerd", "containerd-shim", "runc", "crun", "conmon", "crio", "kubelet", "podman", "tini", "dumb-init", "runc:[0:PARENT]", "runc:[1:CHILD]", "runc:[2:INIT]",
}

// line is a process and those above it, up to the first that is everybody's.
func line(p bulkhead.AlertProcess) []int {
	var pids []int
	if p.PID > 1 {
		pids = append(pids, p.PID)
	}
	for _, up := range p.Ancestry {
		if up.PID <= 1 || slices.ContainsFunc(supervisors, func(s string) bool { return up.Comm == s || len(s) > 15 && up.Comm == s[:15] }) {
			break
		}
		pids = append(pids, up.PID)
	}
	return pids
}

// calls is the workload that an alert's connection goes to, if anybody knows.
func (j *joiner) calls(a bulkhead.Alert) string {
	if j.Owner == nil || a.Cause.Kind != bulkhead.EventConnect {
		return ""
	}
	_, address, _ := strings.Cut(a.Cause.Object, " ") // "tcp ADDRESS:PORT"
	if i := strings.LastIndexByte(address, ':'); i > 0 {
		address = address[:i]
	}
	ip, err := netip.ParseAddr(strings.Trim(address, "[]"))
	if err != nil || net.IP(ip.AsSlice()).IsLoopback() {
		return ""
	}
	return j.Owner(a.Cluster, ip.Unmap())
}

func (j *joiner) incidents() []Incident {
	trees := map[int][]bulkhead.Alert{}
	var roots []int
	for i, a := range j.alerts {
		r := j.root(i)
		if trees[r] == nil {
			roots = append(roots, r)
		}
		trees[r] = append(trees[r], a)
	}
	incidents := make([]Incident, 0, len(roots))
	for _, r := range roots {
		incidents = append(incidents, describe(trees[r], j.causes[r]))
	}
	return incidents
}
