package sensor

import (
	"net/netip"
	"strconv"

	"bulkhead"
	"bulkhead/bpf"
)

var protocols = map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmp", 132: "sctp", 136: "udplite"}

func networkOf(raw *bpf.Event) (bulkhead.EventKind, *bulkhead.Network) {
	n := &bulkhead.Network{Protocol: protocols[raw.Protocol], Address: netip.AddrFrom16(raw.Addr).Unmap().String(), Port: int(raw.Port)}
	if n.Protocol == "" {
		n.Protocol = "ip/" + strconv.Itoa(int(raw.Protocol))
	}
	switch raw.Kind {
	case bpf.KindListen:
		return bulkhead.EventListen, n
	case bpf.KindSocket:
		n.Protocol, n.Address, n.Port = "raw", "", int(raw.Protocol)
		return bulkhead.EventListen, n
	}
	return bulkhead.EventConnect, n
}
