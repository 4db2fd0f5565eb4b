package vuln

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// mirror serves a directory of feeds and remembers what was asked.
type mirror struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
	cut   map[string]int // path → how many bytes before the connection breaks, once
}

func serve(t *testing.T, root string) *mirror {
	m := &mirror{cut: map[string]int{}}
	files := http.FileServer(http.Dir(root))
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		m.asked = append(m.asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")))
		cut, broken := m.cut[r.URL.Path]
		delete(m.cut, r.URL.Path)
		m.mu.Unlock()
		if data, err := os.ReadFile(filepath.Join(root, r.URL.Path)); err == nil {
			sum := sha256.Sum256(data)
			w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
			if broken {
				w.Header().Set("Content-Length", fmt.Sprint(len(data)))
				_, _ = w.Write(data[:cut])
				return // the server breaks the connection, as less was written than promised
			}
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *mirror) questions() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	asked := m.asked
	m.asked = nil
	return asked
}

var quick = UpdateOptions{Wait: time.Millisecond, Now: func() time.Time { return now }}

func writeSums(t *testing.T, root string) {
	var text strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "SHA256SUMS" {
			return err
		}
		sum, err := fileSum(path)
		name, _ := filepath.Rel(root, path)
		fmt.Fprintf(&text, "%s  ./%s\n", sum, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(root, "SHA256SUMS"), []byte(text.String()))
}

func TestUpdate(t *testing.T) {
	for _, sums := range []bool{false, true} {
		t.Run(fmt.Sprintf("sums %v", sums), func(t *testing.T) {
			root := feeds(t)
			put(t, filepath.Join(root, "osv/ecosystems.txt"), []byte("Debian\nDebian:12\nGo\nPyPI\nNothing\n"))
			if sums {
				writeSums(t, root)
			}
			m := serve(t, root)
			dst := filepath.Join(t.TempDir(), "db")
			first, err := Update(t.Context(), dst, m.URL, quick)
			if err != nil || !first.Rebuilt || len(first.Same) > 0 || first.Status.KEV != 1 || first.Status.EPSS != 2 {
				t.Fatalf("%+v %v", first, err)
			}
			second, err := Update(t.Context(), dst, m.URL+"/", quick)
			if err != nil || second.Rebuilt || len(second.Fetched) > 0 || second.Status.Records != first.Status.Records {
				t.Fatalf("nothing has changed: %+v %v", second, err)
			}
			// One archive changes.
			put(t, filepath.Join(root, "osv/Go/all.zip"), archive(t, map[string]string{"GO-2024-2.json": fixture["osv/Go/all.zip"]["GO-2024-2.json"]}))
			if sums {
				writeSums(t, root)
			}
			third, err := Update(t.Context(), dst, m.URL+"/", quick)
			if err != nil || !third.Rebuilt || len(third.Fetched) != 1 || third.Status.Records != first.Status.Records-1 {
				t.Fatalf("%+v %v", third, err)
			}
			if err := open(t, dst).Verify(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUpdateResumes(t *testing.T) {
	root := feeds(t)
	m := serve(t, root)
	m.cut["/osv/Debian/all.zip"] = 100
	dst := filepath.Join(t.TempDir(), "db")
	if got, err := Update(t.Context(), dst, m.URL, quick); err != nil || !got.Rebuilt {
		t.Fatal(got, err)
	}
	if asked := strings.Join(m.questions(), "\n"); !strings.Contains(asked, "GET /osv/Debian/all.zip bytes=100-") {
		t.Errorf("did not go on where it was cut off:\n%s", asked)
	}
	if left, _ := filepath.Glob(filepath.Join(dst+".feeds", "osv/*/*.part*")); len(left) > 0 {
		t.Errorf("left behind %q", left)
	}
}

func TestUpdateRefuses(t *testing.T) {
	root := feeds(t)
	dst := filepath.Join(t.TempDir(), "db")
	put(t, filepath.Join(root, "SHA256SUMS"), []byte(strings.Repeat("0", 64)+"  osv/Go/all.zip\n"))
	if _, err := Update(t.Context(), dst, serve(t, root).URL, quick); err == nil || !strings.Contains(err.Error(), "by SHA256SUMS") {
		t.Errorf("wrong sum: %v", err)
	}
	put(t, filepath.Join(root, "SHA256SUMS"), []byte(strings.Repeat("0", 64)+"  osv/../../../x/all.zip\n"))
	if _, err := Update(t.Context(), dst, serve(t, root).URL, quick); err == nil || !strings.Contains(err.Error(), "names the path") {
		t.Errorf("a path that climbs: %v", err)
	}
	for base, want := range map[string]string{
		"ftp://x": "is no address of HTTP", "": "is no address of HTTP",
		serve(t, t.TempDir()).URL: "has none of the feeds",
	} {
		if _, err := Update(t.Context(), dst, base, quick); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", base, err, want)
		}
	}
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	defer broken.Close()
	if _, err := Update(t.Context(), dst, broken.URL, quick); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("broken server: %v", err)
	}
	if _, err := os.Stat(dst); err == nil {
		t.Error("an update that failed has made a database")
	}
}

func FuzzSums(f *testing.F) {
	f.Add(strings.Repeat("0", 64) + "  ./osv/Go/all.zip\n")
	f.Fuzz(func(t *testing.T, text string) {
		files, err := parseSums(text)
		for _, file := range files {
			if err == nil && !filepath.IsLocal(file.name) {
				t.Errorf("%q leads out of the directory", file.name)
			}
		}
	})
}
