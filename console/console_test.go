package console

import (
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func get(h http.Handler, method, path string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

var script = strings.Repeat("let a = 1;\n", 100)

func example() fstest.MapFS {
	return fstest.MapFS{
		".keep":             {Data: []byte("keeps")},
		"index.html":        {Data: []byte("<!doctype html>")},
		"assets/main-1a.js": {Data: []byte(script)},
	}
}

func TestFiles(t *testing.T) {
	type answer struct {
		Status            int
		Type, Cache, Body string
	}
	html := answer{200, "text/html; charset=utf-8", "no-cache", "<!doctype html>"}
	for _, c := range []struct {
		name, method, path string
		want               answer
	}{
		{"root", "GET", "/", html},
		{"by name", "GET", "/index.html", html},
		{"head", "HEAD", "/", answer{200, html.Type, html.Cache, ""}},
		{"kept for ever", "GET", "/assets/main-1a.js", answer{200, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable", script}},
		{"the file that keeps the folder", "GET", "/.keep", answer{404, "text/plain; charset=utf-8", "", "there is no such page; the console is at /\n"}},
		{"out of the folder", "GET", "/../console.go", answer{404, "text/plain; charset=utf-8", "", "there is no such page; the console is at /\n"}},
		{"a folder", "GET", "/assets/", answer{404, "text/plain; charset=utf-8", "", "there is no such page; the console is at /\n"}},
		{"a page", "GET", "/images", html},
		{"a page below it", "GET", "/images/difference", html},
		{"a call of the API that there is not", "GET", "/bulkhead.v1.ImageService/Nothing", answer{404, "text/plain; charset=utf-8", "", "there is no such page; the console is at /\n"}},
		{"written to", "POST", "/", answer{405, "text/plain; charset=utf-8", "", "the console is read with GET\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := get(handler(example()), c.method, c.path)
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			got := answer{r.StatusCode, r.Header.Get("Content-Type"), r.Header.Get("Cache-Control"), string(body)}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCompressed(t *testing.T) {
	for offer, want := range map[string]string{"gzip, br": "gzip", "br": "", "gzip;q=0": "", "br, gzip;q=0.5": "gzip"} {
		r := get(handler(example()), "GET", "/assets/main-1a.js", "Accept-Encoding", offer)
		if got := r.Header.Get("Content-Encoding"); got != want {
			t.Errorf("offered %q: encoding %q, want %q", offer, got, want)
		}
		if want == "" {
			continue
		}
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(z); err != nil || string(body) != script {
			t.Errorf("unpacked: %q, %v", body, err)
		}
	}
}

func TestUnchanged(t *testing.T) {
	h := handler(example())
	tag := get(h, "GET", "/").Header.Get("Etag")
	if r := get(h, "GET", "/", "If-None-Match", tag); r.StatusCode != http.StatusNotModified {
		t.Errorf("status %d, want 304", r.StatusCode)
	}
}

func TestNotBuilt(t *testing.T) {
	r := get(handler(fstest.MapFS{".keep": {}}), "GET", "/")
	body, err := io.ReadAll(r.Body)
	if err != nil || !strings.Contains(string(body), "make build") {
		t.Errorf("the page does not say how to build the console: %q, %v", body, err)
	}
}

// TestBuilt looks at what is in this program, built or not.
func TestBuilt(t *testing.T) {
	if r := get(Handler(), "GET", "/"); r.StatusCode != http.StatusOK {
		t.Errorf("status %d", r.StatusCode)
	}
	if !Built() {
		return
	}
	index, err := fs.ReadFile(pages(), "index.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, inline := range []string{"<style", "onload=", "style=", "<script>", "//"} {
		if strings.Contains(string(index), inline) {
			t.Errorf("index.html has %q in it, which the server's content policy does not allow", inline)
		}
	}
	for _, page := range []string{"Overview", "Images", "Image", "Difference", "Trust", "Requests", "Network", "Policies", "Baseline"} {
		if got := cost(t, page); got > firstLoad {
			t.Errorf("a first visit of %s loads %d bytes of script, compressed; at most %d", page, got, firstLoad)
		}
	}
}

// firstLoad is how much script a first visit may cost, on whichever page.
const firstLoad = 100_000

// imported is another file of the build that a script needs before it runs.
var imported = regexp.MustCompile(`(?:from|import) ?["']\./([^"']+\.js)["']|src="/assets/([^"]+\.js)"`)

// cost is what a browser loads, compressed: what the page names, the component of that name, and what these import.
func cost(t *testing.T, component string) (sum int) {
	t.Helper()
	files := read(pages())
	need := []string{"/index.html"}
	for name := range files {
		if strings.HasPrefix(name, "/assets/"+component+"-") && path.Ext(name) == ".js" {
			need = append(need, name)
		}
	}
	if len(need) != 2 {
		t.Fatalf("the page %s is not loaded on demand: %q", component, need)
	}
	for i := 0; i < len(need); i++ {
		for _, m := range imported.FindAllStringSubmatch(string(files[need[i]].plain), -1) {
			if name := "/assets/" + m[1] + m[2]; !slices.Contains(need, name) {
				need = append(need, name)
			}
		}
		if path.Ext(need[i]) == ".js" {
			sum += len(files[need[i]].zipped)
		}
	}
	t.Logf("%s: %d bytes of script, compressed", component, sum)
	return sum
}

// TestSources holds what a review would have to look for each time.
func TestSources(t *testing.T) {
	lock, err := os.ReadFile("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(lock), `"resolved"`) {
		t.Error("package-lock.json names a registry: .npmrc has omit-lockfile-registry-resolved, make it anew with it")
	}
	err = filepath.WalkDir("src", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, never := range []string{"{@html", "innerHTML", " style=", "eval("} {
			if strings.Contains(string(text), never) {
				t.Errorf("%s: %q: text from a node would be more than text, or the content policy does not allow it", path, never)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
