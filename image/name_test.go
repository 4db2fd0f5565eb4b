package image

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseName(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for reference, want := range map[string]Name{
		"nginx":                                        {"docker.io", "docker.io/library/nginx", "latest", ""},
		"team/app:v1":                                  {"docker.io", "docker.io/team/app", "v1", ""},
		"registry.example:5000/a/b:1":                  {"registry.example:5000", "registry.example:5000/a/b", "1", ""},
		"registry.example/a@" + digest:                 {"registry.example", "registry.example/a", "", digest},
		"registry.example:1/a:v2@" + digest:            {"registry.example:1", "registry.example:1/a", "v2", digest},
		"index.docker.io/library/nginx:1.27":           {"docker.io", "docker.io/library/nginx", "1.27", ""},
		"registry.example:5000/a@" + digest:            {"registry.example:5000", "registry.example:5000/a", "", digest},
		"registry.example/a:<b>":                       {},
		"registry.example/a@sha256:short":              {},
		"":                                             {},
		"https://registry.example/a":                   {},
		"registry.example/" + strings.Repeat("a", 300): {},
	} {
		got, err := ParseName(reference)
		if (err != nil) != (want == Name{}) {
			t.Errorf("%q: %v", reference, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: (-want +got):\n%s", reference, diff)
		}
	}
	both := Name{"r", "r/a", "v2", digest}
	if both.String() != "r/a:v2" || both.Pinned() != "r/a@"+digest {
		t.Error(both.String(), both.Pinned())
	}
}

// TestTags turns pages, leaves out what is no tag, ends where it is told to, and never follows where it is led.
func TestTags(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	pages := map[string]string{"": `{"tags":["a","<b>","c"]}`, "c": `{"tags":["d","e"]}`, "e": `{"tags":["e"]}`}
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		asked++
		w.Header().Set("Link", `<http://elsewhere.invalid/v2/x/tags/list?n=1000&last=c>; rel="next"`)
		fmt.Fprint(w, pages[r.URL.Query().Get("last")])
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	for limit, want := range map[int][]string{100: {"a", "c", "d", "e", "e"}, 3: {"a", "c", "d"}} {
		got, err := Tags(t.Context(), host+"/made/it", limit, plain(host))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	if asked != 5 {
		t.Errorf("asked %d times, want 3 and 2", asked)
	}
	if _, err := Tags(t.Context(), host+"/made/it", 10, plain()); err == nil {
		t.Error("a registry was spoken to without TLS")
	}
}

// TestAuthorization pulls with a header that somebody else has got.
func TestAuthorization(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	made := twoLayers(t)
	for name, c := range map[string]struct{ header, challenge, want string }{
		"basic":  {"Basic cm9ib3Q6c2VjcmV0", `Basic realm="r"`, "Basic cm9ib3Q6c2VjcmV0"},
		"bearer": {"Bearer token", `Bearer realm="http://HOST/token",service="s"`, "Bearer token"},
	} {
		t.Run(name, func(t *testing.T) {
			host := serve(t, made, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Authorization") != c.want {
						w.Header().Set("WWW-Authenticate", strings.ReplaceAll(c.challenge, "HOST", r.Host))
						w.WriteHeader(http.StatusUnauthorized)
						return
					}
					next.ServeHTTP(w, r)
				})
			})
			o := plain(host)
			o.Authorization = c.header
			o.Mirrors = map[string][]string{host: {"http://elsewhere.invalid"}}
			i, err := Open(t.Context(), "registry:"+host+"/made/it:1", o)
			if err != nil {
				t.Fatal(err)
			}
			checkLayers(t, i, made)
			_ = i.Close()
			o.Authorization = "Digest secret"
			if _, err := Open(t.Context(), "registry:"+host+"/made/it:1", o); err == nil || strings.Contains(err.Error(), "secret") {
				t.Error(err)
			}
		})
	}
}
