package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"bulkhead"
	"bulkhead/bpf"
)

// maxDenials is how many edges of one container are told one by one each time; the rest of a sweep is one alert.
const maxDenials = 20

// tellDenied makes alerts of what network policies cut, or would. The kernel decides by packets, so no process is known.
func (a *Agent) tellDenied(list []bpf.Flow, boot time.Time) {
	by := map[uint64][]bpf.Flow{}
	for _, f := range list {
		if f.Denied+f.WouldDeny > 0 {
			by[f.Cgroup] = append(by[f.Cgroup], f)
		}
	}
	for cgroup, flows := range by {
		c, ok := a.lookup(cgroup)
		if !ok {
			continue
		}
		slices.SortFunc(flows, func(x, y bpf.Flow) int { return cmp.Compare(y.Denied, x.Denied) })
		for _, f := range flows[:min(len(flows), maxDenials)] {
			a.alerts.add(a.denialOf(c, f, boot, a.addresses.who(f.Peer().String())))
		}
		if n := len(flows) - maxDenials; n > 0 {
			rest := a.denialOf(c, flows[maxDenials], boot, "")
			rest.ID += "-rest"
			rest.Severity, rest.Technique, rest.Tactic = bulkhead.High, "T1046", "discovery"
			rest.Cause.Object = fmt.Sprintf("%d more edges", n)
			rest.Message = fmt.Sprintf("%d more edges of this workload go against network policy: it looks for what it may not reach", n)
			a.alerts.add(rest)
		}
	}
}

func (a *Agent) denialOf(c bulkhead.Container, f bpf.Flow, boot time.Time, peer string) bulkhead.Alert {
	peer = cmp.Or(peer, f.Peer().String())
	way := "to"
	if f.Role == bpf.FlowServer {
		way = "from"
	}
	object := fmt.Sprintf("%s %s port %d", way, peer, f.Port)
	protocol := cmp.Or(transport(f.Protocol), "protocol "+strconv.Itoa(int(f.Protocol)))
	al := bulkhead.Alert{
		ID:   fmt.Sprintf("%.8s-flow-%d-%x-%d-%d", bootID(), f.Last, c.CgroupID, f.Port, f.Role),
		Time: boot.Add(time.Duration(f.Last)).UTC(), Cluster: a.options.Cluster, Node: a.options.Node, Workload: c.Workload.Name,
		Container: cmp.Or(c.Name, c.ID), Image: c.Image.Reference, Digest: c.Image.Digest,
		Rule: "network/policy", Title: "A connection against network policy", Severity: bulkhead.Medium, Technique: "T1046", Tactic: "discovery",
		Action: bulkhead.ActionBlocked, Count: int(f.Denied), Process: bulkhead.AlertProcess{Args: []string{}, Ancestry: []bulkhead.Ancestor{}},
		Cause:   bulkhead.AlertCause{Kind: bulkhead.EventConnect, Reason: "network-policy", Object: protocol + " " + object},
		Message: fmt.Sprintf("%s %s was cut by network policy", protocol, object),
	}
	if f.Denied == 0 {
		al.Action, al.Count, al.Severity = bulkhead.ActionDetected, int(f.WouldDeny), bulkhead.Low
		al.Message = fmt.Sprintf("%s %s would be cut by a staged network policy", protocol, object)
	}
	return al
}
