//go:build integration

package browser

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-containerregistry/pkg/v1/empty"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/api/bulkhead/v1/bulkheadv1connect"
	"bulkhead/image"
	"bulkhead/sign"
	"bulkhead/sign/attest"
)

// notary signs what is in a registry.
type notary struct {
	t      *testing.T
	hub    hub
	signer *attest.Signer
	public string
}

func newNotary(t *testing.T, h hub) *notary {
	t.Helper()
	private, public, err := attest.Generate("ecdsa-p256", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := attest.Load(private, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	return &notary{t, h, &attest.Signer{Key: pair}, string(public)}
}

func (n *notary) attach(reference, kind string, predicate any) {
	n.t.Helper()
	check := func(err error) {
		n.t.Helper()
		if err != nil {
			n.t.Fatal(err)
		}
	}
	registries, err := image.NewRegistries(image.Options{PlainHTTP: []string{n.hub.host}})
	check(err)
	r, err := registries.Repository(reference)
	check(err)
	m, err := r.Resolve(n.t.Context())
	check(err)
	bundle, err := n.signer.Sign(n.t.Context(), attest.NewStatement(m.Digest, kind, predicate))
	check(err)
	_, err = attest.Attach(n.t.Context(), r, m, bundle, kind)
	check(err)
}

func (n *notary) policy(name, images, more string) []byte {
	key := "        " + strings.ReplaceAll(strings.TrimSpace(n.public), "\n", "\n        ")
	return fmt.Appendf(nil, "apiVersion: bulkhead/v1\nkind: TrustPolicy\nmetadata: {name: %s}\nspec:\n  images: [%q]\n  signers:\n    - name: release\n      key: |\n%s\n%s", name, n.hub.host+"/"+images, key, more)
}

func (p *plane) apply(t *testing.T, documents ...[]byte) {
	t.Helper()
	c := bulkheadv1connect.NewPolicyServiceClient(p.Client(), p.URL)
	if _, err := c.ApplyPolicies(t.Context(), connect.NewRequest(&pb.ApplyPoliciesRequest{Documents: documents})); err != nil {
		t.Fatal(err)
	}
}

// TestTrust is one sitting: nothing there, images without a policy, one that is signed and one that is not.
func TestTrust(t *testing.T) {
	h := moor(t, advisories)
	n := newNotary(t, h.hub)
	h.visit(h.URL + "/trust")
	h.signIn(h.plane, h.password)
	h.says("No trust policy is applied")
	h.says("No image was scanned yet.")
	v1, _ := h.hub.push("team/shop:v1", with(t, empty.Image, "one", file{"a", "1"}))
	v2, _ := h.hub.push("team/shop:v2", with(t, empty.Image, "two", file{"a", "2"}))
	h.click(`//nav//a[.="Images"]`)
	h.says("have a repository's tags scanned")
	h.scan(v1)
	h.scan(v2)
	h.click(`//nav//a[.="Trust"]`)
	h.rows(`[data-state="no-policy"]`, 2)

	n.attach(v1, sign.TypeSignature, struct{}{})
	n.attach(v1, sign.TypeVEX, map[string]any{"timestamp": "2026-11-20T10:00:00Z"})
	h.apply(t, n.policy("shop", "team/**", ""), n.policy("elsewhere", "other/**", ""))
	h.visit(h.URL + "/trust")
	h.rows(`[data-state="met"]`, 1)
	h.rows(`[data-state="not-met"]`, 1)
	h.says("1 of 2 met")
	h.says("about none of these")
	h.accessible("trust")
	h.widths("trust", 700)
	h.click(fmt.Sprintf(`//tr[@data-trust=%q]//button`, v1))
	h.rows(`[data-signed]`, 2)
	h.says("vex")
	h.holds("the address has it", `new URLSearchParams(location.search).get("ref").endsWith("shop:v1")`)
	h.accessible("trust, one image")
	h.click(fmt.Sprintf(`//tr[@data-trust=%q]//button`, v2))
	h.says("shop/signature")
	h.says("has no signature by release; nothing is attached to it")
	h.click(chip("Not met"))
	h.rows(`[data-trust]`, 1)
	h.fill("search", "nothing has this")
	h.says("No image fits.")

	h.click(button("Show all images"))
	h.rows(`[data-trust]`, 2)
	h.click(fmt.Sprintf(`//tr[@data-trust=%q]//button`, v1))
	h.click(`//a[.="What is in it"]`)
	h.holds("an image's own page says the same", `document.querySelector('[aria-labelledby=trust] [data-policy=shop]') && document.querySelectorAll('[data-signed]').length === 2`)
	h.accessible("an image's trust")
	h.shot("trust-image")
	h.clean()
}

// TestHostileTrust has every payload in what a signer and a policy's author choose, and in addresses.
func TestHostileTrust(t *testing.T) {
	h := moor(t, advisories)
	n := newNotary(t, h.hub)
	reference, _ := h.hub.push("evil/image:v1", with(t, empty.Image, "one", file{"a", "1"}))
	conditions, kinds := "", ""
	for i, p := range payloads {
		n.attach(reference, "x:"+p, map[string]any{"timestamp": p})
		conditions += fmt.Sprintf("        - {name: c%d, message: %q, when: 'false'}\n", i, p)
		kinds += fmt.Sprintf("    - {name: k%d, type: %q}\n", i, "x:"+p)
	}
	n.attach(reference, sign.TypeVEX, map[string]any{"timestamp": payloads[0]})
	more := "  attestations:\n    - name: vex\n      type: vex\n      conditions:\n" + conditions + kinds +
		fmt.Sprintf("  breakGlass:\n    - {images: [%q], reason: %q, by: %q, until: 2036-01-31T18:00:00Z}\n", h.hub.host+"/evil/**", payloads[0], payloads[1])
	h.apply(t, n.policy("evil", "evil/**", more))
	h.visit(h.URL + "/images")
	h.signIn(h.plane, h.password)
	h.says("No image was scanned yet.")
	h.scan(reference)
	h.visit(h.URL + "/trust?ref=" + url.QueryEscape(reference))
	h.rows(`[data-signed]`, len(payloads)+1)
	h.says(payloads[0]) // as text
	h.harmless()
	h.accessible("hostile trust")
	h.widths("hostile-trust", 1400)
	h.visit(h.URL + "/images/image?ref=" + url.QueryEscape(reference))
	h.rows(`[data-signed]`, len(payloads)+1)
	h.harmless()
	for _, p := range payloads { // and what a link that somebody sends has in it
		h.visit(h.URL + "/trust?q=" + url.QueryEscape(p) + "&having=" + url.QueryEscape(p) + "&ref=" + url.QueryEscape(p))
		h.harmless()
	}
	h.clean("400")
}
