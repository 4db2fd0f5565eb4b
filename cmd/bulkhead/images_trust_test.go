package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/kube/inventory"
	"bulkhead/topology"
)

// TestTrustTable: each signer once, each reason of each policy, and no control character of whoever chose a name.
func TestTrustTable(t *testing.T) {
	all := []trusted{trustedOf(&pb.TrustedImage{
		Reference: "registry.example/shop:v1", State: "not-met",
		Signatures:   []*pb.TrustedImage_ImageSignature{{Kind: "signature", Signer: "release"}, {Kind: "signature", Signer: "release"}, {Kind: "signature", Signer: "ci"}},
		Attestations: []*pb.TrustedImage_ImageSignature{{Kind: "scan\x1b[2J", Signer: "ci"}},
		Policies: []*pb.TrustedImage_PolicyVerdict{
			{Name: "one", Met: true},
			{Name: "two", Reasons: []*pb.TrustedImage_TrustReason{{Rule: "two/signature", Message: "no signature by boss", Action: "deny"}}},
		},
	})}
	var out strings.Builder
	if err := trustTable(all).write(&out, screen{columns: 250}); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{"registry.example/shop:v1", "not-met", "release, ci", "one: met", "two: not met; two/signature: no signature by boss"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Errorf("control characters: %q", text)
	}
}

func TestInventoryOf(t *testing.T) {
	r := &topology.Record{
		Namespaces: []topology.Namespace{{Name: "shop", Labels: map[string]string{"team": "shop"}}},
		Workloads:  []topology.Workload{{Name: "shop/deployment/web/main", Ports: []topology.NamedPort{{Name: "http", Protocol: "tcp", Port: 80}, {Name: "none", Protocol: "tcp"}}}},
	}
	got := inventoryOf("local", r, []inventory.Service{{Address: "10.96.0.7", Protocol: "tcp", Port: 80, Backends: []string{"10.0.0.1:8080"}}, {Address: "10.96.0.8", Protocol: "odd", Port: 1}})
	want := &pb.PutInventoryRequest{
		Cluster:    "local",
		Namespaces: []*pb.NamespaceLabels{{Name: "shop", Labels: map[string]string{"team": "shop"}}},
		Workloads:  []*pb.WorkloadPorts{{Workload: "shop/deployment/web/main", Ports: []*pb.NamedPort{{Name: "http", Protocol: "tcp", Port: 80}}}},
		Services:   []*pb.NetworkService{{Address: "10.96.0.7", Protocol: 6, Port: 80, Backends: []string{"10.0.0.1:8080"}}},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}
