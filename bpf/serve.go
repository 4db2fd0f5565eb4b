package bpf

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf/link"
)

// Serving knows which connections of the layer-7 firewall threads read from.
type Serving struct {
	objects servingObjects
	links   []link.Link
}

// Read is one connection that a thread read from, as the application sees it.
type Read struct {
	From netip.AddrPort
	Time uint64 // nanoseconds since boot
}

// Serve begins to remember what threads read from. It costs every fork of the host a look into a map.
func Serve() (*Serving, error) {
	s := &Serving{}
	if err := loadServingObjects(&s.objects, nil); err != nil {
		return nil, fmt.Errorf("loading the programs that tell what threads serve: %w", err)
	}
	for _, o := range []link.TracingOptions{{Program: s.objects.ServeRead}, {Program: s.objects.ServeFork}} {
		l, err := link.AttachTracing(o)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attaching the programs that tell what threads serve: %w", err), s.Close())
		}
		s.links = append(s.links, l)
	}
	return s, nil
}

// Reads are the last connections that a thread read from, or the one that started it, the newest first.
func (s *Serving) Reads(tid int) []Read {
	var raw servingReads
	if s.objects.ServeReads.Lookup(uint32(tid), &raw) != nil {
		return nil
	}
	var list []Read
	for _, r := range raw.Last {
		if r.Time != 0 {
			list = append(list, Read{addressOf(r.Family, r.Addr, r.Port), r.Time})
		}
	}
	slices.SortFunc(list, func(a, b Read) int { return cmp.Compare(b.Time, a.Time) })
	return list
}

// addressOf reads an address as the kernel has it.
func addressOf(family uint32, words [4]uint32, port uint32) netip.AddrPort {
	var b [16]byte
	for i, w := range words {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	var p [2]byte
	binary.NativeEndian.PutUint16(p[:], uint16(port)) //nolint:gosec // 16 bits of the kernel's
	at := binary.BigEndian.Uint16(p[:])
	if family == 2 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), at)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(b).Unmap(), at)
}

// Close forgets all.
func (s *Serving) Close() error {
	var errs []error
	for _, l := range s.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, s.objects.Close())...)
}
