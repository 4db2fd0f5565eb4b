package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// SteerOptions say which connections of a network namespace go to a proxy.
type SteerOptions struct {
	Namespace int      // a descriptor of it
	Listeners [2]int   // descriptors of the proxy's listeners in it: IPv4, IPv6 (0: none). No MPTCP
	Ports     []uint16 // the application's
	Closed    bool     // without the proxy nobody gets through, instead of everybody
	Pin       string   // with Closed: a file on a BPF file system that keeps the program when the proxy dies
}

// Steering is a proxy's hold on the new connections of one namespace.
type Steering struct {
	objects steeringObjects
	link    link.Link
	pin     string
	closed  uint64
}

// Steer begins at once; connections that exist are kept as they are.
func Steer(o SteerOptions) (*Steering, error) {
	s := &Steering{pin: o.Pin}
	if o.Closed {
		s.closed = 1
	}
	if err := loadSteeringObjects(&s.objects, nil); err != nil {
		return nil, fmt.Errorf("loading the program that steers connections: %w", err)
	}
	if err := s.fill(o); err != nil {
		return nil, errors.Join(err, s.objects.Close())
	}
	l, err := link.AttachNetNs(o.Namespace, s.objects.Steer)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("steering connections of a network namespace: %w", err), s.objects.Close())
	}
	s.link = l
	if o.Closed && o.Pin != "" {
		if err := s.keep(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func (s *Steering) fill(o SteerOptions) error {
	if err := s.Beat(); err != nil {
		return err
	}
	for i, fd := range o.Listeners {
		if fd == 0 {
			continue
		}
		if err := s.objects.SteerListeners.Put(uint32(i), uint64(fd)); err != nil {
			return fmt.Errorf("naming the proxy's listener: %w", err)
		}
	}
	for _, port := range o.Ports {
		if err := s.objects.SteerPorts.Put(uint32(port), uint8(1)); err != nil {
			return fmt.Errorf("steering port %d: %w", port, err)
		}
	}
	return nil
}

// keep pins the link in the place of one that an earlier proxy left.
func (s *Steering) keep() error {
	if err := os.MkdirAll(filepath.Dir(s.pin), 0o700); err != nil {
		return fmt.Errorf("pinning what steers connections: %w", err)
	}
	if err := os.Remove(s.pin); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("taking over what steers connections: %w", err)
	}
	if err := s.link.Pin(s.pin); err != nil {
		return fmt.Errorf("pinning what steers connections: %w", err)
	}
	return nil
}

// Beat says that the proxy is alive. It is to be called ten times a second: after 240 ms without one connections go past
// the proxy, or nowhere.
func (s *Steering) Beat() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("reading the clock: %w", err)
	}
	return s.objects.SteerState.Put(uint32(0), [2]uint64{uint64(now.Nano()), s.closed})
}

// Own lets connections from an address and port of the proxy's through to the application.
func (s *Steering) Own(from netip.AddrPort) error {
	return s.objects.SteerOwn.Put(sourceOf(from), uint8(1))
}

// Disown takes that back, once a connection stands.
func (s *Steering) Disown(from netip.AddrPort) { _ = s.objects.SteerOwn.Delete(sourceOf(from)) }

// sourceOf is struct source of the program.
func sourceOf(from netip.AddrPort) (k [20]byte) {
	if a := from.Addr().Unmap(); a.Is4() {
		b := a.As4()
		copy(k[:], b[:])
	} else {
		b := a.As16()
		copy(k[:], b[:])
	}
	k[16], k[17] = byte(from.Port()>>8), byte(from.Port())
	return k
}

// Detach lets all new connections through again. The proxy may go on to dial for those that it has.
func (s *Steering) Detach() error {
	if s.pin != "" {
		_ = os.Remove(s.pin)
	}
	return s.link.Close()
}

// Close detaches, and forgets all.
func (s *Steering) Close() error { return errors.Join(s.Detach(), s.objects.Close()) }

// Leave ends as a proxy does that dies: what is pinned stays, and with it nobody gets through until the next comes.
func (s *Steering) Leave() error {
	if s.pin == "" {
		return s.Close()
	}
	return errors.Join(s.link.Close(), s.objects.Close())
}
