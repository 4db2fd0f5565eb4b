package intercept

import (
	"bufio"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"bulkhead/bpf"
)

// tapTLS puts the plain text together that programs of a namespace read through OpenSSL.
type tapTLS struct {
	namespace uint64
	reads     *bpf.TLSReads
	log       *slog.Logger
	watch     func(*stream, string)
	done      sync.WaitGroup
	stop      chan struct{}
	missed    atomic.Uint64
	conns     map[tlsKey]*tlsConn // of the reading goroutine alone
}

type tlsKey struct {
	process uint32
	ssl     uint64
}

type tlsConn struct {
	*stream
	at   uint32 // the next byte's number
	seen time.Time
}

// lookAgain is how often it is looked for programs that use the library: they may start later than their container.
const lookAgain = 3 * time.Second

func newTapTLS(namespace uint64, log *slog.Logger, watch func(*stream, string)) (*tapTLS, error) {
	reads, err := bpf.ReadTLS(uint32(namespace)) //nolint:gosec // the kernel numbers namespaces in 32 bits
	if err != nil {
		return nil, err
	}
	t := &tapTLS{namespace: namespace, reads: reads, log: log, watch: watch, stop: make(chan struct{}), conns: map[tlsKey]*tlsConn{}}
	t.probe()
	t.done.Go(t.look)
	t.done.Go(t.read)
	return t, nil
}

func (t *tapTLS) look() {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
			t.probe()
		}
	}
}

// probe finds the libraries that processes of the namespace have mapped.
func (t *tapTLS) probe() {
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range processes {
		var st syscall.Stat_t
		if syscall.Stat(dir+"/ns/net", &st) != nil || st.Ino != t.namespace {
			continue
		}
		for _, lib := range mappedTLS(dir) {
			var file syscall.Stat_t
			path := dir + "/root" + lib
			if syscall.Stat(path, &file) != nil {
				continue
			}
			if err := t.reads.Probe(path, fmt.Sprint(file.Dev, file.Ino)); err != nil {
				t.log.Warn("TLS of a library is not seen", "file", lib, "error", err)
			}
		}
	}
}

// mappedTLS are the OpenSSL libraries that a process has mapped to run.
func mappedTLS(dir string) (list []string) {
	f, err := os.Open(dir + "/maps")
	if err != nil {
		return nil
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 6 && strings.Contains(fields[1], "x") && strings.HasPrefix(filepath.Base(fields[5]), "libssl.so") {
			list = append(list, fields[5])
		}
	}
	return list
}

func (t *tapTLS) read() {
	defer func() {
		for _, c := range t.conns {
			c.end()
		}
	}()
	for {
		p, err := t.reads.Next()
		if err != nil {
			return // closed
		}
		t.piece(p)
	}
}

func (t *tapTLS) piece(p bpf.TLSPiece) {
	k := tlsKey{p.Process, p.SSL}
	c := t.conns[k]
	switch {
	case p.Size == 0:
		if c != nil {
			c.end()
			delete(t.conns, k)
		}
		return
	case c == nil && p.At != 0:
		return // its beginning was lost
	case c == nil:
		if c = t.begin(k, p.From); c == nil {
			return
		}
	}
	c.seen = time.Now()
	if len(p.Data) == 0 || uint32(len(p.Data)) < min(p.Size-p.At, 4096) { //nolint:gosec // one page
		c.lock.Lock()
		c.lose()
		c.lock.Unlock()
		return
	}
	c.put(c.at, p.Data, false)
	c.at += uint32(len(p.Data)) //nolint:gosec // one page
}

// begin watches a connection from its first read on; one that was read before is not known from one that begins.
func (t *tapTLS) begin(k tlsKey, from netip.AddrPort) *tlsConn {
	if len(t.conns) >= tapConns {
		t.forgetOldest()
	}
	c := &tlsConn{stream: newStream(0), at: 1, seen: time.Now()}
	t.conns[k] = c
	client := "unknown:0"
	if from.IsValid() {
		client = from.String()
	}
	t.done.Go(func() {
		t.watch(c.stream, client)
		if c.lost() {
			t.missed.Add(1)
		}
	})
	return c
}

func (t *tapTLS) forgetOldest() {
	var oldest tlsKey
	var at time.Time
	for k, c := range t.conns {
		if at.IsZero() || c.seen.Before(at) {
			oldest, at = k, c.seen
		}
	}
	t.conns[oldest].end()
	delete(t.conns, oldest)
}

func (t *tapTLS) close() error {
	close(t.stop)
	err := t.reads.Close()
	t.done.Wait()
	return err
}
