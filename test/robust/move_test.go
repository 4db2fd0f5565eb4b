//go:build integration

package robust

import (
	"fmt"
	"testing"
	"time"

	"bulkhead"
)

// TestMoved: a learned peer is its workload. It comes back with another address and is reached there; whoever has its
// old address now is not.
func TestMoved(t *testing.T) {
	p := start(t)
	image := p.actorImage(t)
	caller, peer := p.box(t, "caller", image), p.box(t, "peer", image)
	caller.learn(p)
	peer.learn(p)
	if a := caller.do("connect", peer.ip+":8080"); !a.Done {
		t.Fatalf("while learning: %+v", a)
	}
	p.Eventually(20*time.Second, func() error {
		var doc bulkhead.Profile
		if err := p.Ask(&doc, "profile", "show", caller.workload()); err != nil {
			return err
		}
		for _, q := range doc.Peers {
			if q.Workload == peer.workload() && q.Port == 8080 {
				return nil
			}
		}
		return fmt.Errorf("%s is not among the peers %v", peer.workload(), doc.Peers)
	})
	p.mode(caller.workload(), "protect")
	old := peer.ip
	if a := caller.do("connect", old+":8080"); !a.Done {
		t.Errorf("protected: %+v", a)
	}

	docker(t, "stop", "-t", "1", peer.name)
	for n := 0; ; n++ {
		if n == 5 {
			t.Fatalf("the engine gives %s to nobody", old)
		}
		if p.box(t, fmt.Sprint("other-", n), image).ip == old {
			break
		}
	}
	docker(t, "start", peer.name)
	now := docker(t, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", peer.name)
	began := time.Now()
	p.Eventually(10*time.Second, func() error {
		if a := caller.do("connect", now+":8080"); !a.Done {
			return fmt.Errorf("at its new address: %+v", a)
		}
		return nil
	})
	t.Logf("%s moved from %s to %s and is reached after %v", peer.workload(), old, now, time.Since(began).Round(time.Millisecond))
	if a := caller.do("connect", old+":8080"); a.Done {
		t.Error("somebody else is reached at its old address")
	}
}
