package agent

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/bpf"
)

func attribute(kind uint16, value ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	return append(b, make([]byte, -len(b)&3)...)
}

func tuple(kind uint16, protocol byte, from, to string) []byte {
	src, dst := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	v4 := src.Addr().Is4()
	part := func(four, six uint16) uint16 {
		if v4 {
			return four
		}
		return six
	}
	addresses := append(attribute(part(1, 3), src.Addr().AsSlice()...), attribute(part(2, 4), dst.Addr().AsSlice()...)...)
	ports := attribute(1, protocol)
	ports = append(ports, attribute(2, byte(src.Port()>>8), byte(src.Port()))...)
	ports = append(ports, attribute(3, byte(dst.Port()>>8), byte(dst.Port()))...)
	return attribute(kind|0x8000, append(attribute(1|0x8000, addresses...), attribute(2|0x8000, ports...)...)...)
}

func message(parts ...[]byte) []byte {
	body := []byte{2, 0, 0, 0}
	for _, p := range parts {
		body = append(body, p...)
	}
	b := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
	b = binary.NativeEndian.AppendUint16(b, messageNew)
	return append(append(b, make([]byte, 10)...), body...)
}

func service80(client, backend, answered string) []byte {
	return message(tuple(attrOriginal, 6, client, "10.96.0.1:80"), tuple(attrReply, 6, backend, answered), attribute(attrStatus, 0, 0, 1, 0x28))
}

var ends = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func TestTranslations(t *testing.T) {
	plain := message(tuple(attrOriginal, 6, "10.0.0.1:4000", "10.0.0.2:80"), tuple(attrReply, 6, "10.0.0.2:80", "10.0.0.1:4000"), attribute(attrStatus, 0, 0, 0, 8))
	six := message(tuple(attrOriginal, 17, "[fd00::1]:4000", "[fd00::99]:53"), tuple(attrReply, 17, "[fd00::2]:5353", "[fd00::1]:4000"), attribute(attrStatus, 0, 0, 0, 0x20))
	b := append(append(service80("10.0.0.1:4000", "10.0.0.2:8080", "10.0.0.1:4000"), plain...), six...)
	a := netip.MustParseAddrPort
	want := []translation{
		{6, a("10.0.0.1:4000"), a("10.96.0.1:80"), a("10.0.0.2:8080"), a("10.0.0.1:4000")},
		{17, a("[fd00::1]:4000"), a("[fd00::99]:53"), a("[fd00::2]:5353"), a("[fd00::1]:4000")},
	}
	if d := cmp.Diff(want, readTranslations(b), cmp.AllowUnexported(translation{}), ends); d != "" {
		t.Error(d)
	}
}

// TestResolve: an edge to a service becomes one to each backend, with all that was counted; who hides behind the host is found too.
func TestResolve(t *testing.T) {
	tr, now := newTranslations(), time.Now()
	for range 3 {
		tr.add(readTranslations(service80("10.0.0.1:4000", "10.0.0.2:8080", "10.0.0.254:4000"))[0], now)
	}
	tr.add(readTranslations(service80("10.0.0.1:4001", "10.0.0.3:8080", "10.0.0.1:4001"))[0], now)
	edge := func(role bpf.FlowRole, peer string, port uint16) bpf.Flow {
		f := bpf.Flow{FlowKey: bpf.FlowKey{Protocol: 6, Role: role, Port: port, Addr: netip.MustParseAddr(peer).As16()}}
		f.Opened, f.Bytes = 4, [2]uint64{101, 1001}
		return f
	}
	var opened, out uint64
	list := tr.resolve([]netip.Addr{netip.MustParseAddr("10.0.0.1")}, edge(bpf.FlowClient, "10.96.0.1", 80), now)
	for _, f := range list {
		opened, out = opened+f.Opened, out+f.Bytes[0]
		if want := map[string]uint64{"10.0.0.2": 3, "10.0.0.3": 1}[f.Peer().String()]; f.Opened != want || f.Port != 8080 {
			t.Errorf("%v:%d opened %d", f.Peer(), f.Port, f.Opened)
		}
	}
	if len(list) != 2 || opened != 4 || out != 101 {
		t.Errorf("%d edges, %d opened, %d bytes", len(list), opened, out)
	}
	if list := tr.resolve([]netip.Addr{netip.MustParseAddr("10.0.0.2")}, edge(bpf.FlowServer, "10.0.0.254", 8080), now); len(list) != 1 || list[0].Peer().String() != "10.0.0.1" {
		t.Errorf("behind the host's address: %+v", list)
	}
	tr.turn(now)
	if list := tr.resolve([]netip.Addr{netip.MustParseAddr("10.0.0.1")}, edge(bpf.FlowClient, "10.96.0.1", 80), now); len(list) != 1 || list[0].Port != 8080 {
		t.Errorf("an old connection: %+v", list)
	}
	if list := tr.resolve([]netip.Addr{netip.MustParseAddr("10.0.0.9")}, edge(bpf.FlowClient, "10.96.0.1", 80), now); len(list) != 1 || list[0].Port != 80 {
		t.Errorf("somebody else: %+v", list)
	}
	if r := tr.report(); len(r) != 1 || len(r[0].Backends) != 2 || r[0].Address != "10.96.0.1" {
		t.Errorf("report: %v", r)
	}
}

func FuzzTranslations(f *testing.F) {
	f.Add(service80("10.0.0.1:4000", "10.0.0.2:8080", "10.0.0.1:4000"))
	f.Add(message(attribute(attrOriginal, 9, 0, 1, 0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, x := range readTranslations(b) {
			if !x.client.IsValid() || !x.server.IsValid() {
				t.Errorf("%+v", x)
			}
		}
	})
}
