//go:build integration

package robust

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

// TestFlows: what containers and the host say to each other is what `bulkhead flows` lists, and nothing else.
func TestFlows(t *testing.T) {
	p := start(t)
	image := p.actorImage(t)
	caller, peer := p.box(t, "caller", image), p.box(t, "peer", image)
	caller.learn(p)
	const connections = 25
	for range connections {
		if a := caller.do("connect", peer.ip+":8080"); !a.Done {
			t.Fatalf("%+v", a)
		}
	}
	caller.do("connect", peer.ip+":9") // is refused
	n, err := p.Node()
	if err != nil {
		t.Fatal(err)
	}
	end := func(b *box) string { return b.workload() }
	want := map[string]uint64{
		fmt.Sprintf("%s -> %s tcp/8080", end(caller), end(caller)):      0, // it asks itself whether it is alive
		fmt.Sprintf("%s -> %s tcp/8080", end(caller), end(peer)):        connections,
		fmt.Sprintf("%s -> %s tcp/9", end(caller), end(peer)):           1,
		fmt.Sprintf("host:%s -> %s tcp/8080 http", n.Name, end(caller)): 0, // how often the test asked does not matter
	}
	var got map[string]uint64
	p.Eventually(30*time.Second, func() error {
		var list struct{ Flows []bulkhead.Flow }
		if err := p.Ask(&list, "flows"); err != nil {
			return err
		}
		got = map[string]uint64{}
		for _, f := range list.Flows {
			key := f.Edge.String()
			if f.Application != "" {
				key += " " + f.Application
			}
			if f.Source.Kind == bulkhead.EndHost || f.Source == f.Destination {
				f.Opened = 0
			}
			if got[key] = f.Opened; f.Port == 9 && f.Refused != 1 {
				return fmt.Errorf("port 9: %+v", f)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("%s", diff)
		}
		return nil
	})
}
