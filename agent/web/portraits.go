package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/intercept"
	"bulkhead/waf/portrait"
)

const (
	grown       = 1000     // requests after which a portrait of a new image is compared with, where the mode is not learn
	keepDigests = 5        // portraits of one workload
	maxPortrait = 64 << 20 // bytes of a file: 2,000 endpoints of 200 parameters are less
)

// portraits are those of this node, one for each workload and image.
type portraits struct {
	dir string
	mu  sync.Mutex
	all map[portraitKey]*portrait.Portrait
}

type portraitKey struct{ workload, digest string }

// keptPortrait is one on disk.
type keptPortrait struct {
	Workload string          `json:"workload"`
	Digest   string          `json:"digest"`
	Portrait json.RawMessage `json:"portrait"`
}

func newPortraits(dir string) *portraits {
	return &portraits{dir: dir, all: map[portraitKey]*portrait.Portrait{}}
}

func (p *portraits) file(k portraitKey) string {
	return filepath.Join(p.dir, shortHash(k.workload)+"-"+shortHash(k.digest)+".json")
}

// of returns the portrait of a workload's image. One that cannot be read is learned anew.
func (p *portraits) of(workload, digest string) (*portrait.Portrait, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := portraitKey{workload, digest}
	if have := p.all[k]; have != nil {
		return have, nil
	}
	found, err := readPortrait(p.file(k))
	if found == nil {
		found = portrait.New()
	}
	p.all[k] = found
	return found, err
}

func readPortrait(file string) (*portrait.Portrait, error) {
	info, err := os.Stat(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil || info.Size() > maxPortrait {
		return nil, fmt.Errorf("the portrait in %s has %d bytes or cannot be seen: %w", file, info.Size(), err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var k keptPortrait
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, fmt.Errorf("the portrait in %s: %w", file, err)
	}
	return portrait.Read(k.Portrait)
}

func (p *portraits) learned(workload, digest string) (endpoints, requests int) {
	p.mu.Lock()
	have := p.all[portraitKey{workload, digest}]
	p.mu.Unlock()
	if have == nil {
		return 0, 0
	}
	return have.Learned()
}

// save writes what was learned, and forgets all but the newest of each workload.
func (p *portraits) save() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for k, one := range p.all {
		if _, n := one.Learned(); n == 0 {
			continue
		}
		b, err := one.Write()
		if err == nil {
			b, err = json.Marshal(keptPortrait{k.workload, k.digest, b})
		}
		if err == nil {
			err = renameio.WriteFile(p.file(k), b, 0o600)
		}
		errs = append(errs, err)
		p.prune(k.workload)
	}
	return errors.Join(errs...)
}

func (p *portraits) prune(workload string) {
	files, _ := filepath.Glob(filepath.Join(p.dir, shortHash(workload)+"-*.json"))
	slices.SortFunc(files, func(a, b string) int { return changed(b).Compare(changed(a)) })
	for _, old := range files[min(len(files), keepDigests):] {
		_ = os.Remove(old)
	}
}

func changed(file string) time.Time {
	info, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// digests are the images of which there are portraits of a workload.
func (p *portraits) digests(workload string) (list []string) {
	files, _ := filepath.Glob(filepath.Join(p.dir, shortHash(workload)+"-*.json"))
	for _, f := range files {
		var k keptPortrait
		if b, err := os.ReadFile(f); err == nil && json.Unmarshal(b, &k) == nil && k.Workload == workload {
			list = append(list, k.Digest)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.all {
		if k.workload == workload && !slices.Contains(list, k.digest) {
			list = append(list, k.digest)
		}
	}
	slices.Sort(list)
	return list
}

// portrait gives a policy the portrait of a container's image. A new image's is learned in every mode.
func (w *Web) portrait(c bulkhead.Container, policy *intercept.Policy) {
	p, err := w.portraits.of(c.Workload.Name, c.Image.Digest)
	if err != nil {
		w.o.Log.Warn("a portrait is learned again", "workload", c.Workload.Name, "err", err)
	}
	policy.Portrait, policy.LearnFirst = p, grown
}

// Portrait returns what was learned of a workload: of one image, or of the one with most requests.
func (w *Web) Portrait(workload, digest string) (*pb.GetPortraitResponse, error) {
	digests := w.portraits.digests(workload)
	if digest != "" {
		digests = slices.DeleteFunc(digests, func(d string) bool { return !strings.HasPrefix(d, digest) && !strings.HasPrefix(d, "sha256:"+digest) })
	}
	best, most, at := (*portrait.Portrait)(nil), -1, ""
	for _, d := range digests {
		p, err := w.portraits.of(workload, d)
		if err != nil {
			return nil, err
		}
		if _, n := p.Learned(); n > most {
			best, most, at = p, n, d
		}
	}
	if best == nil {
		return nil, fmt.Errorf("nothing was learned of the requests of %s here: `bulkhead waf mode %s learn` begins", workload, workload)
	}
	out := &pb.GetPortraitResponse{Workload: workload, Digest: at, Digests: w.portraits.digests(workload)}
	var err error
	if out.Json, err = best.Write(); err == nil {
		out.Openapi, err = best.OpenAPI(workload)
	}
	return out, err
}
