package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/api"
	"bulkhead/image"
	"bulkhead/store"
)

// Why an image is scanned.
const (
	reasonAsked    = "asked"    // by a person or a program
	reasonPushed   = "pushed"   // its registry said so
	reasonSchedule = "schedule" // its repository is watched
	reasonRunning  = "running"  // a workload runs it
	reasonHarbor   = "harbor"   // Harbor asked for a report
)

const (
	// maxQueue bounds what waits: a registry with some thousand tags that is watched for the first time.
	maxQueue = 10_000
	// scanTime bounds one scan.
	scanTime = 30 * time.Minute
	// knownFor is how long what was found in an image holds, when nobody asks for it anew: its content cannot change,
	// but the analyzers learn. Packages are looked up again whenever the database changes anyway.
	knownFor = 7 * 24 * time.Hour
	// idle is how long a worker waits when nobody tells it that there is something to do.
	idle = 30 * time.Second
)

// queue wakes the workers, and holds what must not be stored.
type queue struct {
	wake chan struct{}

	mu      sync.Mutex
	secrets map[string]harborPull // of scans that Harbor asked for, by id
}

func newQueue() *queue {
	return &queue{wake: make(chan struct{}, maxWorkers), secrets: map[string]harborPull{}}
}

// harborPull is how an image is pulled with what Harbor passed on.
type harborPull struct {
	authorization string
	plain         string // its registry, where it has no TLS
}

func (q *queue) hold(id string, p harborPull) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.secrets[id] = p
}

func (q *queue) forget(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.secrets, id)
}

func (q *queue) secret(id string) (harborPull, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p, ok := q.secrets[id]
	return p, ok
}

func (q *queue) ring() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// enqueue asks for a scan; one that waits or runs already is answered in its place.
func (s *Server) enqueue(ctx context.Context, name image.Name, reason, by string) (store.Scan, error) {
	wanted := store.Scan{
		ID: rand.Text(), Subject: name.String() + "@" + name.Digest, Reference: name.String(), Target: name.Pinned(),
		Reason: reason, By: by, Created: time.Now(),
	}
	return s.enqueueScan(ctx, wanted)
}

func (s *Server) enqueueScan(ctx context.Context, wanted store.Scan) (store.Scan, error) {
	got, err := s.db.Enqueue(ctx, wanted, maxQueue)
	if err == nil {
		s.queue.ring()
	}
	return got, err
}

// scanImages takes one scan after the other.
func (s *Server) scanImages() {
	for s.running.Err() == nil {
		next, err := s.db.Take(s.running)
		switch {
		case err == nil:
			s.scanOne(next)
			continue
		case !errors.Is(err, store.ErrNotFound) && s.running.Err() == nil:
			s.log.Error("the queue of scans cannot be read", "err", err)
		}
		select {
		case <-s.running.Done():
		case <-s.queue.wake:
		case <-time.After(idle):
		}
	}
}

// scanOne says what became of a scan. One that the end of the control plane interrupts stays as it is, and is taken up
// at the next start.
func (s *Server) scanOne(next store.Scan) {
	defer s.queue.forget(next.ID)
	ctx, cancel := context.WithTimeout(s.running, scanTime)
	defer cancel()
	digest, err := s.scanSafely(ctx, next)
	if s.running.Err() != nil {
		return
	}
	next.State, next.Digest, next.Ended = store.ScanDone, digest, time.Now()
	if err != nil {
		next.State, next.Error = store.ScanFailed, api.Text(err.Error())
		s.log.Warn("an image was not scanned", "image", next.Reference, "reason", next.Reason, "err", err)
	}
	if err := s.db.Finish(s.running, next); err != nil && s.running.Err() == nil {
		s.log.Error("the end of a scan was not stored", "image", next.Reference, "err", err)
	}
}

// scanSafely keeps an image that breaks the scanner from taking the control plane with it.
func (s *Server) scanSafely(ctx context.Context, next store.Scan) (digest string, err error) {
	defer func() {
		if broken := recover(); broken != nil {
			err = fmt.Errorf("this image broke the scanner: %v; please report it", broken)
		}
	}()
	return s.scanTarget(ctx, next)
}

func (s *Server) scanTarget(ctx context.Context, next store.Scan) (digest string, err error) {
	img, err := s.open(ctx, next)
	if err != nil {
		return "", err
	}
	defer func() { _ = img.Close() }() // was only read
	known, err := s.isKnown(ctx, next, img.Digest)
	if err != nil {
		return img.Digest, err
	}
	if !known {
		if err := s.look(ctx, img, next); err != nil {
			return img.Digest, err
		}
	}
	return img.Digest, s.name(ctx, next, img.Digest)
}

// open pulls with what Harbor passed on, where it asked for the scan. That is in memory alone: of a scan that waited
// while the control plane was started again, an image that everybody may pull is scanned all the same.
func (s *Server) open(ctx context.Context, next store.Scan) (*image.Image, error) {
	o := s.images.registry()
	pull, kept := s.queue.secret(next.ID)
	if next.Reason == reasonHarbor {
		o.Credentials, o.Authorization = nobody, pull.authorization
	}
	if pull.plain != "" {
		o.PlainHTTP = append(cloned(o.PlainHTTP), pull.plain)
	}
	img, err := image.Open(ctx, "registry:"+next.Target, o)
	if err != nil && next.Reason == reasonHarbor && !kept {
		err = fmt.Errorf("%w; the control plane was started again since, and keeps no credentials of Harbor: scan again", err)
	}
	return img, err
}

// nobody has no credentials: our own are not for whoever has Harbor's token.
func nobody(context.Context, string) (user, password string, err error) { return "", "", nil }

// name lists an image under its name. A workload may run an older image than the one that its tag names today: that
// one is listed under its digest.
func (s *Server) name(ctx context.Context, next store.Scan, digest string) error {
	name, err := image.ParseName(next.Reference)
	if err != nil {
		return err
	}
	if next.Reason == reasonRunning && name.Tag != "" {
		page, err := s.db.Images(ctx, store.ImageFilter{Reference: next.Reference, Limit: 1})
		if err != nil {
			return err
		}
		if len(page.Images) > 0 && page.Images[0].Digest != digest {
			name.Tag, name.Digest = "", digest
		}
	}
	return s.db.NameImage(ctx, name.String(), name.Repository, digest, time.Now())
}

// isKnown reports whether a digest needs no look: it was scanned, and nobody insists.
func (s *Server) isKnown(ctx context.Context, next store.Scan, digest string) (bool, error) {
	at, err := s.db.HasReport(ctx, digest)
	return next.Reason != reasonAsked && time.Since(at) < knownFor, err
}

func (s *Server) look(ctx context.Context, img *image.Image, next store.Scan) error {
	e, done, err := s.engines.use()
	if err != nil {
		return err
	}
	defer done()
	report, err := e.Scan(ctx, img)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	report.Target = next.Reference
	// What was found until the time was over is kept too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	s.saving.Lock()
	defer s.saving.Unlock()
	old, err := s.earlier(ctx, report.Digest)
	if err != nil {
		return err
	}
	return s.keep(ctx, e, report, store.ImageReport{}, old)
}

// earlier is the report of the same digest that is replaced; nil where there is none.
func (s *Server) earlier(ctx context.Context, digest string) (*bulkhead.Report, error) {
	_, old, err := s.db.Report(ctx, digest)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return &old, err
}

// runningAgain is how long after a scan that failed the same running image is tried again: its registry may be one
// that cannot be reached from here.
const runningAgain = 12 * time.Hour

// scanRunning queues the images of workloads, each digest once.
func (s *Server) scanRunning() {
	for tick := time.NewTicker(s.images.LookRun); ; {
		select {
		case <-s.running.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		if err := s.queueRunning(s.running); err != nil && s.running.Err() == nil {
			s.log.Error("the images of workloads were not queued", "err", err)
		}
	}
}

func (s *Server) queueRunning(ctx context.Context) error {
	running, err := s.workloadImages(ctx)
	if err != nil {
		return err
	}
	for key := range running {
		if err := s.queueOneRunning(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) queueOneRunning(ctx context.Context, r runningImage) error {
	name, err := image.ParseName(r.reference)
	if err != nil || !isDigest(r.digest) {
		return nil // an id of an image that no registry has
	}
	name.Digest = r.digest
	if at, err := s.db.HasReport(ctx, r.digest); err != nil || !at.IsZero() {
		return err
	}
	last, err := s.db.LastScan(ctx, name.String()+"@"+name.Digest)
	if err == nil && (!last.Over() || time.Since(last.Ended) < runningAgain) {
		return nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	_, err = s.enqueue(ctx, name, reasonRunning, "")
	if errors.Is(err, store.ErrQueue) {
		return nil // there is a next time
	}
	return err
}

func isDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

// runningImage is what a workload runs.
type runningImage struct{ reference, digest string }

// workloadImages are the images of workloads, with who runs them.
func (s *Server) workloadImages(ctx context.Context) (map[runningImage][]store.Workload, error) {
	reports, err := s.db.Workloads(ctx)
	if err != nil {
		return nil, err
	}
	out := map[runningImage][]store.Workload{}
	for _, w := range reports {
		m := workloadOf(w)
		if m.GetImage() == "" && m.GetDigest() == "" {
			continue
		}
		key := runningImage{cmp.Or(m.GetImage(), m.GetDigest()), m.GetDigest()}
		out[key] = append(out[key], w)
	}
	return out, nil
}
