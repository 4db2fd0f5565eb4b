package attest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	gcr "github.com/google/go-containerregistry/pkg/v1/remote"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/sign"
	"bulkhead/sign/attest"
)

// world is a registry with an image in it, and keys.
type world struct {
	*testing.T
	host   string
	opt    image.Options
	ref    string // the image, by tag
	digest string
	now    time.Time
	front  func(http.ResponseWriter, *http.Request) bool // answers in the place of the registry, or not
}

func newWorld(t *testing.T, options ...registry.Option) *world {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	w := &world{T: t, now: time.Now()}
	if options == nil {
		options = []registry.Option{registry.WithReferrersSupport(true)}
	}
	back := registry.New(append(options, registry.Logger(log.New(io.Discard, "", 0)))...)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.front == nil || !w.front(rw, r) {
			back.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(server.Close)
	address, _ := url.Parse(server.URL)
	w.host = address.Host
	w.opt = image.Options{PlainHTTP: []string{w.host}, Stall: 5 * time.Second}
	w.ref = w.host + "/shop/web:v1"
	w.digest = w.push(w.ref)
	return w
}

// push writes a new image.
func (w *world) push(ref string) string {
	w.Helper()
	i, err := random.Image(256, 1)
	w.check(err)
	return w.pushImage(ref, i)
}

func (w *world) pushImage(ref string, i v1.Image) string {
	w.Helper()
	r, err := name.ParseReference(ref, name.Insecure)
	w.check(err)
	w.check(gcr.Write(r, i))
	digest, err := i.Digest()
	w.check(err)
	return digest.String()
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// key makes a key, and returns it with its public half as a policy has it.
func (w *world) key(kind string) (*attest.Signer, string) {
	w.Helper()
	private, public, err := attest.Generate(kind, []byte("secret"))
	w.check(err)
	pair, err := attest.Load(private, []byte("secret"))
	w.check(err)
	return &attest.Signer{Key: pair}, string(public)
}

func (w *world) repository(ref string) *image.Repository {
	w.Helper()
	registries, err := image.NewRegistries(w.opt)
	w.check(err)
	r, err := registries.Repository(ref)
	w.check(err)
	return r
}

// attach signs a statement of the image that ref names and attaches it.
func (w *world) attach(s *attest.Signer, predicateType string, predicate any) []byte {
	w.Helper()
	r := w.repository(w.ref)
	m, err := r.Resolve(w.Context())
	w.check(err)
	bundle, err := s.Sign(w.Context(), attest.NewStatement(m.Digest, predicateType, predicate))
	w.check(err)
	_, err = attest.Attach(w.Context(), r, m, bundle, predicateType)
	w.check(err)
	return bundle
}

func (w *world) sign(s *attest.Signer) []byte {
	w.Helper()
	return w.attach(s, sign.TypeSignature, struct{}{})
}

// policy writes a policy for the images of this registry: more is the rest of its spec.
func (w *world) policy(public, more string) *sign.Policies {
	w.Helper()
	text := fmt.Sprintf("apiVersion: bulkhead/v1\nkind: TrustPolicy\nmetadata: {name: shop}\nspec:\n  images: [\"%s/**\"]\n  signers:\n    - name: release\n      key: |\n%s%s", w.host, indent(public), more)
	p, err := sign.ParsePolicy([]byte(text), "policy.yaml")
	w.check(err)
	return p
}

func indent(text string) string {
	return "        " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n        ") + "\n"
}

func (w *world) verify(p *sign.Policies, change ...func(*sign.Options)) sign.Result {
	w.Helper()
	r, err := w.try(p, change...)
	w.check(err)
	return r
}

func (w *world) try(p *sign.Policies, change ...func(*sign.Options)) (sign.Result, error) {
	w.Helper()
	opt := sign.Options{Registry: w.opt, Now: func() time.Time { return w.now }}
	for _, f := range change {
		f(&opt)
	}
	v, err := sign.New(p, opt)
	w.check(err)
	return v.Verify(w.Context(), w.ref)
}

// wants checks the verdict, and that the reasons have these rules and words: "shop/signature: no signature".
func (w *world) wants(r sign.Result, allowed bool, reasons ...string) {
	w.Helper()
	if r.Allowed != allowed || len(r.Reasons) != len(reasons) {
		w.Errorf("allowed %v with %d reasons, want %v with %d: %+v", r.Allowed, len(r.Reasons), allowed, len(reasons), r.Reasons)
		return
	}
	for i, want := range reasons {
		rule, words, _ := strings.Cut(want, ": ")
		if r.Reasons[i].Rule != rule || !strings.Contains(r.Reasons[i].Message, words) {
			w.Errorf("reason %+v, want %s", r.Reasons[i], want)
		}
	}
}

// TestSignAndVerify is the whole way with each kind of key, on registries with and without a list of referrers.
func TestSignAndVerify(t *testing.T) {
	for _, kind := range []string{attest.P256, attest.P384, attest.Ed25519} {
		for _, referrers := range []bool{true, false} {
			t.Run(fmt.Sprint(kind, referrers), func(t *testing.T) {
				w := newWorld(t, registry.WithReferrersSupport(referrers))
				signer, public := w.key(kind)
				p := w.policy(public, "")
				w.wants(w.verify(p), false, "shop/signature: nothing is attached to it")
				w.sign(signer)
				r := w.verify(p)
				w.wants(r, true)
				if r.Digest != w.digest || len(r.Signatures) != 1 || r.Signatures[0].Signer != "release" || !strings.HasSuffix(r.Pinned(), "@"+w.digest) {
					t.Errorf("%+v", r)
				}
				_, other := w.key(kind)
				w.wants(w.verify(w.policy(other, "")), false, "shop/signature: not by release: made with another key, or changed")
			})
		}
	}
}

// TestConcurrentAttach loses none of the attachments of several who attach at once, also where the list is a tag.
func TestConcurrentAttach(t *testing.T) {
	w := newWorld(t, registry.WithReferrersSupport(false))
	signer, _ := w.key(attest.P256)
	const several = 4
	done := make(chan error, several)
	for i := range several {
		go func() {
			r := w.repository(w.ref)
			m, err := r.Resolve(w.Context())
			if err == nil {
				var bundle []byte
				bundle, err = signer.Sign(w.Context(), attest.NewStatement(m.Digest, sign.TypeScan, map[string]int{"n": i}))
				if err == nil {
					_, err = attest.Attach(w.Context(), r, m, bundle, sign.TypeScan)
				}
			}
			done <- err
		}()
	}
	for range several {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func scanReport(digest string, vulnerabilities ...bulkhead.Vulnerability) []byte {
	raw, _ := json.Marshal(bulkhead.Report{Digest: digest, Vulnerabilities: append([]bulkhead.Vulnerability{}, vulnerabilities...)})
	return raw
}

// attachScan attaches a scan of that time.
func (w *world) attachScan(s *attest.Signer, at time.Time, vulnerabilities ...bulkhead.Vulnerability) {
	w.Helper()
	d := attest.Document{Kind: "scan", Raw: scanReport(w.digest, vulnerabilities...), Name: "report.json", At: at}
	kind, predicate, err := d.Predicate([]string{w.digest})
	w.check(err)
	w.attach(s, kind, predicate)
}

const scanPolicy = `
  attestations:
    - name: fresh-scan
      type: scan
      conditions:
        - name: recent
          when: age < duration("168h")
          message: its scan is older than 7 days
        - name: no-fixable-critical
          when: '!report.vulnerabilities.exists(v, v.severity == "critical" && v.fixed != "")'
`

func TestScanConditions(t *testing.T) {
	w := newWorld(t)
	signer, public := w.key(attest.P256)
	w.sign(signer)
	p := w.policy(public, scanPolicy)
	w.wants(w.verify(p), false, "shop/attestation/fresh-scan: has no scan attestation")

	w.attachScan(signer, w.now.Add(-8*24*time.Hour))
	w.wants(w.verify(p), false, "shop/attestation/fresh-scan/recent: its scan is older than 7 days")

	w.attachScan(signer, w.now.Add(-time.Hour))
	w.wants(w.verify(p), true)

	// The newest counts, and not the one that is better.
	w.attachScan(signer, w.now.Add(-time.Minute), bulkhead.Vulnerability{ID: "CVE-1", Severity: bulkhead.Critical, Fixed: "2"})
	w.wants(w.verify(p), false, "shop/attestation/fresh-scan/no-fixable-critical: does not meet")

	// One that nobody has a fix for is let pass.
	w.attachScan(signer, w.now.Add(-time.Second), bulkhead.Vulnerability{ID: "CVE-1", Severity: bulkhead.Critical})
	w.wants(w.verify(p), true)

	// A clock that is ahead.
	w.attachScan(signer, w.now.Add(time.Hour))
	w.wants(w.verify(p), false, "shop/attestation/fresh-scan: still to come")
}

// TestOtherImage refuses to sign a document about another image.
func TestOtherImage(t *testing.T) {
	d := attest.Document{Kind: "scan", Raw: scanReport("sha256:other"), Name: "report.json"}
	if _, _, err := d.Predicate([]string{"sha256:this"}); err == nil || !strings.Contains(err.Error(), "about another image (sha256:other)") {
		t.Errorf("error %v", err)
	}
}

// TestReplay attaches what was signed for one image to another.
func TestReplay(t *testing.T) {
	w := newWorld(t)
	signer, public := w.key(attest.P256)
	bundle := w.sign(signer)
	w.digest = w.push(w.ref) // the tag moves
	r := w.repository(w.ref)
	m, err := r.Resolve(t.Context())
	w.check(err)
	_, err = attest.Attach(t.Context(), r, m, bundle, sign.TypeSignature)
	w.check(err)
	w.wants(w.verify(w.policy(public, "")), false, "shop/signature: it is about another image")
}

// TestTampered changes what is signed, and the signature.
func TestTampered(t *testing.T) {
	w := newWorld(t)
	signer, public := w.key(attest.P256)
	good := w.sign(signer)
	p := w.policy(public, "")
	offline := func(bundle []byte) sign.Result {
		file := filepath.Join(t.TempDir(), "bundle.json")
		w.check(os.WriteFile(file, bundle, 0o600))
		source, err := sign.OpenFiles([]string{file})
		w.check(err)
		v, err := sign.New(p, sign.Options{Source: source})
		w.check(err)
		r, err := v.Verify(context.Background(), w.host+"/shop/web@"+w.digest)
		w.check(err)
		return r
	}
	w.wants(offline(good), true)
	var parts map[string]any
	for name, change := range map[string]func(envelope map[string]any){
		"made with another key, or changed":   func(e map[string]any) { e["signatures"] = []any{map[string]any{"sig": "AAAA"}} },
		"it has 0 signatures":                 func(e map[string]any) { e["signatures"] = []any{} },
		"it has 2 signatures":                 func(e map[string]any) { e["signatures"] = append(e["signatures"].([]any), e["signatures"].([]any)...) },
		"is of type \"application/json\"":     func(e map[string]any) { e["payloadType"] = "application/json" },
		"its document":                        func(e map[string]any) { e["payload"] = "!" },
		"made with another key, or changed; ": func(e map[string]any) { e["payload"] = e["payload"].(string)[:0] + "" },
	} {
		parts = nil
		w.check(json.Unmarshal(good, &parts))
		change(parts["dsseEnvelope"].(map[string]any))
		changed, err := json.Marshal(parts)
		w.check(err)
		if strings.HasSuffix(name, "; ") {
			name = "its document"
		}
		w.wants(offline(changed), false, "shop/signature: "+name)
	}
	twice := bytes.Replace(good, []byte(`"payloadType"`), []byte(`"payloadType":"x","payloadType"`), 1)
	w.wants(offline(twice), false, "shop/signature: appears twice")
	cased := bytes.Replace(good, []byte(`"payloadType"`), []byte(`"PayloadType":"x","payloadType"`), 1)
	w.wants(offline(cased), false, "shop/signature: appears twice")
}

func sha256Of(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
