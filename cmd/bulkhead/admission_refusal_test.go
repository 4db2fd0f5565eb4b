package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/kube"
	"bulkhead/profile"
	"bulkhead/rule"
	"bulkhead/sign"
	"bulkhead/sign/attest"
	"bulkhead/test/registry"
)

// supply is a registry, and who signs what is in it.
type supply struct {
	*testing.T
	*registry.Registry
	images         *image.Registries
	release, other *attest.Signer
	public         []byte
}

func newSupply(t *testing.T) *supply {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	s := &supply{T: t, Registry: registry.Start(true)}
	t.Cleanup(s.Close)
	var err error
	s.images, err = image.NewRegistries(image.Options{PlainHTTP: []string{s.Host}})
	benchMust(t, err)
	s.release, s.public = s.key()
	s.other, _ = s.key()
	return s
}

func (s *supply) key() (*attest.Signer, []byte) {
	private, public, err := attest.Generate("ecdsa-p256", []byte("secret"))
	benchMust(s, err)
	pair, err := attest.Load(private, []byte("secret"))
	benchMust(s, err)
	return &attest.Signer{Key: pair}, public
}

// push writes a new image and returns its digest; what a tag was before has no name any more.
func (s *supply) push(as string) string {
	digest, err := s.Push(as)
	benchMust(s, err)
	return digest
}

func (s *supply) index(as string) {
	index, err := random.Index(256, 1, 2)
	benchMust(s, err)
	ref, err := name.ParseReference(s.Host+"/"+as, name.Insecure)
	benchMust(s, err)
	benchMust(s, remote.WriteIndex(ref, index))
}

// attach signs documents onto what a tag is now.
func (s *supply) attach(as string, by *attest.Signer, documents map[string]any) {
	repository, err := s.images.Repository(s.Host + "/" + as)
	benchMust(s, err)
	m, err := repository.Resolve(s.Context())
	benchMust(s, err)
	s.attachTo(repository, m, m.Digest, by, documents)
}

// attachTo attaches statements about one digest to an image that may be another.
func (s *supply) attachTo(repository *image.Repository, m image.Manifest, about string, by *attest.Signer, documents map[string]any) {
	for kind, predicate := range documents {
		bundle, err := by.Sign(s.Context(), attest.NewStatement(about, kind, predicate))
		benchMust(s, err)
		_, err = attest.Attach(s.Context(), repository, m, bundle, kind)
		benchMust(s, err)
	}
}

// proof is what the policy wants of an image.
func (s *supply) proof(scanned time.Time) map[string]any {
	p := bulkhead.Profile{Version: bulkhead.ProfileVersion, Workload: "docker/web", Completeness: map[bulkhead.Section]bulkhead.Completeness{}}
	for _, section := range profile.Sections() {
		p.Completeness[section] = bulkhead.Completeness{Score: 1, HeldOut: 1, Ready: true}
	}
	var text bytes.Buffer
	benchMust(s, profile.Write(&text, p))
	scan := scanOf(1)
	scan["metadata"] = map[string]any{"scanFinishedOn": scanned.UTC().Format(time.RFC3339)}
	return map[string]any{sign.TypeSignature: struct{}{}, sign.TypeScan: scan, sign.TypeProfile: json.RawMessage(text.Bytes())}
}

func (s *supply) engine() *kube.Engine {
	key := "        " + strings.ReplaceAll(strings.TrimSpace(string(s.public)), "\n", "\n        ")
	policy := fmt.Appendf(nil, "apiVersion: bulkhead/v1\nkind: TrustPolicy\nmetadata: {name: shop}\nspec:\n  images: [%q]\n  signers:\n    - name: release\n      key: |\n%s\n"+
		"  attestations:\n    - {name: scan, type: scan, conditions: [{name: recent, when: 'age < duration(\"168h\")', message: the scan is older than 7 days}]}\n"+
		"    - {name: behaviour, type: profile, conditions: [{name: complete, when: 'predicate.completeness.all(s, predicate.completeness[s].score >= 0.95)'}]}\n", s.Host+"/**", key)
	images, problems := trustedImages(map[string][]byte{"shop": policy}, sign.Options{Registry: image.Options{PlainHTTP: []string{s.Host}}}, false)
	if len(problems) > 0 {
		s.Fatal(problems)
	}
	rules, err := rule.DefaultAdmission()
	benchMust(s, err)
	return kube.New(kube.Options{Rules: rules, Images: images, Scans: images.(kube.Scans)})
}

// TestRefusals: each way to bring an image in that nobody answers for is refused with a reason that names the image, and its
// signed twin is let in.
func TestRefusals(t *testing.T) {
	s := newSupply(t)
	now := time.Now()
	without := func(kind string) map[string]any {
		all := s.proof(now)
		delete(all, kind)
		return all
	}
	for title, c := range map[string]struct {
		prepare func(as string)
		rule    string
	}{
		"unsigned":                  {func(as string) { s.push(as) }, "shop/signature"},
		"wrong key":                 {func(as string) { s.push(as); s.attach(as, s.other, s.proof(now)) }, "shop/signature"},
		"changed layer, moved tag":  {func(as string) { s.push(as); s.attach(as, s.release, s.proof(now)); s.push(as) }, "shop/signature"},
		"re-pointed index":          {func(as string) { s.index(as); s.attach(as, s.release, s.proof(now)); s.index(as) }, "shop/signature"},
		"stale scan":                {func(as string) { s.push(as); s.attach(as, s.release, s.proof(now.Add(-8*24*time.Hour))) }, "shop/attestation/scan/recent"},
		"no scan":                   {func(as string) { s.push(as); s.attach(as, s.release, without(sign.TypeScan)) }, "shop/attestation/scan"},
		"no profile":                {func(as string) { s.push(as); s.attach(as, s.release, without(sign.TypeProfile)) }, "shop/attestation/behaviour"},
		"profile of another digest": {func(as string) { s.replay(as, without(sign.TypeProfile)) }, "shop/attestation/behaviour"},
		"profile by somebody else": {func(as string) {
			s.push(as)
			s.attach(as, s.release, without(sign.TypeProfile))
			s.attach(as, s.other, s.proof(now))
		}, "shop/attestation/behaviour"},
		"signed, of one platform":     {func(as string) { s.push(as); s.attach(as, s.release, s.proof(now)) }, ""},
		"signed, an index":            {func(as string) { s.index(as); s.attach(as, s.release, s.proof(now)) }, ""},
		"signed again after the move": {func(as string) { s.push(as); s.push(as); s.attach(as, s.release, s.proof(now)) }, ""},
	} {
		t.Run(title, func(t *testing.T) {
			as := "shop/" + strings.ReplaceAll(strings.ReplaceAll(title, " ", "-"), ",", "") + ":v1"
			c.prepare(as)
			engine, ref := s.engine(), s.Host+"/"+as
			for kind, request := range map[string]kube.Request{"pod": podOf(ref), "debug container": debugOf(ref)} {
				v := engine.Review(t.Context(), request)
				said := fmt.Sprint(v.Reasons)
				if v.Allowed != (c.rule == "") || !strings.Contains(said, c.rule) || c.rule != "" && !strings.Contains(said, ref) {
					t.Errorf("%s: allowed %v, %s; want %q", kind, v.Allowed, said, c.rule)
				}
			}
		})
	}
}

// replay attaches to an image the profile of another, as it was signed.
func (s *supply) replay(as string, rest map[string]any) {
	other := s.push("shop/donor:v1")
	s.push(as)
	s.attach(as, s.release, rest)
	repository, err := s.images.Repository(s.Host + "/" + as)
	benchMust(s, err)
	m, err := repository.Resolve(s.Context())
	benchMust(s, err)
	s.attachTo(repository, m, other, s.release, map[string]any{sign.TypeProfile: s.proof(time.Now())[sign.TypeProfile]})
}

func podOf(ref string) kube.Request {
	object := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"shop"},"spec":{"containers":[{"name":"app","image":%q}]}}`, ref)
	return kube.Request{Kind: "Pod", Operation: "CREATE", Namespace: "shop", Object: object}
}

// debugOf puts a debug container into a pod that runs.
func debugOf(ref string) kube.Request {
	const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"shop"},"spec":{"containers":[{"name":"app","image":"registry.example/app@sha256:0000000000000000000000000000000000000000000000000000000000000000"}]%s}}`
	debug := fmt.Sprintf(`,"ephemeralContainers":[{"name":"debug","image":%q}]`, ref)
	return kube.Request{Kind: "Pod", Subresource: "ephemeralcontainers", Operation: "UPDATE", Namespace: "shop", Object: fmt.Appendf(nil, pod, debug), Old: fmt.Appendf(nil, pod, "")}
}
