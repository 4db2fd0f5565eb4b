package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/image"
	"bulkhead/kube"
	"bulkhead/rule"
	"bulkhead/sign"
	"bulkhead/sign/attest"
	"bulkhead/test/registry"
)

// bench is an engine as the webhook has it, with a trust policy about the images of a registry in this process.
type bench struct {
	*testing.B
	signer *attest.Signer
	policy []byte
	engine *kube.Engine
}

func newBench(b *testing.B, images string, o sign.Options) *bench {
	b.Helper()
	b.Setenv("DOCKER_CONFIG", b.TempDir())
	private, public, err := attest.Generate("ecdsa-p256", []byte("secret"))
	benchMust(b, err)
	pair, err := attest.Load(private, []byte("secret"))
	benchMust(b, err)
	key := "        " + strings.ReplaceAll(strings.TrimSpace(string(public)), "\n", "\n        ")
	policy := fmt.Appendf(nil, "apiVersion: bulkhead/v1\nkind: TrustPolicy\nmetadata: {name: shop}\nspec:\n  images: [%q]\n  signers:\n    - name: release\n      key: |\n%s\n"+
		"  attestations:\n    - name: scan\n      type: scan\n      conditions:\n        - {name: recent, when: 'age < duration(\"168h\")'}\n"+
		"        - {name: critical, when: '!report.vulnerabilities.exists(v, v.severity == \"critical\" && v.fixed != \"\")'}\n", images, key)
	w := &bench{B: b, signer: &attest.Signer{Key: pair}, policy: policy}
	w.fresh(o)
	return w
}

func benchMust(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fresh is an engine that has verified nothing yet, with a cache of its own.
func (w *bench) fresh(o sign.Options) {
	w.Helper()
	cache, err := sign.OpenCache(w.TempDir())
	benchMust(w, err)
	o.Cache = cache
	verifier, problems := trustedImages(map[string][]byte{"shop": w.policy}, o, true)
	if len(problems) > 0 {
		w.Fatal(problems)
	}
	rules, err := rule.DefaultAdmission()
	benchMust(w, err)
	w.engine = kube.New(kube.Options{Rules: rules, Images: verifier, Scans: verifier.(kube.Scans), Profiles: verifier.(kube.Profiles)})
}

// scanOf is what is attested of an image: a report with so many vulnerabilities.
func scanOf(n int) map[string]any {
	found := make([]map[string]any, n)
	for i := range found {
		found[i] = map[string]any{"id": "CVE-2026-" + strconv.Itoa(i), "package": "libfoo" + strconv.Itoa(i), "version": "1.0", "fixed": "", "severity": "high", "aliases": []string{}}
	}
	now := time.Now().UTC().Format(time.RFC3339)
	return map[string]any{
		"scanner":  map[string]any{"uri": "bulkhead", "result": map[string]any{"vulnerabilities": found, "findings": []any{}}},
		"metadata": map[string]any{"scanStartedOn": now, "scanFinishedOn": now},
	}
}

// pod asks as the API server does, first for changes and then for a verdict, and returns how long the two took.
func (w *bench) pod(name, image string) (time.Duration, error) {
	object := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"namespace":"shop"},"spec":{"containers":[{"name":"app","image":%q}]}}`, name, image)
	r := kube.Request{Kind: "Pod", Operation: "CREATE", Namespace: "shop", Object: []byte(object)}
	began := time.Now()
	patch, err := w.engine.Patch(context.Background(), r)
	if err != nil || len(patch) == 0 && !strings.Contains(image, "@") {
		return 0, fmt.Errorf("%d changes, %w", len(patch), err)
	}
	v := w.engine.Review(context.Background(), r)
	if took := time.Since(began); v.Allowed {
		return took, nil
	}
	return 0, fmt.Errorf("refused: %v", v.Reasons)
}

// atOnce asks about so many pods at the same moment.
func (w *bench) atOnce(n int, images []string) []time.Duration {
	w.Helper()
	took, errs := make([]time.Duration, n), make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { took[i], errs[i] = w.pod("pod-"+strconv.Itoa(i), images[i%len(images)]) })
	}
	wait.Wait()
	for _, err := range errs {
		benchMust(w, err)
	}
	slices.Sort(took)
	return took
}

// BenchmarkAdmission: two hundred pods of ten images at once, with a registry in this process.
func BenchmarkAdmission(b *testing.B) {
	r := registry.Start(true)
	defer r.Close()
	o := sign.Options{Registry: image.Options{PlainHTTP: []string{r.Host}}, TagFresh: 2 * time.Second}
	w := newBench(b, r.Host+"/**", o)
	var images []string
	registries, err := image.NewRegistries(o.Registry)
	benchMust(b, err)
	for i := range 10 {
		as := fmt.Sprintf("shop/web%d:v1", i)
		_, err := r.Push(as)
		benchMust(b, err)
		repository, err := registries.Repository(r.Host + "/" + as)
		benchMust(b, err)
		m, err := repository.Resolve(b.Context())
		benchMust(b, err)
		for kind, predicate := range map[string]any{sign.TypeSignature: struct{}{}, sign.TypeScan: scanOf(200)} {
			bundle, err := w.signer.Sign(b.Context(), attest.NewStatement(m.Digest, kind, predicate))
			benchMust(b, err)
			_, err = attest.Attach(b.Context(), repository, m, bundle, kind)
			benchMust(b, err)
		}
		images = append(images, r.Host+"/"+as)
	}
	tell := func(b *testing.B, all []time.Duration) {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
		b.ReportMetric(0, "ns/op")
	}
	b.Run("cold", func(b *testing.B) {
		var all []time.Duration
		for range b.N {
			w.fresh(o)
			all = append(all, w.atOnce(200, images)...)
		}
		tell(b, all)
	})
	b.Run("warm", func(b *testing.B) {
		w.fresh(o)
		w.atOnce(200, images)
		var all []time.Duration
		for range b.N {
			all = append(all, w.atOnce(200, images)...)
		}
		tell(b, all)
	})
}

// endless has every image, and signs it when it is asked for.
type endless struct {
	*bench
	scan map[string]any
}

func (endless) Resolve(_ context.Context, reference string) (string, []string, error) {
	n, err := image.ParseName(reference)
	return n.Digest, nil, err
}

func (e endless) Evidence(ctx context.Context, _ string, want sign.Wanted) (sign.Evidence, error) {
	found := sign.Evidence{Types: want.Types, Seen: 2}
	for kind, predicate := range map[string]any{sign.TypeSignature: struct{}{}, sign.TypeScan: e.scan} {
		raw, err := e.signer.Sign(ctx, attest.NewStatement(want.Digest, kind, predicate))
		if err != nil {
			return found, err
		}
		found.Bundles = append(found.Bundles, sign.Bundle{Digest: "sha256:" + strings.Repeat("0", 64), Raw: raw})
	}
	return found, nil
}

// BenchmarkAdmissionMemory is what the program has in memory after ten thousand digests.
func BenchmarkAdmissionMemory(b *testing.B) {
	w := newBench(b, "registry.example/**", sign.Options{})
	w.fresh(sign.Options{Source: endless{w, scanOf(5)}})
	for range b.N {
		var wait sync.WaitGroup
		for worker := range 4 {
			wait.Go(func() {
				for i := worker; i < 10_000; i += 4 {
					if _, err := w.pod("pod", fmt.Sprintf("registry.example/shop/web%d@sha256:%064x", i%100, i)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wait.Wait()
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MiB")
	b.ReportMetric(float64(residentNow())/(1<<20), "rss-MiB")
	runtime.KeepAlive(w)
}

func residentNow() int {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kb << 10
		}
	}
	return 0
}
