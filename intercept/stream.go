package intercept

import (
	"io"
	"sync"
)

const (
	maxAhead = 64 << 10  // bytes of one connection that came before what they follow
	maxQueue = 512 << 10 // bytes that wait to be judged; a stream whose reader is behind by more is given up
)

// stream is one direction of a connection, put together from the packets that were seen. What is sent twice counts once,
// as it came first. A hole that is not filled ends it.
type stream struct {
	lock   sync.Mutex
	more   *sync.Cond
	next   uint32 // the sequence number that follows what is in queue
	ahead  []segment
	held   int // bytes in ahead
	queue  []byte
	ended  bool
	broken bool // something of it was lost
}

type segment struct {
	seq  uint32
	data []byte
	fin  bool
}

// newStream begins behind a SYN with that number.
func newStream(syn uint32) *stream {
	s := &stream{next: syn + 1}
	s.more = sync.NewCond(&s.lock)
	return s
}

// put takes a segment; data is not kept.
func (s *stream) put(seq uint32, data []byte, fin bool) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.ended || len(data) == 0 && !fin {
		return
	}
	if int32(seq-s.next) > 0 {
		s.keep(seq, data, fin)
		return
	}
	s.take(seq, data, fin)
	for progress := true; progress && !s.ended; {
		progress = false
		for i, a := range s.ahead {
			if int32(a.seq-s.next) <= 0 {
				s.ahead = append(s.ahead[:i], s.ahead[i+1:]...)
				s.held -= len(a.data)
				s.take(a.seq, a.data, a.fin)
				progress = true
				break
			}
		}
	}
	s.more.Signal()
}

// take adds what of a segment was not there before.
func (s *stream) take(seq uint32, data []byte, fin bool) {
	known := s.next - seq
	if int64(known) > int64(len(data)) {
		return // all of it, and its end
	}
	fresh := data[known:]
	if len(s.queue)+len(fresh) > maxQueue {
		s.lose()
		return
	}
	s.queue = append(s.queue, fresh...)
	s.next += uint32(len(fresh)) //nolint:gosec // of one packet
	s.ended = s.ended || fin
}

func (s *stream) keep(seq uint32, data []byte, fin bool) {
	if s.held+len(data) > maxAhead || len(s.ahead) >= 64 {
		s.lose()
		return
	}
	s.ahead = append(s.ahead, segment{seq, append([]byte{}, data...), fin})
	s.held += len(data)
}

func (s *stream) lose() {
	s.broken, s.ended, s.ahead, s.queue = true, true, nil, nil
	s.more.Signal()
}

// end is for a reset, or a connection that is forgotten.
func (s *stream) end() {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.ended = true
	s.more.Signal()
}

// lost says whether something of it was never seen.
func (s *stream) lost() bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.broken
}

// Read waits for what comes next.
func (s *stream) Read(to []byte) (int, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for len(s.queue) == 0 {
		if s.ended {
			return 0, io.EOF
		}
		s.more.Wait()
	}
	n := copy(to, s.queue)
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	}
	return n, nil
}
