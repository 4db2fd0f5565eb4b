package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"bulkhead"
	"bulkhead/profile"
	"bulkhead/rule"
	"bulkhead/sign"
)

// attested tells admission what trusted signers say of an image: what a scan of it found, how it behaves.
type attested struct {
	images  *sign.Verifier
	seccomp bool // nodes have the learned profiles as files
	scans   memo[rule.Scan]
	files   memo[string]
}

func newAttested(v *sign.Verifier, seccomp bool) *attested {
	return &attested{images: v, seccomp: seccomp, scans: memo[rule.Scan]{by: map[string]kept[rule.Scan]{}}, files: memo[string]{by: map[string]kept[string]{}}}
}

// Scan is the newest scan that a signer of the image's policies attested.
func (a *attested) Scan(ctx context.Context, reference string) (rule.Scan, error) {
	return lookup(ctx, a, &a.scans, "scan", reference, func(raw []byte) (rule.Scan, error) { return readScan(raw, time.Now()) })
}

// Seccomp is the file of the profile that is signed onto the image, as agents write it. One that is not complete
// enough to block by is not used.
func (a *attested) Seccomp(ctx context.Context, _, _, reference string) string {
	if !a.seccomp {
		return ""
	}
	name, err := lookup(ctx, a, &a.files, "profile", reference, func(raw []byte) (string, error) {
		p, err := profile.Read(bytes.NewReader(raw), reference)
		if err != nil || profile.Gate(p) != nil {
			return "", nil
		}
		sum := sha256.Sum256(raw)
		return "bulkhead/" + hex.EncodeToString(sum[:16]) + ".json", nil
	})
	if err != nil {
		return "" // the review that follows says what is wrong with the image
	}
	return name
}

// lookup reads a document about an image, and keeps what was read of it for as long as a verdict is kept: two hundred
// pods of one image are one document.
func lookup[T any](ctx context.Context, a *attested, m *memo[T], kind, reference string, read func([]byte) (T, error)) (v T, err error) {
	r, err := a.images.Verify(ctx, reference)
	if err != nil || r.Digest == "" {
		return v, err
	}
	key := r.Pinned()
	if v, ok := m.get(key); ok {
		return v, nil
	}
	got, err, _ := m.flights.Do(key, func() (any, error) {
		raw, _, err := a.images.Attested(context.WithoutCancel(ctx), key, kind) // bounds its time itself
		if err == nil && raw != nil {
			v, err = read(raw)
		}
		if err != nil {
			return v, fmt.Errorf("reading the %s of %s: %w", kind, key, err)
		}
		m.put(key, v)
		return v, nil
	})
	return got.(T), err
}

// memo keeps what was read for half a minute.
type memo[T any] struct {
	mutex   sync.Mutex
	by      map[string]kept[T]
	flights singleflight.Group
}

type kept[T any] struct {
	value T
	at    time.Time
}

const (
	memoTime = 30 * time.Second
	maxMemo  = 10_000
)

func (m *memo[T]) get(key string) (T, bool) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	k, ok := m.by[key]
	return k.value, ok && time.Since(k.at) < memoTime
}

func (m *memo[T]) put(key string, v T) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if len(m.by) >= maxMemo {
		clear(m.by)
	}
	m.by[key] = kept[T]{v, time.Now()}
}

// readScan counts what an attested scan found. Documents of other scanners have no report of ours, and say no more than
// that there was one.
func readScan(raw []byte, now time.Time) (rule.Scan, error) {
	var d struct {
		Scanner struct {
			Result *bulkhead.Report `json:"result"`
		} `json:"scanner"`
		Metadata struct {
			Finished time.Time `json:"scanFinishedOn"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return rule.Scan{}, err
	}
	s := rule.Scan{Known: !d.Metadata.Finished.IsZero(), AgeHours: now.Sub(d.Metadata.Finished).Hours()}
	if d.Scanner.Result == nil {
		return s, nil
	}
	for _, v := range d.Scanner.Result.Vulnerabilities {
		count := map[bulkhead.Severity]*int{bulkhead.Critical: &s.Critical, bulkhead.High: &s.High, bulkhead.Medium: &s.Medium, bulkhead.Low: &s.Low}[v.Severity]
		if count != nil {
			*count++
		}
		if v.Severity.Rank() >= bulkhead.High.Rank() && v.Fixed != "" {
			s.Fixable++
		}
		if v.KEV {
			s.KEV++
		}
	}
	for _, f := range d.Scanner.Result.Findings {
		switch f.Kind {
		case "malware", "webshell":
			s.Malware++
		case "secret":
			s.Secrets++
		}
	}
	return s, nil
}
