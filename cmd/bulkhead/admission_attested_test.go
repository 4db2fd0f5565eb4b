package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/kube"
	"bulkhead/profile"
	"bulkhead/rule"
	"bulkhead/sign"
	"bulkhead/sign/attest"
	"bulkhead/test/registry"
)

func TestReadScan(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		raw  string
		want rule.Scan
	}{
		"ours": {
			`{"scanner":{"result":{"vulnerabilities":[{"severity":"critical","fixed":"2","kev":true},{"severity":"critical"},{"severity":"low","fixed":"2"},{"severity":"odd"}],
			"findings":[{"kind":"malware"},{"kind":"webshell"},{"kind":"secret"},{"kind":"misconfig"}]}},"metadata":{"scanFinishedOn":"2026-01-01T00:00:00Z"}}`,
			rule.Scan{Known: true, AgeHours: 24, Critical: 2, Low: 1, Fixable: 1, KEV: 1, Malware: 2, Secrets: 1},
		},
		"another's": {`{"scanner":{"uri":"x"},"metadata":{"scanFinishedOn":"2026-01-01T12:00:00Z"}}`, rule.Scan{Known: true, AgeHours: 12}},
	} {
		got, err := readScan([]byte(c.raw), now)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	if _, err := readScan([]byte(`[]`), now); err == nil {
		t.Error("a list was taken for a scan")
	}
	if s, err := readScan([]byte(`{}`), now); err != nil || s.Known {
		t.Errorf("nothing was taken for a scan: %+v %v", s, err)
	}
}

// TestAttested: what is signed onto an image reaches admission's rules, and its learned profile the pod.
func TestAttested(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	r := registry.Start(true)
	defer r.Close()
	private, public, err := attest.Generate("ecdsa-p256", []byte("secret"))
	benchMust(t, err)
	pair, err := attest.Load(private, []byte("secret"))
	benchMust(t, err)
	signer := &attest.Signer{Key: pair}
	key := "        " + strings.ReplaceAll(strings.TrimSpace(string(public)), "\n", "\n        ")
	policy := fmt.Appendf(nil, "apiVersion: bulkhead/v1\nkind: TrustPolicy\nmetadata: {name: shop}\nspec:\n  images: [%q]\n  signers:\n    - name: release\n      key: |\n%s\n", r.Host+"/**", key)
	o := sign.Options{Registry: image.Options{PlainHTTP: []string{r.Host}}}
	registries, err := image.NewRegistries(o.Registry)
	benchMust(t, err)
	attach := func(as string, documents map[string]any) {
		_, err := r.Push(as)
		benchMust(t, err)
		repository, err := registries.Repository(r.Host + "/" + as)
		benchMust(t, err)
		m, err := repository.Resolve(t.Context())
		benchMust(t, err)
		for kind, predicate := range documents {
			bundle, err := signer.Sign(t.Context(), attest.NewStatement(m.Digest, kind, predicate))
			benchMust(t, err)
			_, err = attest.Attach(t.Context(), repository, m, bundle, kind)
			benchMust(t, err)
		}
	}
	learned := bulkhead.Profile{Version: bulkhead.ProfileVersion, Workload: "docker/web", Completeness: map[bulkhead.Section]bulkhead.Completeness{}}
	for _, s := range profile.Sections() {
		learned.Completeness[s] = bulkhead.Completeness{Score: 1, HeldOut: 1, Ready: true}
	}
	text := func(p bulkhead.Profile) json.RawMessage {
		var b bytes.Buffer
		benchMust(t, profile.Write(&b, p))
		return b.Bytes()
	}
	attach("shop/web:v1", map[string]any{sign.TypeSignature: struct{}{}, sign.TypeScan: scanOf(3), sign.TypeProfile: text(learned)})
	learned.Completeness[bulkhead.SectionSyscalls] = bulkhead.Completeness{}
	attach("shop/young:v1", map[string]any{sign.TypeSignature: struct{}{}, sign.TypeProfile: text(learned)})
	images, problems := trustedImages(map[string][]byte{"shop": policy}, o, true)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	scan, err := images.(kube.Scans).Scan(t.Context(), r.Host+"/shop/web:v1")
	if err != nil || !scan.Known || scan.High != 3 || scan.AgeHours > 1 {
		t.Errorf("the scan is %+v %v", scan, err)
	}
	if scan, err := images.(kube.Scans).Scan(t.Context(), r.Host+"/shop/young:v1"); err != nil || scan.Known {
		t.Errorf("a scan that nobody attested: %+v %v", scan, err)
	}
	file := func(ref string) string {
		return images.(kube.Profiles).Seccomp(t.Context(), "shop", "web", r.Host+"/"+ref)
	}
	if got := file("shop/web:v1"); !strings.HasPrefix(got, "bulkhead/") || !strings.HasSuffix(got, ".json") {
		t.Errorf("the learned profile is %q", got)
	}
	if got := file("shop/young:v1"); got != "" {
		t.Errorf("a profile that is not complete is put into pods: %q", got)
	}
	object := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"shop"},"spec":{"containers":[{"name":"app","image":%q}]}}`, r.Host+"/shop/web:v1")
	engine := kube.New(kube.Options{Images: images, Profiles: images.(kube.Profiles)})
	patch, err := engine.Patch(t.Context(), kube.Request{Kind: "Pod", Operation: "CREATE", Namespace: "shop", Object: object})
	if err != nil || len(patch) != 2 || !strings.Contains(fmt.Sprint(patch), "Localhost") || !strings.Contains(fmt.Sprint(patch), "@sha256:") {
		t.Errorf("the pod becomes %v %v", patch, err)
	}
}
