package agent

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/bpf"
)

// TestDeniedFlows: both ways of an edge, staged and in force, are told apart by their ids and words.
func TestDeniedFlows(t *testing.T) {
	a := &Agent{}
	c := bulkhead.Container{ID: "1", CgroupID: 7, Workload: bulkhead.Workload{Name: "docker/web"}}
	f := bpf.Flow{FlowKey: bpf.FlowKey{Cgroup: 7, Protocol: 6, Port: 5432, Role: bpf.FlowClient, Addr: netip.MustParseAddr("10.0.0.2").As16()}}
	f.Denied = 3
	cut := a.denialOf(c, f, time.Now(), "docker/db")
	f.Role, f.Denied, f.WouldDeny = bpf.FlowServer, 0, 2
	would := a.denialOf(c, f, time.Now(), "")
	if cut.Action != bulkhead.ActionBlocked || cut.Count != 3 || cut.Message != "tcp to docker/db port 5432 was cut by network policy" {
		t.Errorf("%+v", cut)
	}
	if would.Action != bulkhead.ActionDetected || would.Count != 2 || would.Cause.Object != "tcp from 10.0.0.2 port 5432" || would.ID == cut.ID {
		t.Errorf("%+v", would)
	}
	if fmt.Sprint(cut.Process.Args) != "[]" {
		t.Error("lists must be there")
	}
}
