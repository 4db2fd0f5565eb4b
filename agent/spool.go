package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/renameio/v2"

	"bulkhead"
)

const (
	spoolBytes   = 64 << 20 // on disk: some 50,000 alerts, hours of a bad day with the control plane away
	segmentBytes = 4 << 20  // of one file; a whole one is dropped at a time
	batchAlerts  = 200
)

// spool keeps alerts on disk until the control plane has them: files of one JSON line an alert, named by
// number, and one with how far was delivered. When it is full the oldest file is dropped and counted.
type spool struct {
	dir   string
	limit int64

	mu      sync.Mutex
	out     *os.File
	written int64
	dropped uint64
	pending uint64
	fresh   chan struct{}
}

// position is how far was delivered.
type position struct {
	Segment int   `json:"segment"`
	Offset  int64 `json:"offset"`
}

func openSpool(dir string, limit int64) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the alert spool: %w", err)
	}
	s := &spool{dir: dir, limit: limit, fresh: make(chan struct{}, 1)}
	err := s.rotate()                                                                    // on a full disk the next alert tries again
	if list := s.segments(); len(list) > 0 && s.position().Segment > list[len(list)-1] { // nothing that is still to come was delivered
		_ = os.Remove(filepath.Join(dir, "delivered.json"))
	}
	s.pending = s.countPending()
	s.poke()
	return s, err
}

func (s *spool) segments() []int {
	files, _ := filepath.Glob(filepath.Join(s.dir, "*.alerts"))
	var list []int
	for _, f := range files {
		if n, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(f), ".alerts")); err == nil {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

func (s *spool) path(segment int) string {
	return filepath.Join(s.dir, fmt.Sprintf("%09d.alerts", segment))
}

// rotate begins a new file, and drops the oldest while all are too large. A file is never written to again by
// a later process: its last line may be torn.
func (s *spool) rotate() error {
	list := s.segments()
	next := 1
	if len(list) > 0 {
		next = list[len(list)-1] + 1
	}
	if err := s.makeRoom(list); err != nil {
		return err
	}
	out, err := os.OpenFile(s.path(next), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("beginning a spool file: %w; free room in %s", err, s.dir)
	}
	if s.out != nil {
		_ = s.out.Close()
	}
	s.out, s.written = out, 0
	return nil
}

// makeRoom drops the oldest files until a new one fits in. What of them was not delivered is counted.
func (s *spool) makeRoom(list []int) error {
	var total int64
	for _, segment := range list {
		total += sizeOf(s.path(segment))
	}
	p := s.position()
	for ; len(list) > 0 && total+segmentBytes > s.limit; list = list[1:] {
		path := s.path(list[0])
		waiting := p.waiting(list[0], path)
		total -= sizeOf(path)
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("making room in the alert spool: %w", err)
		}
		s.dropped += waiting
		s.pending -= min(s.pending, waiting)
	}
	return nil
}

func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// waiting counts the alerts of a file that were not delivered.
func (p position) waiting(segment int, path string) uint64 {
	if segment < p.Segment {
		return 0
	}
	b, _ := os.ReadFile(path)
	if segment == p.Segment {
		b = b[min(p.Offset, int64(len(b))):]
	}
	return uint64(bytes.Count(b, []byte("\n")))
}

// put writes one alert; once it returns nil the alert survives the end of this process.
func (s *spool) put(a bulkhead.Alert) error {
	line, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("writing an alert: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil || s.written > segmentBytes {
		if err := s.rotate(); err != nil {
			s.dropped++
			return err
		}
	}
	n, err := s.out.Write(append(line, '\n'))
	s.written += int64(n)
	if err != nil {
		s.dropped++
		_ = s.rotate() // what was half-written ends with its file
		return fmt.Errorf("writing an alert to the spool: %w; free room in %s", err, s.dir)
	}
	s.pending++
	s.poke()
	return nil
}

func (s *spool) poke() {
	select {
	case s.fresh <- struct{}{}:
	default:
	}
}

func (s *spool) position() position {
	var p position
	b, _ := os.ReadFile(filepath.Join(s.dir, "delivered.json"))
	if json.Unmarshal(b, &p) != nil || p.Offset < 0 {
		return position{} // delivered once more: the control plane knows the alerts by their ids
	}
	return p
}

// next reads what was not delivered yet, at most a batch. The position is to be given to done.
func (s *spool) next() ([]bulkhead.Alert, position, error) {
	s.mu.Lock()
	current := ""
	if s.out != nil {
		current = s.out.Name()
	}
	s.mu.Unlock()
	p := s.position()
	for _, segment := range s.segments() {
		if segment < p.Segment {
			_ = os.Remove(s.path(segment))
			continue
		}
		if segment > p.Segment {
			p = position{Segment: segment}
		}
		list, end, err := s.read(p)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, p, err
		}
		if len(list) > 0 {
			return list, position{segment, end}, nil
		}
		if s.path(segment) != current {
			_ = os.Remove(s.path(segment))
		}
	}
	return nil, p, nil
}

// read takes whole lines from a position. A line that is no alert is passed over.
func (s *spool) read(p position) ([]bulkhead.Alert, int64, error) {
	f, err := os.Open(s.path(p.Segment))
	if err != nil {
		return nil, p.Offset, err
	}
	defer f.Close()
	if _, err := f.Seek(p.Offset, io.SeekStart); err != nil {
		return nil, p.Offset, err
	}
	var list []bulkhead.Alert
	lines := bufio.NewReader(f)
	end := p.Offset
	for len(list) < batchAlerts {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break // the end, or a torn line
		}
		end += int64(len(line))
		var a bulkhead.Alert
		if json.Unmarshal(line, &a) == nil {
			list = append(list, a)
		}
	}
	return list, end, nil
}

// done says that everything up to a position was delivered.
func (s *spool) done(p position, n int) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.pending -= min(s.pending, uint64(n))
	s.mu.Unlock()
	return renameio.WriteFile(filepath.Join(s.dir, "delivered.json"), b, 0o600)
}

func (s *spool) countPending() uint64 {
	p := s.position()
	var n uint64
	for _, segment := range s.segments() {
		n += p.waiting(segment, s.path(segment))
	}
	return n
}

// stats counts alerts that wait and that were dropped.
func (s *spool) stats() (pending, dropped uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending, s.dropped
}

func (s *spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out != nil {
		_ = s.out.Close()
	}
}
