// Package console serves the web console: the page that `npm run build` makes in this folder, put
// into the program when that is built. Start with [Handler] and [Built].
//
// It promises that nothing is fetched from elsewhere, that what a browser may keep is named after
// its content, and that a program built without the page says so. It is not for the API, nor for
// the headers that confine a browser: package server adds those.
package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

// The file .keep is always there; the rest is when the console was built.
//
//go:embed all:dist
var dist embed.FS

// Built reports whether this program has the console in it.
func Built() bool { return built(pages()) }

// Handler serves the console, or a page that says that it was not built.
func Handler() http.Handler { return handler(pages()) }

func pages() fs.FS {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the name is a constant
	}
	return sub
}

func built(pages fs.FS) bool {
	_, err := fs.Stat(pages, "index.html")
	return err == nil
}

func handler(pages fs.FS) http.Handler {
	if !built(pages) {
		return http.HandlerFunc(notBuilt)
	}
	return files(read(pages))
}

// page is one file as it is sent.
type page struct {
	kind, tag, keep string
	plain, zipped   []byte
}

type files map[string]page

// read takes all files into memory, compressed once: they are small and few.
func read(pages fs.FS) files {
	out := files{}
	_ = fs.WalkDir(pages, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), ".") {
			return err
		}
		content, err := fs.ReadFile(pages, name)
		out["/"+name] = newPage(name, content)
		return err
	}) // an embedded file can always be read
	out["/"] = out["/index.html"]
	return out
}

func newPage(name string, content []byte) page {
	sum := sha256.Sum256(content)
	p := page{kind: kind(name), tag: `"` + hex.EncodeToString(sum[:8]) + `"`, keep: "no-cache", plain: content}
	if strings.HasPrefix(name, "assets/") { // its name holds a digest of its content
		p.keep = "public, max-age=31536000, immutable"
	}
	if zipped := zip(content); len(zipped) < len(content) {
		p.zipped = zipped
	}
	return p
}

// kind does not ask the host's own table first, which may say anything.
func kind(name string) string {
	switch ext := path.Ext(name); ext {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".html":
		return "text/html; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return mime.TypeByExtension(ext)
	}
}

func zip(content []byte) []byte {
	var out bytes.Buffer
	w, _ := gzip.NewWriterLevel(&out, gzip.BestCompression) // the level is a valid one
	_, _ = w.Write(content)                                 // into memory
	_ = w.Close()
	return out.Bytes()
}

func (f files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the console is read with GET", http.StatusMethodNotAllowed)
		return
	}
	p, ok := f[r.URL.Path]
	if !ok && isPage(r.URL.Path) {
		p, ok = f["/"], true // which page it is, the script sees; see src/pages.ts
	}
	if !ok {
		http.Error(w, "there is no such page; the console is at /", http.StatusNotFound)
		return
	}
	p.send(w, r)
}

// isPage reports whether a path may be one of the console's pages: words of small letters, as "/images/difference".
func isPage(path string) bool {
	for word := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz-") != "" {
			return false
		}
	}
	return true
}

func (p page) send(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", p.kind)
	h.Set("Cache-Control", p.keep)
	h.Set("Etag", p.tag)
	h.Set("Vary", "Accept-Encoding")
	if r.Header.Get("If-None-Match") == p.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := p.plain
	if p.zipped != nil && accepts(r, "gzip") {
		body = p.zipped
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // who hung up does not read an error
	}
}

func accepts(r *http.Request, encoding string) bool {
	return slices.ContainsFunc(strings.Split(r.Header.Get("Accept-Encoding"), ","), func(offer string) bool {
		name, quality, _ := strings.Cut(strings.TrimSpace(offer), ";")
		return name == encoding && strings.TrimSpace(quality) != "q=0"
	})
}

func notBuilt(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(`<!doctype html><html lang="en"><meta charset="utf-8"><title>Bulkhead</title>
<h1>Bulkhead runs, without its console</h1>
<p>This program was built without the web console. <code>make build</code> builds it.</p>
<p>The command line tells the same: <code>bulkhead status</code>, <code>bulkhead workloads</code>, <code>bulkhead alerts</code>.</p>
`)) // who hung up does not read an error
}
