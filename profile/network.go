package profile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"bulkhead"
)

const (
	// ephemeral is the first port that Linux hands out by itself (ip_local_port_range).
	ephemeral = 32768
	// manyPorts: from the third ephemeral port on a workload is taken to be given its ports,
	// not to choose them; servers with one or two fixed ports up there exist (50051).
	manyPorts = 3
	// manyPeerPorts is the same for the ports of one peer (passive FTP, RPC).
	manyPeerPorts = 8
	// manyAddresses: from the fourth address of one network on, the network is meant.
	manyAddresses = 4
)

func (r *Recorder) listen(n *bulkhead.Network, times uint64) bool {
	if !protocolKnown(n.Protocol) || n.Port < 0 || n.Port > 65535 {
		return false
	}
	return r.listens.see(bulkhead.Port{Protocol: n.Protocol, Port: n.Port}, times, func() bool {
		return n.Port >= ephemeral && r.ephemerals(n.Protocol) >= manyPorts
	})
}

func (r *Recorder) ephemerals(protocol string) (n int) {
	for p := range r.listens.items {
		if p.Protocol == protocol && (p.Port >= ephemeral || p.Port == 0) {
			n++
			if p.Port == 0 {
				return manyPorts
			}
		}
	}
	return n
}

func (r *Recorder) connect(n *bulkhead.Network, times uint64) bool {
	key := peer{protocol: n.Protocol, port: n.Port, workload: n.Peer}
	if !protocolKnown(n.Protocol) || n.Port < 0 || n.Port > 65535 || len(n.Peer) > maxName || !printable(n.Peer) {
		return false
	}
	if n.Peer == "" {
		key.address = n.Address
	}
	if r.peers.items[key] != nil { // as written: the way of nearly all
		return r.peers.see(key, times, nil)
	}
	if n.Peer == "" {
		address, err := netip.ParseAddr(n.Address)
		if err != nil {
			return false
		}
		key.address = single(address.Unmap().WithZone(""))
	}
	return r.peers.see(key, times, func() bool { return r.meet(key) > manyAddresses })
}

// meet counts an address with the others of its network that are known with its port.
func (r *Recorder) meet(key peer) int {
	network, ok := networkOf(key.address)
	if ok {
		key.address = network.String()
		r.networks[key]++
	} else if _, whole := r.networks[key]; whole || key.workload != "" || key.address == "" {
		return 0
	} else if cidr, err := netip.ParsePrefix(key.address); err == nil && !cidr.IsSingleIP() {
		r.networks[key] = manyAddresses // learned as a network, in an earlier run
	}
	return r.networks[key]
}

func protocolKnown(protocol string) bool {
	switch protocol {
	case "tcp", "udp", "icmp", "raw":
		return true
	}
	return false
}

// single writes one address as the network that a profile names.
func single(a netip.Addr) string {
	switch {
	case a.Is4() && a.IsLoopback():
		return "127.0.0.0/8"
	case a.IsLoopback():
		return "::1/128"
	}
	return netip.PrefixFrom(a, a.BitLen()).String()
}

// networkOf returns the /24 or /64 around one address. Link-local addresses have none:
// 169.254.169.254 tells a cloud's secrets and never hides in a network.
func networkOf(cidr string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(cidr)
	if err != nil || !p.IsSingleIP() || p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast() {
		return netip.Prefix{}, false
	}
	bits := 64
	if p.Addr().Is4() {
		bits = 24
	}
	return netip.PrefixFrom(p.Addr(), bits).Masked(), true
}

// foldListens turns ports that change each time into port 0.
func foldListens(ports []bulkhead.Port) []bulkhead.Port {
	given := map[string]int{}
	for _, p := range ports {
		if p.Port >= ephemeral {
			given[p.Protocol]++
		}
	}
	out := make([]bulkhead.Port, 0, len(ports))
	for _, p := range ports {
		if p.Port >= ephemeral && given[p.Protocol] >= manyPorts {
			p.Port = 0
		}
		out = append(out, p)
	}
	return tidyListens(out)
}

// tidyListens sorts ports and drops the ones that port 0 has.
func tidyListens(ports []bulkhead.Port) []bulkhead.Port {
	out := append(make([]bulkhead.Port, 0, len(ports)), ports...)
	slices.SortFunc(out, comparePorts)
	out = slices.Compact(out)
	any := map[string]bool{}
	for _, p := range out {
		any[p.Protocol] = any[p.Protocol] || p.Port == 0
	}
	return slices.DeleteFunc(out, func(p bulkhead.Port) bool { return p.Port >= ephemeral && any[p.Protocol] })
}

func comparePorts(a, b bulkhead.Port) int {
	return cmp.Or(strings.Compare(a.Protocol, b.Protocol), a.Port-b.Port)
}

// foldPeers turns many addresses of one network into the network, then many high ports
// of one peer into any port.
func foldPeers(keys []peer) []bulkhead.Peer {
	peers := convert(keys, func(k peer) bulkhead.Peer {
		return bulkhead.Peer{Protocol: k.protocol, Port: k.port, CIDR: k.address, Workload: k.workload}
	})
	peers = foldBy(peers, manyAddresses, func(p bulkhead.Peer) (bulkhead.Peer, bool) {
		network, ok := networkOf(p.CIDR)
		p.CIDR = network.String()
		return p, ok
	})
	peers = foldBy(peers, manyPeerPorts, func(p bulkhead.Peer) (bulkhead.Peer, bool) {
		high := p.Port >= ephemeral
		p.Port = 0
		return p, high
	})
	return tidyPeers(peers)
}

// foldBy replaces peers by their wider form where enough of them share it.
func foldBy(peers []bulkhead.Peer, enough int, widen func(bulkhead.Peer) (bulkhead.Peer, bool)) []bulkhead.Peer {
	count := map[bulkhead.Peer]int{}
	for _, p := range peers {
		if wide, ok := widen(p); ok {
			count[wide]++
		}
	}
	out := make([]bulkhead.Peer, 0, len(peers))
	done := map[bulkhead.Peer]bool{}
	for _, p := range peers {
		if wide, ok := widen(p); ok && count[wide] >= enough {
			p = wide
		}
		if !done[p] {
			out, done[p] = append(out, p), true
		}
	}
	return out
}

// tidyPeers sorts peers and drops the ones that another one covers.
func tidyPeers(peers []bulkhead.Peer) []bulkhead.Peer {
	out := append(make([]bulkhead.Peer, 0, len(peers)), peers...)
	slices.SortFunc(out, comparePeers)
	out = slices.Compact(out)
	var wide []bulkhead.Peer
	for _, p := range out {
		if cidr, err := netip.ParsePrefix(p.CIDR); p.Port == 0 || err == nil && !cidr.IsSingleIP() {
			wide = append(wide, p)
		}
	}
	return slices.DeleteFunc(out, func(p bulkhead.Peer) bool {
		return slices.ContainsFunc(wide, func(w bulkhead.Peer) bool { return w != p && coversPeer(w, p) })
	})
}

func coversPeer(w, p bulkhead.Peer) bool {
	if w.Protocol != p.Protocol || w.Workload != p.Workload || w.Port != 0 && w.Port != p.Port {
		return false
	}
	if w.CIDR == p.CIDR {
		return true
	}
	outer, err := netip.ParsePrefix(w.CIDR)
	inner, err2 := netip.ParsePrefix(p.CIDR)
	return err == nil && err2 == nil && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

func comparePeers(a, b bulkhead.Peer) int {
	return cmp.Or(strings.Compare(a.Protocol, b.Protocol), strings.Compare(a.Workload, b.Workload),
		strings.Compare(a.CIDR, b.CIDR), a.Port-b.Port)
}
