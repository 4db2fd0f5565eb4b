package incident

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"bulkhead"
)

// describe sums up the alerts of one cause, which come in time.
func describe(alerts []bulkhead.Alert, causes map[Cause]bool) Incident {
	in := Incident{
		ID: alerts[0].ID, First: alerts[0].Time, Last: alerts[len(alerts)-1].Time, Path: []Station{}, Stopped: []Stop{},
		Causes: slices.AppendSeq([]Cause{}, maps.Keys(causes)),
	}
	slices.Sort(in.Causes)
	for _, a := range alerts {
		in.take(a)
	}
	in.Title = in.title(alerts)
	return in
}

func (in *Incident) take(a bulkhead.Alert) {
	in.Alerts = append(in.Alerts, a.ID)
	in.Clusters, in.Nodes = include(in.Clusters, a.Cluster), include(in.Nodes, a.Node)
	in.Workloads, in.Containers, in.Images = include(in.Workloads, a.Workload), include(in.Containers, a.Container), include(in.Images, a.Image)
	if a.Severity.Rank() > in.Severity.Rank() {
		in.Severity = a.Severity
	}
	if a.Action == bulkhead.ActionBlocked {
		in.Blocked++
		in.stop(a)
	} else {
		in.Detected++
	}
	in.walk(a)
}

func include(list []string, s string) []string {
	if list == nil {
		list = []string{}
	}
	if s == "" || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// walk adds a station to the path, or one more time to a station that is there.
func (in *Incident) walk(a bulkhead.Alert) {
	times := max(a.Count, 1)
	for i := range in.Path {
		if s := &in.Path[i]; s.Technique == a.Technique && s.Tactic == a.Tactic {
			s.Times += times
			s.Blocked = s.Blocked && a.Action == bulkhead.ActionBlocked
			return
		}
	}
	in.Path = append(in.Path, Station{a.Time, a.Tactic, a.Technique, a.Title, a.Workload, a.Action == bulkhead.ActionBlocked, times})
}

// places say for each kind of event which part of a profile stops it.
var places = map[bulkhead.EventKind]string{
	bulkhead.EventExec: "executables", bulkhead.EventFile: "files", bulkhead.EventConnect: "network", bulkhead.EventListen: "network",
	bulkhead.EventSyscall: "syscalls", bulkhead.EventMemory: "memory", bulkhead.EventCapability: "syscalls",
}

func (in *Incident) stop(a bulkhead.Alert) {
	where := cmp.Or(places[a.Cause.Kind], string(a.Cause.Kind), "elsewhere")
	for i := range in.Stopped {
		if in.Stopped[i].Where == where {
			in.Stopped[i].Times += max(a.Count, 1)
			return
		}
	}
	in.Stopped = append(in.Stopped, Stop{where, cmp.Or(a.Cause.Object, a.Message), max(a.Count, 1)})
}

// stages says how far an attack has come when it is at a tactic.
var stages = []string{
	"discovery", "initial-access", "execution", "defense-evasion", "persistence", "command-and-control", "collection", "credential-access",
	"lateral-movement", "exfiltration", "privilege-escalation", "impact",
}

// title is what a person would write over it: the worst of what was tried, where, what else, and how it ended.
func (in *Incident) title(alerts []bulkhead.Alert) string {
	worst := slices.MaxFunc(alerts, func(a, b bulkhead.Alert) int {
		return cmp.Or(a.Severity.Rank()-b.Severity.Rank(), slices.Index(stages, a.Tactic)-slices.Index(stages, b.Tactic), b.Time.Compare(a.Time))
	})
	text := cmp.Or(worst.Title, worst.Rule) + " in " + where(in.Workloads)
	if others := len(in.Path) - 1; others > 0 {
		text += fmt.Sprintf(", with %s more", several(others, "technique"))
	}
	return text + ": " + in.outcome()
}

func (in *Incident) outcome() string {
	switch {
	case in.Detected == 0:
		return "all of it was blocked"
	case in.Blocked == 0:
		return "nothing was blocked"
	}
	whole := 0
	for _, s := range in.Path {
		if s.Blocked {
			whole++
		}
	}
	if whole == 0 {
		return fmt.Sprintf("%d of %d alerts were of something blocked", in.Blocked, in.Blocked+in.Detected)
	}
	return fmt.Sprintf("%d of %s were blocked each time", whole, several(len(in.Path), "technique"))
}

func where(workloads []string) string {
	switch len(workloads) {
	case 0:
		return "a container"
	case 1:
		return workloads[0]
	case 2:
		return strings.Join(workloads, " and ")
	}
	return fmt.Sprintf("%s and %d other workloads", workloads[0], len(workloads)-1)
}

func several(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
