package vuln

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// UpdateOptions are the choices of an update; the zero value is right for most.
type UpdateOptions struct {
	Client   *http.Client // nil: one with time limits, that uses the proxy of the environment
	Cache    string       // directory of what was fetched; empty: beside the database
	Progress func(Progress)
	Now      func() time.Time
	Wait     time.Duration // before the second try of a file, doubled each time; zero: one second
}

// Updated tells what an update did.
type Updated struct {
	Status  Status
	Rebuilt bool     // something had changed
	Fetched []string // files that were new
	Same    []string // files that had not changed
	Missing []string // files that the address does not have
}

// Update fetches feeds over HTTP from a base address and builds the database at dst from them. Below the address lie
// osv/<Ecosystem>/all.zip, kev/known_exploited_vulnerabilities.json, epss/epss_scores-current.csv.gz (or one with a day
// in its name) and endoflife/endoflife.json. Where there is a file SHA256SUMS, it says which files there are, and each is
// checked with it. What was fetched is kept: next time only what has changed travels, and what was cut off is resumed.
func Update(ctx context.Context, dst, base string, o UpdateOptions) (Updated, error) {
	u, err := newUpdate(dst, base, o)
	if err != nil {
		return Updated{}, err
	}
	files, err := u.list(ctx)
	if err != nil {
		return Updated{}, fmt.Errorf("update the vulnerability database from %s: %w", u.base.Redacted(), err)
	}
	for i, f := range files {
		u.o.Progress(Progress{"fetch " + f.name, i, len(files)})
		if err := u.file(ctx, f); err != nil {
			return u.done, fmt.Errorf("update the vulnerability database: fetch %s: %w", u.address(f.name).Redacted(), err)
		}
	}
	if err := u.prune(files); err != nil {
		return u.done, fmt.Errorf("update the vulnerability database: %w", err)
	}
	return u.build(ctx, dst)
}

type update struct {
	base  *url.URL
	cache string
	o     UpdateOptions
	state map[string]fileState
	done  Updated
}

// fileState is what is known of a file that was fetched.
type fileState struct {
	ETag     string `json:"etag,omitempty"`
	Modified string `json:"modified,omitempty"`
	SHA256   string `json:"sha256"`
	Base     string `json:"base"` // the address that it came from
}

// remote is one file to fetch.
type remote struct {
	name     string // "osv/Debian/all.zip"
	sum      string // from SHA256SUMS
	limit    int64
	optional bool
}

func newUpdate(dst, base string, o UpdateOptions) (*update, error) {
	b, err := url.Parse(base)
	if err != nil || b.Scheme != "http" && b.Scheme != "https" || b.Host == "" {
		return nil, fmt.Errorf("update the vulnerability database: %q is no address of HTTP; give one like https://feeds.example/bulkhead", base)
	}
	b.Path, b.RawPath = strings.TrimRight(b.Path, "/"), strings.TrimRight(b.RawPath, "/")
	if o.Client == nil {
		o.Client = newClient()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Wait == 0 {
		o.Wait = time.Second
	}
	u := &update{base: b, cache: o.Cache, o: o, state: map[string]fileState{}}
	if u.cache == "" {
		u.cache = dst + ".feeds"
	}
	if err := os.MkdirAll(u.cache, 0o755); err != nil {
		return nil, fmt.Errorf("update the vulnerability database: %w", err)
	}
	if data, err := os.ReadFile(u.statePath()); err == nil {
		_ = json.Unmarshal(data, &u.state) // without it everything is fetched again
	}
	return u, nil
}

// newClient waits for an answer at most half a minute; how long a body may take, its reader watches.
func newClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = 30 * time.Second
	t.TLSHandshakeTimeout = 15 * time.Second
	t.DisableCompression = true // the files are compressed, and parts of them are asked for
	return &http.Client{Transport: t}
}

func (u *update) statePath() string { return filepath.Join(u.cache, ".state.json") }

func (u *update) address(name string) *url.URL {
	a := *u.base
	escaped := strings.Split(name, "/")
	for i, part := range escaped {
		escaped[i] = url.PathEscape(part)
	}
	a.Path, a.RawPath = a.Path+"/"+name, u.base.EscapedPath()+"/"+strings.Join(escaped, "/")
	return &a
}

// The sizes that the feeds may have, ten times and more what they had in 2026.
const (
	maxArchive = 4 << 30
	maxList    = 256 << 20
	maxIndex   = 8 << 20
)

// defaultEcosystems are tried where the address does not say what it has.
var defaultEcosystems = []string{
	"AlmaLinux", "Alpine", "Bitnami", "Chainguard", "Debian", "Go", "Hex", "Kubernetes", "Mageia", "Maven", "MinimOS", "NuGet", "Packagist", "Pub",
	"PyPI", "Red Hat", "Rocky Linux", "RubyGems", "Ubuntu", "Wolfi", "crates.io", "npm", "openEuler", "openSUSE",
}

// list says what there is to fetch: by SHA256SUMS; else by osv.dev's ecosystems.txt or the server's listing; else by trying.
func (u *update) list(ctx context.Context) ([]remote, error) {
	sums, ok, err := u.small(ctx, "SHA256SUMS")
	if err != nil {
		return nil, err
	}
	if ok {
		return parseSums(string(sums))
	}
	ecosystems, err := u.ecosystems(ctx)
	if err != nil {
		return nil, err
	}
	var files []remote
	for _, e := range ecosystems {
		files = append(files, remote{name: "osv/" + e + "/all.zip", limit: maxArchive, optional: true})
	}
	scores, err := u.scores(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"kev/known_exploited_vulnerabilities.json", scores, "endoflife/endoflife.json"} {
		if name != "" {
			files = append(files, remote{name: name, limit: maxList, optional: true})
		}
	}
	return files, nil
}

var sumLine = regexp.MustCompile(`^([0-9a-fA-F]{64}) [ *](\./)?(.+)$`)

// parseSums reads the lines of sha256sum. Files that are no feeds are passed over.
func parseSums(text string) (files []remote, err error) {
	for n, line := range strings.Split(text, "\n") {
		if line = strings.TrimRight(line, "\r"); line == "" {
			continue
		}
		m := sumLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("SHA256SUMS: line %d is no line of sha256sum: %q", n+1, shorten(line, 60))
		}
		limit := feedLimit(m[3])
		if limit == 0 {
			continue
		}
		if !filepath.IsLocal(m[3]) || strings.ContainsAny(m[3], "\\\x00") || strings.Contains(m[3], "/.") {
			return nil, fmt.Errorf("SHA256SUMS: line %d names the path %q", n+1, shorten(m[3], 60))
		}
		if files = append(files, remote{name: m[3], sum: strings.ToLower(m[1]), limit: limit}); len(files) > maxSources {
			return nil, fmt.Errorf("SHA256SUMS: more than %d files", maxSources)
		}
	}
	if len(files) == 0 {
		return nil, errors.New("SHA256SUMS names no feed; it should list osv/<Ecosystem>/all.zip and the others")
	}
	return files, nil
}

// feedLimit is how large a file may be, zero when it is no feed.
func feedLimit(name string) int64 {
	dir, _, _ := strings.Cut(name, "/")
	switch {
	case dir == "osv" && strings.HasSuffix(name, "/all.zip"):
		return maxArchive
	case dir == "kev" && strings.HasSuffix(name, ".json"), dir == "endoflife" && strings.HasSuffix(name, ".json"),
		dir == "epss" && (strings.HasSuffix(name, ".csv.gz") || strings.HasSuffix(name, ".csv")):
		return maxList
	}
	return 0
}

func (u *update) ecosystems(ctx context.Context) ([]string, error) {
	text, ok, err := u.small(ctx, "osv/ecosystems.txt")
	if err != nil {
		return nil, err
	}
	var names []string
	if ok {
		names = strings.Split(string(text), "\n")
	} else if names, err = u.listing(ctx, "osv/"); err != nil {
		return nil, err
	}
	kept := slices.DeleteFunc(names, func(name string) bool {
		// Releases ("Debian:12") are in the archive of the whole.
		return name == "" || strings.ContainsAny(name, `:/\`) || strings.HasPrefix(name, ".") || len(name) > 64
	})
	for i := range kept {
		kept[i] = strings.TrimSpace(kept[i])
	}
	if len(kept) == 0 {
		return defaultEcosystems, nil
	}
	return kept, nil
}

// scores finds the newest file of EPSS.
func (u *update) scores(ctx context.Context) (string, error) {
	const current = "epss/epss_scores-current.csv.gz"
	if ok, err := u.exists(ctx, current); ok || err != nil {
		return current, err
	}
	names, err := u.listing(ctx, "epss/")
	if err != nil {
		return "", err
	}
	best := ""
	for _, name := range names {
		if dated.MatchString(name) && name > best {
			best = name
		}
	}
	if best != "" {
		return "epss/" + best, nil
	}
	for day := range 10 {
		name := "epss/epss_scores-" + u.o.Now().UTC().AddDate(0, 0, -day).Format(time.DateOnly) + ".csv.gz"
		if ok, err := u.exists(ctx, name); ok || err != nil {
			return name, err
		}
	}
	u.done.Missing = append(u.done.Missing, current)
	return "", nil
}

var (
	dated = regexp.MustCompile(`^epss_scores-\d{4}-\d\d-\d\d\.csv(\.gz)?$`)
	href  = regexp.MustCompile(`(?i)<a\s[^>]*href="([^"?#]+)"`)
)

// listing returns the names in a server's own page about a directory; none where it has no such page.
func (u *update) listing(ctx context.Context, dir string) (names []string, err error) {
	page, ok, err := u.small(ctx, dir)
	if !ok || err != nil {
		return nil, err
	}
	for _, m := range href.FindAllStringSubmatch(string(page), maxSources) {
		name, err := url.PathUnescape(m[1])
		name = strings.TrimSuffix(strings.TrimPrefix(name, u.base.Path+"/"+dir), "/")
		if err == nil && name != "" && !strings.Contains(name, "/") && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	return names, nil
}

// prune forgets files of earlier updates that are not listed any more, so that they do not stay in the database.
func (u *update) prune(files []remote) error {
	wanted := map[string]bool{}
	for _, f := range files {
		wanted[f.name] = true
	}
	for name := range u.state {
		if wanted[name] && !slices.Contains(u.done.Missing, name) {
			continue
		}
		if err := os.Remove(u.local(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		delete(u.state, name)
		u.done.Rebuilt = true
	}
	return u.saveState()
}

func (u *update) local(name string) string { return filepath.Join(u.cache, filepath.FromSlash(name)) }

func (u *update) saveState() error {
	data, err := json.MarshalIndent(u.state, "", " ")
	if err != nil {
		return err
	}
	return replaceFile(u.statePath(), data)
}

func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// build makes the database where something is new, or where there is none that can be opened.
func (u *update) build(ctx context.Context, dst string) (Updated, error) {
	if len(u.state) == 0 {
		return u.done, fmt.Errorf("update the vulnerability database: %s has none of the feeds; check the address", u.base.Redacted())
	}
	if len(u.done.Fetched) == 0 && !u.done.Rebuilt {
		if db, err := Open(dst); err == nil {
			u.done.Status = db.Status()
			return u.done, db.Close()
		}
	}
	var paths []string
	for name := range u.state {
		paths = append(paths, u.local(name))
	}
	slices.Sort(paths)
	var err error
	u.done.Status, err = importNamed(ctx, dst, u.cache, paths, ImportOptions{Progress: u.o.Progress, Now: u.o.Now})
	u.done.Rebuilt = err == nil
	return u.done, err
}
