package attest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"bulkhead/sign"
	"bulkhead/sign/attest"
)

// TestManyReferrers finds the signature among 10,000 attachments of somebody who floods the list, and says it when the
// limit hides it.
func TestManyReferrers(t *testing.T) {
	w := newWorld(t)
	signer, public := w.key(attest.P256)
	w.sign(signer)
	p := w.policy(public, "")
	flood := func(annotations map[string]string, kind string) {
		w.front = func(rw http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/referrers/") {
				return false
			}
			w.listWith(rw, 10_000, annotations, kind)
			return true
		}
	}
	flood(map[string]string{"dev.sigstore.bundle.predicateType": "https://other.example"}, sign.BundleType)
	w.wants(w.verify(p), true)
	flood(nil, "application/other")
	w.wants(w.verify(p), true)
	flood(map[string]string{"dev.sigstore.bundle.predicateType": sign.TypeSignature, "org.opencontainers.image.created": "2999"}, sign.BundleType)
	r := w.verify(p)
	w.wants(r, false, "shop/signature: there is more attached than the")
}

// listWith answers with the real attachment among n others.
func (w *world) listWith(rw http.ResponseWriter, n int, annotations map[string]string, kind string) {
	type entry struct {
		MediaType    string            `json:"mediaType"`
		Digest       string            `json:"digest"`
		Size         int               `json:"size"`
		ArtifactType string            `json:"artifactType"`
		Annotations  map[string]string `json:"annotations,omitempty"`
	}
	const manifest = "application/vnd.oci.image.manifest.v1+json"
	front := w.front
	w.front = nil
	all, _, err := w.repository(w.ref).Referrers(w.Context(), w.digest, "", 10)
	w.front = front
	if err != nil || len(all) == 0 {
		w.Errorf("list %d: %v", len(all), err)
		return
	}
	var list []entry
	for i := range n {
		list = append(list, entry{manifest, fmt.Sprintf("sha256:%064x", i), 700, kind, annotations})
	}
	list[n/2] = entry{manifest, all[0].Digest, int(all[0].Size), sign.BundleType, all[0].Annotations}
	rw.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	_ = json.NewEncoder(rw).Encode(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": list})
}

// TestPages follows the pages of a list, and no link that leads elsewhere.
func TestPages(t *testing.T) {
	w := newWorld(t)
	signer, public := w.key(attest.P256)
	w.sign(signer)
	p := w.policy(public, "")
	link := ""
	w.front = func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/") || r.URL.Query().Get("page") != "" {
			return false
		}
		rw.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		rw.Header().Set("Link", fmt.Sprintf(link, r.URL.Path))
		_, _ = rw.Write([]byte(`{"schemaVersion":2,"manifests":[]}`))
		return true
	}
	link = `<%s?page=2>; rel="next"`
	w.wants(w.verify(p), true)
	for _, link = range []string{`<https://elsewhere.example%s?page=2>; rel="next"`, `<%s/x?page=2>; rel="next"`, `%s`} {
		if _, err := w.try(p); err == nil || !strings.Contains(err.Error(), "next page") {
			t.Errorf("%s: error %v", link, err)
		}
	}
}

// TestTwoFaces is a registry that answers different digests to different calls: what was asked for once stays.
func TestTwoFaces(t *testing.T) {
	w := newWorld(t)
	signer, public := w.key(attest.P256)
	w.sign(signer)
	signed := w.digest
	p := w.policy(public, "")
	w.digest = w.push(w.ref) // the tag is now an image that nobody signed
	asked := 0
	w.front = func(rw http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/manifests/v1") && r.Method == http.MethodGet {
			if asked++; asked%2 == 1 { // the good one first, and the other for whoever asks again
				r.URL.Path = strings.Replace(r.URL.Path, "/v1", "/"+signed, 1)
			}
		}
		return false
	}
	r := w.verify(p)
	w.wants(r, true)
	if r.Digest != signed || !strings.HasSuffix(r.Pinned(), "@"+signed) || asked != 1 {
		t.Errorf("digest %s, pinned %s, asked %d times", r.Digest, r.Pinned(), asked)
	}
	w.wants(w.verify(p), false, "shop/signature: nothing is attached")

	// Bytes that are not those of the digest, as manifest and as bundle.
	for _, part := range []string{"/manifests/sha256:", "/blobs/sha256:"} {
		w.ref = w.host + "/shop/web@" + signed
		w.front = func(rw http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, part) {
				return false
			}
			_, _ = rw.Write([]byte(`{"layers":[]}`))
			return true
		}
		r := w.verify(p)
		w.wants(r, false, "shop/signature: no signature by release")
		if len(r.Notes) == 0 || !strings.Contains(r.Notes[0], "damaged or changed on its way") {
			t.Errorf("%s: notes %q", part, r.Notes)
		}
	}
	// A header that says another digest than the bytes have.
	w.ref = w.host + "/shop/web:v1"
	w.front = func(rw http.ResponseWriter, r *http.Request) bool {
		rw.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
		if strings.HasSuffix(r.URL.Path, "/manifests/v1") {
			_, _ = rw.Write([]byte(`{"layers":[]}`))
			return true
		}
		return false
	}
	if _, err := w.try(p); err == nil || !strings.Contains(err.Error(), "damaged or changed") {
		t.Errorf("error %v", err)
	}
}

// TestConfusion attaches things that are not what they say.
func TestConfusion(t *testing.T) {
	for name, change := range map[string]struct{ old, new, want string }{
		"an index in one":  {`"layers":`, `"manifests":[],"layers":`, "manifest and index in one"},
		"another subject":  {`"subject":{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","size":`, `"subject":{"digest":"sha256:1","size":1},"was":{"size":`, ""},
		"no bundle":        {`"layers":[{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"`, `"layers":[{"mediaType":"text/plain"`, "its layer is of type"},
		"nothing attached": {`"layers":[{`, `"layers":[],"was":[{`, "it has 0 layers"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			signer, public := w.key(attest.P256)
			w.sign(signer)
			w.front = rewrite(w, change.old, change.new)
			r := w.verify(w.policy(public, ""))
			w.wants(r, false, "shop/signature: no signature by release")
			if !strings.Contains(strings.Join(r.Notes, " "), change.want) {
				t.Errorf("notes %q, want %q", r.Notes, change.want)
			}
		})
	}
}

// rewrite changes the attachment's manifest, and the list to name what it is then.
func rewrite(w *world, old, changed string) func(http.ResponseWriter, *http.Request) bool {
	r := w.repository(w.ref)
	all, _, err := r.Referrers(w.Context(), w.digest, "", 10)
	w.check(err)
	m, err := r.Manifest(w.Context(), all[0].Digest)
	w.check(err)
	if !strings.Contains(string(m.Raw), old) {
		w.Logf("manifest %s has no %s", m.Raw, old)
	}
	raw := []byte(strings.Replace(string(m.Raw), old, changed, 1))
	digest := sha256Of(raw)
	return func(rw http.ResponseWriter, q *http.Request) bool {
		switch {
		case strings.Contains(q.URL.Path, "/referrers/"):
			rw.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			fmt.Fprintf(rw, `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":%d,"artifactType":%q}]}`, digest, len(raw), sign.BundleType)
		case strings.HasSuffix(q.URL.Path, "/manifests/"+digest):
			_, _ = rw.Write(raw)
		default:
			return false
		}
		return true
	}
}

// TestOutage keeps verdicts while the registry is away, and has none for what nobody saw.
func TestOutage(t *testing.T) {
	w := newWorld(t)
	signer, public := w.key(attest.P256)
	w.sign(signer)
	p := w.policy(public, "")
	cache, err := sign.OpenCache(t.TempDir())
	w.check(err)
	keep := func(o *sign.Options) { o.Cache = cache }
	w.wants(w.verify(p, keep), true)
	w.front = func(rw http.ResponseWriter, _ *http.Request) bool {
		rw.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	quick := func(o *sign.Options) { o.Cache, o.Timeout = cache, 4*time.Second }
	r := w.verify(p, quick)
	w.wants(r, true)
	if len(r.Notes) == 0 || !strings.Contains(r.Notes[0], "does not answer") {
		t.Errorf("notes %q", r.Notes)
	}
	// Another key: what is kept does not meet it, whatever the registry would say.
	_, other := w.key(attest.P256)
	w.wants(w.verify(w.policy(other, ""), quick), false, "shop/signature: not by release")
	w.ref = w.host + "/shop/other:v1"
	if _, err := w.try(p, quick); err == nil {
		t.Error("there is a verdict on an image that nobody saw")
	}
	// A tag's last answer is good for a day.
	w.ref, w.now = w.host+"/shop/web:v1", w.now.Add(25*time.Hour)
	if _, err := w.try(p, quick); err == nil {
		t.Error("a tag's answer of yesterday counts")
	}
	w.ref = w.host + "/shop/web@" + w.digest
	w.wants(w.verify(p, quick), true)
}

// TestSlow gives up in time.
func TestSlow(t *testing.T) {
	w := newWorld(t)
	_, public := w.key(attest.P256)
	release := make(chan struct{})
	defer close(release)
	w.front = func(http.ResponseWriter, *http.Request) bool { <-release; return true }
	_, err := w.try(w.policy(public, ""), func(o *sign.Options) { o.Timeout = 200 * time.Millisecond })
	if err == nil {
		t.Error("a verdict from a registry that does not answer")
	}
}

// TestSignedAfterwards sees a signature that was made after an image was refused.
func TestSignedAfterwards(t *testing.T) {
	w := newWorld(t)
	signer, public := w.key(attest.P256)
	cache, err := sign.OpenCache(t.TempDir())
	w.check(err)
	p := w.policy(public, "")
	keep := func(o *sign.Options) { o.Cache = cache }
	w.wants(w.verify(p, keep), false, "shop/signature: nothing is attached")
	w.sign(signer)
	w.wants(w.verify(p, keep), true)
}

// TestBreakGlass lets an image pass until the end, and tells of it.
func TestBreakGlass(t *testing.T) {
	w := newWorld(t)
	_, public := w.key(attest.P256)
	until := w.now.Add(time.Hour).UTC().Format(time.RFC3339)
	p := w.policy(public, fmt.Sprintf("  breakGlass:\n    - {images: [\"%s/shop/web\"], reason: the shop is down, by: ops, until: %s}\n", w.host, until))
	var told []sign.Result
	record := func(o *sign.Options) { o.Record = func(r sign.Result) { told = append(told, r) } }
	r := w.verify(p, record)
	w.wants(r, true, "shop/signature: nothing is attached")
	if r.Action != sign.Warn || r.BreakGlass == nil || r.BreakGlass.By != "ops" || len(told) != 1 {
		t.Errorf("%+v, told %d times", r, len(told))
	}
	w.now = w.now.Add(2 * time.Hour)
	r = w.verify(p, record)
	w.wants(r, false, "shop/signature: nothing is attached")
	if len(told) != 1 || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "by ops ended at") {
		t.Errorf("told %d times, notes %q", len(told), r.Notes)
	}
}

// TestActions warns and audits without refusing.
func TestActions(t *testing.T) {
	for _, action := range []sign.Action{sign.Warn, sign.Audit, sign.Deny} {
		w := newWorld(t)
		_, public := w.key(attest.P256)
		r := w.verify(w.policy(public, "  action: "+string(action)+"\n"))
		w.wants(r, action != sign.Deny, "shop/signature: nothing is attached")
		if r.Action != action {
			t.Errorf("action %s, want %s", r.Action, action)
		}
	}
}

// TestSeveralSigners counts different ones.
func TestSeveralSigners(t *testing.T) {
	w := newWorld(t)
	one, public := w.key(attest.P256)
	two, second := w.key(attest.Ed25519)
	p := w.policy(public, "    - name: second\n      key: |\n"+indent(second)+"  signatures: 2\n")
	w.sign(one)
	w.sign(one)
	w.wants(w.verify(p), false, "shop/signature: 1 of 2 signatures by release, second")
	w.sign(two)
	w.wants(w.verify(p), true)
}

// TestAttested fetches the profile that a trusted signer attached, and nobody else's.
func TestAttested(t *testing.T) {
	w := newWorld(t)
	signer, public := w.key(attest.P256)
	stranger, _ := w.key(attest.P256)
	w.sign(signer)
	p := w.policy(public, "")
	v, err := sign.New(p, sign.Options{Registry: w.opt})
	w.check(err)
	w.attach(stranger, sign.TypeProfile, map[string]string{"workload": "theirs"})
	raw, r, err := v.Attested(t.Context(), w.ref, "profile")
	if err != nil || raw != nil || !r.Allowed {
		t.Errorf("profile %s, allowed %v, error %v", raw, r.Allowed, err)
	}
	w.attach(signer, sign.TypeProfile, map[string]string{"workload": "ours", "updated": "2026-01-01T00:00:00Z"})
	w.attach(signer, sign.TypeProfile, map[string]string{"workload": "newer", "updated": "2026-02-01T00:00:00Z"})
	raw, _, err = v.Attested(t.Context(), w.ref, "profile")
	if err != nil || !strings.Contains(string(raw), `"newer"`) {
		t.Errorf("profile %s, error %v", raw, err)
	}
}
