package server_test

import (
	"fmt"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/api/bulkhead/v1/bulkheadv1connect"
	"bulkhead/image"
	"bulkhead/server"
	"bulkhead/sign"
	"bulkhead/sign/attest"
)

func newSigner(t *testing.T) (*attest.Signer, string) {
	t.Helper()
	private, public, err := attest.Generate("ecdsa-p256", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := attest.Load(private, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	return &attest.Signer{Key: pair}, string(public)
}

// attach signs a document onto what a tag names.
func (h *hub) attach(t *testing.T, tag string, s *attest.Signer, kind string, predicate any) {
	t.Helper()
	registries, err := image.NewRegistries(image.Options{PlainHTTP: []string{h.host}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := registries.Repository(h.host + "/team/shop:" + tag)
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := s.Sign(t.Context(), attest.NewStatement(m.Digest, kind, predicate))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attest.Attach(t.Context(), r, m, bundle, kind); err != nil {
		t.Fatal(err)
	}
}

func trustPolicy(name, images, public, more string) []byte {
	key := "        " + strings.ReplaceAll(strings.TrimSpace(public), "\n", "\n        ")
	return fmt.Appendf(nil, "apiVersion: bulkhead/v1\nkind: TrustPolicy\nmetadata: {name: %s}\nspec:\n  images: [%q]\n  signers:\n    - name: release\n      key: |\n%s\n%s", name, images, key, more)
}

func TestTrust(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	hub := newHub(t)
	p := startWith(t, server.Options{Dir: t.TempDir(), Images: server.ImageOptions{PlainHTTP: []string{hub.host}}})
	images := bulkheadv1connect.NewImageServiceClient(p.Client(), p.URL)
	policies := bulkheadv1connect.NewPolicyServiceClient(p.Client(), p.URL)
	release, public := newSigner(t)
	other, _ := newSigner(t)
	for i, tag := range []string{"signed", "unsigned", "other"} {
		hub.push(t, tag, shop(t, fmt.Sprint(i)))
		if _, err := images.ScanImage(t.Context(), connect.NewRequest(&pb.ScanImageRequest{Reference: hub.host + "/team/shop:" + tag})); err != nil {
			t.Fatal(err)
		}
	}
	hub.attach(t, "signed", release, sign.TypeSignature, struct{}{})
	hub.attach(t, "signed", release, sign.TypeVEX, map[string]any{"timestamp": "2026-11-20T10:00:00Z"}) // no policy asks for it
	hub.attach(t, "other", other, sign.TypeSignature, struct{}{})

	// told is each image by its tag: its state, its signers, what is attested and the rules that are not met.
	told := func(ask *pb.ListTrustRequest) map[string]string {
		answer, err := images.ListTrust(t.Context(), connect.NewRequest(ask))
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]string{}
		for _, i := range answer.Msg.Images {
			words := []string{i.State}
			for _, s := range append(i.Signatures, i.Attestations...) {
				words = append(words, s.Kind+" by "+s.Signer)
			}
			for _, v := range i.Policies {
				for _, r := range v.Reasons {
					words = append(words, r.Rule)
				}
			}
			all[strings.TrimPrefix(i.Reference, hub.host+"/team/shop:")] = strings.Join(words, ", ")
		}
		return all
	}
	expect := func(ask *pb.ListTrustRequest, want map[string]string) {
		t.Helper()
		eventually(t, "what is trusted", func() bool {
			got := told(ask)
			for _, state := range got {
				if state == "asking" {
					return false
				}
			}
			if len(got) != len(want) {
				return false
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("trust (-want +got):\n%s", diff)
			}
			return true
		})
	}
	apply := func(more string) {
		t.Helper()
		if _, err := policies.ApplyPolicies(t.Context(), connect.NewRequest(&pb.ApplyPoliciesRequest{Documents: [][]byte{trustPolicy("shop", hub.host+"/team/**", public, more)}})); err != nil {
			t.Fatal(err)
		}
	}

	expect(&pb.ListTrustRequest{}, map[string]string{"signed": "no-policy", "unsigned": "no-policy", "other": "no-policy"})
	apply("")
	expect(&pb.ListTrustRequest{}, map[string]string{
		"signed": "met, signature by release, vex by release", "unsigned": "not-met, shop/signature", "other": "not-met, shop/signature",
	})
	apply("  attestations: [{name: found, type: scan}]\n")
	expect(&pb.ListTrustRequest{Reference: hub.host + "/team/shop:signed"}, map[string]string{
		"signed": "not-met, signature by release, vex by release, shop/attestation/found",
	})
	hub.Close()
	expect(&pb.ListTrustRequest{Filter: "shop:signed"}, map[string]string{ // from what was fetched
		"signed": "not-met, signature by release, vex by release, shop/attestation/found",
	})
	apply("  action: warn\n")
	answer, err := images.ListTrust(t.Context(), connect.NewRequest(&pb.ListTrustRequest{Reference: hub.host + "/team/shop:unsigned"}))
	if err != nil || !answer.Msg.Images[0].Allowed || answer.Msg.Images[0].State != "not-met" {
		t.Errorf("a policy that only warns: %v %v", answer, err)
	}
	for _, ask := range []*pb.ListTrustRequest{{Filter: strings.Repeat("x", 2000)}, {Reference: "nothing"}} {
		if _, err := images.ListTrust(t.Context(), connect.NewRequest(ask)); err == nil || connect.CodeOf(err) == connect.CodeInternal {
			t.Errorf("%.30v: %v", ask, err)
		}
	}
}
