package image

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"
)

// serve starts a registry with one image, made/it:1, and between it and the world what a test wants to go wrong.
func serve(t *testing.T, made *testImage, between func(http.Handler) http.Handler) (host string) {
	t.Helper()
	handler := http.Handler(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	push(t, handler, made)
	if between != nil {
		handler = between(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func push(t *testing.T, handler http.Handler, made *testImage) {
	t.Helper()
	put := func(method, path, kind string, b []byte) {
		request := httptest.NewRequest(method, path, strings.NewReader(string(b)))
		request.Header.Set("Content-Type", kind)
		response := httptest.NewRecorder()
		handler.ServeHTTP(response, request)
		if response.Code >= 300 {
			t.Fatalf("%s %s: %d %s", method, path, response.Code, response.Body)
		}
	}
	manifest := made.manifest(t)
	for digest, b := range made.blobs(t) {
		if digest != digestOf(manifest) {
			put("POST", "/v2/made/it/blobs/uploads/?digest="+digest, "", b)
		}
	}
	put("PUT", "/v2/made/it/manifests/"+digestOf(manifest), typeManifest, manifest)
	put("PUT", "/v2/made/it/manifests/1", typeManifest, manifest)
	put("PUT", "/v2/made/it/manifests/all", typeIndex, index(t, made))
}

// plain are options that ask no engine, and this registry without TLS.
func plain(hosts ...string) Options {
	o := nowhere
	o.PlainHTTP, o.Stall = hosts, 2*time.Second
	return o
}

func TestRegistry(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	made := twoLayers(t)
	host := serve(t, made, nil)
	manifest := digestOf(made.manifest(t))
	for reference, inIndex := range map[string]string{
		":1": "", "@" + manifest: "", ":all": digestOf(index(t, made)), ":1@" + manifest: "",
	} {
		i, err := Open(t.Context(), host+"/made/it"+reference, plain(host))
		if err != nil {
			t.Fatal(err)
		}
		if i.Digest != manifest || i.Index != inIndex || i.From != "registry" || i.Name != host+"/made/it"+nameOf(reference) {
			t.Errorf("%s: digest %s, index %s, from %s, name %s", reference, i.Digest, i.Index, i.From, i.Name)
		}
		checkLayers(t, i, made)
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	}
}

// nameOf is how a reference is called in full: a digest wins over a tag.
func nameOf(reference string) string {
	if _, digest, ok := strings.Cut(reference, "@"); ok {
		return "@" + digest
	}
	return reference
}

// TestRegistryPlain speaks without TLS only where that is named: not to this machine, not where a registry leads.
func TestRegistryPlain(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	made := twoLayers(t)
	host := serve(t, made, nil)
	_, err := Open(t.Context(), "registry:"+host+"/made/it:1", plain())
	if err == nil || !strings.Contains(err.Error(), "without TLS") {
		t.Errorf("error %v, want one about TLS", err)
	}
	away := serve(t, made, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/" {
				return
			}
			http.Redirect(w, r, "http://"+host+r.URL.Path, http.StatusTemporaryRedirect)
		})
	})
	_, err = Open(t.Context(), "registry:"+away+"/made/it:1", plain(away))
	if err == nil || !strings.Contains(err.Error(), "without TLS") {
		t.Errorf("led away: error %v, want one about TLS", err)
	}
}

// TestRegistryCA trusts a certificate that is named, and no other.
func TestRegistryCA(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	made := twoLayers(t)
	push(t, handler, made)
	server := httptest.NewTLSServer(handler)
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	target := "registry:" + strings.TrimPrefix(server.URL, "https://") + "/made/it:1"
	if _, err := Open(t.Context(), target, plain()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("error %v, want one about the certificate", err)
	}
	o := plain()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	o.CAs = []string{writeFile(t, filepath.Join(t.TempDir(), "ca.pem"), ca)}
	i, err := Open(t.Context(), target, o)
	if err != nil {
		t.Fatal(err)
	}
	checkLayers(t, i, made)
	i.Close()
}

// locked asks for a user and password, directly or by way of a token.
func locked(token bool) func(http.Handler) http.Handler {
	return func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			user, password, ok := r.BasicAuth()
			signed := ok && user == "ann" && password == "secret"
			switch {
			case r.URL.Path == "/token" && signed:
				io.WriteString(w, `{"token":"good"}`)
			case r.URL.Path == "/token":
				w.WriteHeader(http.StatusUnauthorized)
			case token && r.Header.Get("Authorization") == "Bearer good", !token && signed:
				inner.ServeHTTP(w, r)
			case token:
				w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="made"`)
				w.WriteHeader(http.StatusUnauthorized)
			default:
				w.Header().Set("WWW-Authenticate", `Basic realm="made"`)
				w.WriteHeader(http.StatusUnauthorized)
			}
		})
	}
}

// TestRegistrySignIn uses what docker login keeps, a credential helper, and credentials that are given.
func TestRegistrySignIn(t *testing.T) {
	made := twoLayers(t)
	auth := base64.StdEncoding.EncodeToString([]byte("ann:secret"))
	for _, token := range []bool{false, true} {
		host := serve(t, made, locked(token))
		helpers := t.TempDir()
		writeExecutable(t, filepath.Join(helpers, "docker-credential-made"), `#!/bin/sh
cat >/dev/null; echo '{"ServerURL":"x","Username":"ann","Secret":"secret"}'`)
		t.Setenv("PATH", helpers+":/usr/bin:/bin")
		for name, config := range map[string]string{
			"file": `{"auths":{"` + host + `":{"auth":"` + auth + `"}}}`, "helper": `{"credHelpers":{"` + host + `":"made"}}`, "none": `{}`, "given": `{}`,
		} {
			t.Setenv("HOME", t.TempDir())
			t.Setenv("DOCKER_CONFIG", filepath.Dir(writeFile(t, filepath.Join(t.TempDir(), "config.json"), []byte(config))))
			o := plain(host)
			if name == "given" {
				o.Credentials = func(_ context.Context, registry string) (string, string, error) {
					if registry != host {
						t.Errorf("asked for credentials of %s", registry)
					}
					return "ann", "secret", nil
				}
			}
			i, err := Open(t.Context(), host+"/made/it:1", o)
			if name == "none" {
				if err == nil || !strings.Contains(err.Error(), "docker login") {
					t.Errorf("token %v: without credentials: %v, want the advice to sign in", token, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("token %v, credentials %s: %v", token, name, err)
				continue
			}
			checkLayers(t, i, made)
			i.Close()
		}
	}
}

// TestRegistryMirrors asks the mirrors first, and the registry itself when none has the image.
func TestRegistryMirrors(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	made := twoLayers(t)
	var asked atomic.Int32
	empty := serve(t, made, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" {
				asked.Add(1)
				http.NotFound(w, r)
			}
		})
	})
	full := serve(t, made, nil)
	o := plain(full)
	o.Mirrors = map[string][]string{full: {"http://" + empty + "/cache"}, "docker.io": {"http://" + empty, full}}
	for n, target := range []string{full + "/made/it:1", "registry:docker.io/made/it:1"} {
		i, err := Open(t.Context(), target, o)
		if err != nil {
			t.Fatal(err)
		}
		checkLayers(t, i, made)
		i.Close()
		if got, want := asked.Load(), int32(n+1); got != want {
			t.Errorf("%s: the first mirror was asked %d times until now, want %d", target, got, want)
		}
	}
}

// disturb changes the answers whose path has the word.
func disturb(word string, how func(w http.ResponseWriter, r *http.Request, inner http.Handler)) func(http.Handler) http.Handler {
	return func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, word) {
				how(w, r, inner)
				return
			}
			inner.ServeHTTP(w, r)
		})
	}
}

// TestRegistryMoody comes through what passes: errors of the moment, downloads that break.
func TestRegistryMoody(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	var body strings.Builder
	for n := range 30000 {
		body.WriteString(strconv.Itoa(n * n))
	}
	made := newTestImage(t, tarOf(t, entry{name: "a", body: "one"}), tarOf(t, entry{name: "large", body: body.String()}))
	large := made.layers[1]
	for name, between := range map[string]func(http.Handler) http.Handler{
		"503, 429": func() func(http.Handler) http.Handler {
			var count atomic.Int32
			return disturb("manifests", func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
				switch count.Add(1) {
				case 1:
					w.WriteHeader(http.StatusServiceUnavailable)
				case 2:
					w.Header().Set("Retry-After", "0")
					w.WriteHeader(http.StatusTooManyRequests)
				default:
					inner.ServeHTTP(w, r)
				}
			})
		}(),
		"breaks in the middle": disturb(digestOf(large), func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			from := 0
			if start, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
				from, _ = strconv.Atoi(strings.TrimSuffix(start, "-"))
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(large)-from))
			if from > 0 {
				w.WriteHeader(http.StatusPartialContent)
			}
			w.Write(large[from:min(from+len(large)/2, len(large))])
		}),
	} {
		t.Run(name, func(t *testing.T) {
			host := serve(t, made, between)
			i, err := Open(t.Context(), host+"/made/it:1", plain(host))
			if err != nil {
				t.Fatal(err)
			}
			defer i.Close()
			got, err := seen(t, i.Layers[1].Walk)
			if err != nil || len(got) != 1 {
				t.Errorf("%d files, %v", len(got), err)
			}
		})
	}
}

// TestRegistryLies ends in time, with an error that says what was wrong.
func TestRegistryLies(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	made := twoLayers(t)
	first := digestOf(made.layers[0])
	send := func(b []byte) func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.Write(b) }
	}
	hang := func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Write([]byte("x"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	drip := func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		for r.Context().Err() == nil {
			w.Write([]byte{0x1f})
			w.(http.Flusher).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	}
	for _, test := range []struct {
		name    string
		between func(http.Handler) http.Handler
		says    string
		as      any
	}{
		{"another layer", disturb(first, send(damaged(made.layers[0]))), "digest is", new(*MismatchError)},
		{"a shorter layer", disturb(first, send(made.layers[0][:20])), "size is", new(*MismatchError)},
		{"a layer without end", disturb(first, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			io.Copy(w, io.LimitReader(nothing{}, 1<<20))
		}), "", nil},
		{"another manifest", disturb("manifests", send([]byte(`{"schemaVersion":2,"layers":[]}`))), "", nil},
		{"a manifest without end", disturb("manifests", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			io.Copy(w, io.LimitReader(nothing{}, 64<<20))
		}), "more than", nil},
		{"a digest in the header", disturb("manifests", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Docker-Content-Digest", digestOf(nil))
			w.Write(made.manifest(t))
		}), "digest is", new(*MismatchError)},
		{"no JSON", disturb("manifests", send([]byte("<html>"))), "manifest", nil},
		{"another configuration", disturb(digestOf(made.configuration(t)), send([]byte(`{}`))), "size is", new(*MismatchError)},
		{"a layer that hangs", disturb(first, hang), "stopped", new(*StallError)},
		{"a layer that drips", disturb(first, drip), "stopped", new(*StallError)},
		{"a manifest that hangs", disturb("manifests", hang), "stopped", new(*StallError)},
		{"no answer", disturb("manifests", func(_ http.ResponseWriter, r *http.Request, _ http.Handler) { <-r.Context().Done() }), "timeout", nil},
		{"not there", disturb("manifests", func(w http.ResponseWriter, r *http.Request, _ http.Handler) { http.NotFound(w, r) }), "check the name", nil},
		{"in a circle", disturb("manifests", func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}), "redirects", nil},
		{"angry for long", disturb("manifests", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Retry-After", "86400")
			w.WriteHeader(http.StatusTooManyRequests)
		}), "429", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			host := serve(t, made, test.between)
			o := plain(host)
			o.Stall = 100 * time.Millisecond
			err := openAndWalk(t, "registry:"+host+"/made/it:1", o)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("error %v, want one that says %q", err, test.says)
			}
			if test.as != nil && !errors.As(err, test.as) {
				t.Errorf("error %v is not a %T", err, test.as)
			}
		})
	}
}

func openAndWalk(t *testing.T, target string, o Options) error {
	i, err := Open(t.Context(), target, o)
	if err != nil {
		return err
	}
	defer i.Close()
	for n := range i.Layers {
		if _, err := seen(t, i.Layers[n].Walk); err != nil {
			return err
		}
	}
	return nil
}

// TestRegistryBase asks the same registry for the base image that the labels name.
func TestRegistryBase(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	below := newTestImage(t, tarOf(t, entry{name: "a", body: "one"}))
	handler := http.Handler(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	push(t, handler, below)
	server := httptest.NewServer(handler)
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	above := twoLayers(t)
	above.labels = map[string]string{labelBaseDigest: digestOf(below.manifest(t)), labelBaseName: host + "/made/it:base"}
	push(t, handler, above)
	i, err := Open(t.Context(), host+"/made/it:1", plain(host))
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	got := []bool{i.Layers[0].Base, i.Layers[1].Base}
	if diff := cmp.Diff([]bool{true, false}, got); diff != "" {
		t.Errorf("base (-want +got):\n%s", diff)
	}
}
