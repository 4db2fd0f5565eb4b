package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
)

// TLSReads hands out what programs of one network namespace read of TLS connections, as their library gives it to them.
type TLSReads struct {
	objects tlsObjects
	links   []link.Link
	ring    *ringbuf.Reader
	files   map[string]bool // probed
}

// TLSPiece is a part of one read.
type TLSPiece struct {
	Process uint32
	SSL     uint64 // the library's name of the connection
	Size    uint32 // of all pieces of this read; 0: the connection is over
	At      uint32 // where in the read it begins
	From    netip.AddrPort
	Data    []byte // valid until the next call
}

// ReadTLS begins with no library: [TLSReads.Probe] adds them.
func ReadTLS(namespace uint32) (*TLSReads, error) {
	spec, err := loadTls()
	if err != nil {
		return nil, fmt.Errorf("loading the programs that read TLS: %w", err)
	}
	if err := spec.Variables["tls_namespace"].Set(namespace); err != nil {
		return nil, fmt.Errorf("loading the programs that read TLS: %w", err)
	}
	t := &TLSReads{files: map[string]bool{}}
	if err := spec.LoadAndAssign(&t.objects, nil); err != nil {
		return nil, fmt.Errorf("loading the programs that read TLS: %w", err)
	}
	if t.ring, err = ringbuf.NewReader(t.objects.TlsPieces); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	peer, err := link.AttachTracing(link.TracingOptions{Program: t.objects.TlsPeer})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attaching the program that knows whom TLS is read from: %w", err), t.Close())
	}
	t.links = append(t.links, peer)
	return t, nil
}

// Probe looks into a file of OpenSSL's library, or a program that it is linked into. A file is probed once; id tells files
// apart.
func (t *TLSReads) Probe(file, id string) error {
	if t.files[id] {
		return nil
	}
	t.files[id] = true
	x, err := link.OpenExecutable(file)
	if err != nil {
		return fmt.Errorf("probing %s: %w", file, err)
	}
	var links []link.Link
	for _, p := range []struct {
		symbol  string
		program *ebpf.Program
		after   bool
		must    bool
	}{
		{"SSL_read", t.objects.TlsRead, false, true},
		{"SSL_read", t.objects.TlsReadDone, true, true},
		{"SSL_read_ex", t.objects.TlsReadEx, false, false},
		{"SSL_read_ex", t.objects.TlsReadExDone, true, false}, // not in BoringSSL
		{"SSL_free", t.objects.TlsFree, false, true},
	} {
		attach := x.Uprobe
		if p.after {
			attach = x.Uretprobe
		}
		l, err := attach(p.symbol, p.program, nil)
		if err != nil && !p.must {
			continue
		}
		if err != nil {
			for _, l := range links {
				_ = l.Close()
			}
			return fmt.Errorf("probing %s of %s: %w", p.symbol, file, err)
		}
		links = append(links, l)
	}
	t.links = append(t.links, links...)
	return nil
}

const tlsHead = 8 + 4*4 + 24 // of struct piece, before its data

// Next waits for a piece; an error is the end.
func (t *TLSReads) Next() (TLSPiece, error) {
	for {
		record, err := t.ring.Read()
		if err != nil {
			return TLSPiece{}, err
		}
		b := record.RawSample
		if len(b) < tlsHead {
			continue
		}
		n := binary.NativeEndian
		p := TLSPiece{SSL: n.Uint64(b), Process: n.Uint32(b[8:]), Size: n.Uint32(b[12:]), At: n.Uint32(b[16:])}
		here := min(int(n.Uint32(b[20:])), len(b)-tlsHead)
		var words [4]uint32
		for i := range words {
			words[i] = n.Uint32(b[24+4*i:])
		}
		if family := n.Uint32(b[44:]); family != 0 && p.Size > 0 {
			p.From = addressOf(family, words, n.Uint32(b[40:]))
		}
		p.Data = b[tlsHead : tlsHead+here]
		return p, nil
	}
}

// Missed is how many pieces found no room.
func (t *TLSReads) Missed() (n uint64) {
	_ = t.objects.TlsMissed.Lookup(uint32(0), &n) // none then
	return n
}

// Close takes the probes away.
func (t *TLSReads) Close() error {
	var errs []error
	for _, l := range t.links {
		errs = append(errs, l.Close())
	}
	if t.ring != nil {
		errs = append(errs, t.ring.Close())
	}
	return errors.Join(append(errs, t.objects.Close())...)
}
