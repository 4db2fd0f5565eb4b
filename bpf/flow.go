package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// FlowRole is which side of an edge a container is.
type FlowRole uint8

// The roles.
const (
	FlowClient FlowRole = iota + 1 // it connects, or sends the first datagram
	FlowServer
)

// FlowKey names one edge of one container: who is at the other end, and the server's port.
type FlowKey struct {
	Cgroup   uint64
	Addr     [16]byte
	Port     uint16 // 0 where the protocol has none
	Protocol uint8  // IP's number
	Role     FlowRole
	_        uint32
}

// Peer is the address at the other end.
func (k FlowKey) Peer() netip.Addr { return netip.AddrFrom16(k.Addr).Unmap() }

// FlowCounts are what was seen of an edge since it was read last. Of pairs the first is out, the second in.
type FlowCounts struct {
	First, Last uint64    // nanoseconds since boot
	Bytes       [2]uint64 // with IP headers, without the second and third packet of a handshake
	Packets     [2]uint64
	Opened      uint64 // connections asked for, sockets that sent or got a first datagram
	Established uint64
	Refused     uint64
	Reset       uint64
	Resent      uint64 // TCP segments
	RTT         uint64 // sum of smoothed round-trip times in microseconds, of …
	RTTs        uint64
	Denied      uint64 // connections and datagrams that the policy in force cut …
	WouldDeny   uint64 // … and that the staged one would have
}

// Flow is an edge with its counts.
type Flow struct {
	FlowKey
	FlowCounts
}

// With is the flow with another at the other end. The port is the server's: a client sees another than the server that is
// behind an address which the host translates.
func (f Flow) With(peer netip.Addr, port uint16) Flow {
	f.Addr, f.Port = peer.As16(), port
	return f
}

// counts are all that add up.
func (c *FlowCounts) counts() []*uint64 {
	return []*uint64{
		&c.Bytes[0], &c.Bytes[1], &c.Packets[0], &c.Packets[1], &c.Opened, &c.Established, &c.Refused, &c.Reset, &c.Resent, &c.RTT, &c.RTTs, &c.Denied, &c.WouldDeny,
	}
}

// Part is n of whole parts of a flow.
func (f Flow) Part(n, whole uint64) Flow {
	for _, c := range f.counts() {
		*c = uint64(float64(*c) * float64(n) / float64(whole))
	}
	return f
}

// Take takes a part away.
func (f *Flow) Take(part Flow) {
	from := part.counts()
	for i, c := range f.counts() {
		*c -= min(*c, *from[i])
	}
}

// Give adds a part.
func (f *Flow) Give(part Flow) {
	from := part.counts()
	for i, c := range f.counts() {
		*c += *from[i]
	}
}

// HeadRoom is how much of a connection's first bytes is told, in each direction.
const HeadRoom = 512

// Head are the first bytes that one side of an edge sent, or an answer of a name server. They are an attacker's.
type Head struct {
	FlowKey
	Length   uint32
	Incoming uint32 // 1: the other side sent it
	Data     [HeadRoom]byte
}

// Bytes are those that were sent.
func (h *Head) Bytes() []byte { return h.Data[:min(h.Length, HeadRoom)] }

// CountFlows begins or stops to count the packets of all containers.
func (k *Kernel) CountFlows(on bool) error { return k.want(on, flows) }

// CountsFlows reports whether packets are seen, which counting and network policies need.
func (k *Kernel) CountsFlows() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.links["on_egress"] != nil && k.links["on_ingress"] != nil
}

// flowGrace is how long a program may still write to the table that it found at its beginning.
const flowGrace = 20 * time.Millisecond

// Flows takes what was counted since the last call. Programs write one of two tables while the other is read, so that
// nothing is counted twice or lost. It is for one caller at a time.
func (k *Kernel) Flows() ([]Flow, error) {
	var epoch uint32
	err := k.changeSettings(func(s *settings) { epoch = s.FlowEpoch & 1; s.FlowEpoch++ })
	if err != nil {
		return nil, err
	}
	time.Sleep(flowGrace)
	name := [...]string{"flows_even", "flows_odd"}[epoch]
	list, err := drain(k.coll.Maps[name])
	if err != nil {
		return list, fmt.Errorf("reading the flows: %w", err)
	}
	return list, nil
}

func drain(m *ebpf.Map) (list []Flow, err error) {
	const batch = 4096
	keys, values := make([]FlowKey, batch), make([]FlowCounts, batch)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookupAndDelete(&cursor, keys, values, nil)
		for i := range n {
			list = append(list, Flow{keys[i], values[i]})
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return list, nil
		}
		if err != nil {
			return list, err
		}
	}
}

// FlowsLost says how often a packet's edge found the table full, and how many heads found the ring full.
func (k *Kernel) FlowsLost() (edges, heads uint64) {
	m := k.coll.Maps["counters"]
	_ = m.Lookup(uint32(counterFlowsFull), &edges)
	_ = m.Lookup(uint32(counterHeadsLost), &heads)
	return edges, heads
}

// TurnRoom is how much of a turn is told.
const TurnRoom = 256

// Turn is the beginning of what one side of a connection says after the other has spoken: a request, or an answer. It is an attacker's.
type Turn struct {
	FlowKey
	Socket   uint64 // names the connection until the host starts again
	At       uint64 // nanoseconds since boot
	Length   uint32
	Incoming uint32 // 1: the other side said it
	Data     [TurnRoom]byte
}

// Bytes are those that were said.
func (t *Turn) Bytes() []byte { return t.Data[:min(t.Length, TurnRoom)] }

// ReadAlong says whether the turns of the container in a slot are told.
func (k *Kernel) ReadAlong(slot uint32, on bool) error {
	value := uint32(0)
	if on {
		value = 1
	}
	if err := k.coll.Maps["read_along"].Put(slot, value); err != nil {
		return fmt.Errorf("reading along with slot %d: %w", slot, err)
	}
	return nil
}

// TurnsLost says how many turns found the ring full.
func (k *Kernel) TurnsLost() (n uint64) {
	_ = k.coll.Maps["counters"].Lookup(uint32(counterTurnsLost), &n)
	return n
}

// Stream reads records of one kind from the kernel.
type Stream[T any] struct {
	ring   *ebpf.Map
	reader *ringbuf.Reader
}

// Heads begins to read the first bytes of edges. One reader at a time.
func (k *Kernel) Heads() (*Stream[Head], error) { return stream[Head](k, "heads") }

// Turns begins to read what [Kernel.ReadAlong] has told. One reader at a time.
func (k *Kernel) Turns() (*Stream[Turn], error) { return stream[Turn](k, "turns") }

func stream[T any](k *Kernel, name string) (*Stream[T], error) {
	ring, err := k.coll.Maps[name].Clone()
	if err != nil {
		return nil, err
	}
	r, err := ringbuf.NewReader(ring)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the ring of %s: %w", name, err), ring.Close())
	}
	return &Stream[T]{ring, r}, nil
}

// Next waits for the next; os.ErrClosed after Close.
func (s *Stream[T]) Next() (T, error) {
	var none T
	for {
		rec, err := s.reader.Read()
		if err != nil {
			return none, err
		}
		if len(rec.RawSample) >= int(unsafe.Sizeof(none)) {
			return *(*T)(unsafe.Pointer(&rec.RawSample[0])), nil
		}
	}
}

// Close ends a waiting Next.
func (s *Stream[T]) Close() error { return errors.Join(s.reader.Close(), s.ring.Close()) }
