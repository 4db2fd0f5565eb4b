package bulkhead

import (
	"fmt"
	"time"
)

// EndpointKind says what is at an end of an edge.
type EndpointKind string

// The kinds of endpoints.
const (
	EndWorkload EndpointKind = "workload" // Name is the workload's
	EndHost     EndpointKind = "host"     // Name is the node's
	EndService  EndpointKind = "service"  // Name is a cluster service's address that no backend is known for
	EndWorld    EndpointKind = "world"    // Name is a domain name that the container looked up, or an address
)

// Endpoint is one end of an edge.
type Endpoint struct {
	Kind EndpointKind `json:"kind"`
	Name string       `json:"name"`
}

// String is how a person reads it: a workload by its bare name.
func (e Endpoint) String() string {
	if e.Kind == EndWorkload {
		return e.Name
	}
	return string(e.Kind) + ":" + e.Name
}

// Edge is who talks to whom, over what. It is comparable: one edge is one such value.
type Edge struct {
	Cluster     string   `json:"cluster"`
	Source      Endpoint `json:"source"` // who opened the connection, or sent the first datagram
	Destination Endpoint `json:"destination"`
	Protocol    string   `json:"protocol"` // "tcp", "udp", "icmp", "icmpv6", or IP's number
	Port        uint16   `json:"port"`     // the destination's; 0 where the protocol has none
}

// String is how a person reads it.
func (e Edge) String() string {
	return fmt.Sprintf("%s -> %s %s/%d", e.Source, e.Destination, e.Protocol, e.Port)
}

// Traffic is what was seen of an edge in some time. Out is from source to destination.
type Traffic struct {
	First       time.Time `json:"first"`
	Last        time.Time `json:"last"`
	Opened      uint64    `json:"opened"`      // connections asked for
	Established uint64    `json:"established"` // of TCP
	Refused     uint64    `json:"refused"`     // answered by a reset
	Reset       uint64    `json:"reset"`       // ended by one
	Denied      uint64    `json:"denied"`      // by a policy of ours that is in force
	WouldDeny   uint64    `json:"wouldDeny"`   // by a staged one, which lets it pass
	Resent      uint64    `json:"resent"`      // TCP segments
	BytesOut    uint64    `json:"bytesOut"`    // with IP headers
	BytesIn     uint64    `json:"bytesIn"`
	PacketsOut  uint64    `json:"packetsOut"`
	PacketsIn   uint64    `json:"packetsIn"`
	RTT         uint64    `json:"-"` // sum of smoothed round-trip times in microseconds, of …
	RTTs        uint64    `json:"-"`
}

// Add sums up.
func (t *Traffic) Add(o Traffic) {
	if t.First.IsZero() || (!o.First.IsZero() && o.First.Before(t.First)) {
		t.First = o.First
	}
	if o.Last.After(t.Last) {
		t.Last = o.Last
	}
	t.Opened += o.Opened
	t.Established += o.Established
	t.Refused += o.Refused
	t.Reset += o.Reset
	t.Denied += o.Denied
	t.WouldDeny += o.WouldDeny
	t.Resent += o.Resent
	t.BytesOut += o.BytesOut
	t.BytesIn += o.BytesIn
	t.PacketsOut += o.PacketsOut
	t.PacketsIn += o.PacketsIn
	t.RTT += o.RTT
	t.RTTs += o.RTTs
}

// MeanRTT is the mean of the round-trip times, 0 where none was measured.
func (t Traffic) MeanRTT() time.Duration {
	if t.RTTs == 0 {
		return 0
	}
	return time.Duration(t.RTT/t.RTTs) * time.Microsecond
}

// Requests is what one endpoint or statement of an edge was asked in some time.
type Requests struct {
	Shape    string        `json:"shape"` // "GET /orders/*", "SELECT * FROM orders WHERE id = ?": without data
	First    time.Time     `json:"first"` // to the minute
	Last     time.Time     `json:"last"`
	Answered uint64        `json:"answered"`
	Rejected uint64        `json:"rejected"` // of these: the server says that the client is wrong, as HTTP's 4xx
	Failed   uint64        `json:"failed"`   // of these: HTTP's 5xx, an error of a database
	Took     time.Duration `json:"-"`        // the sum, to the first bytes of each answer
	Longest  time.Duration `json:"-"`
}

// Mean is how long an answer took.
func (r Requests) Mean() time.Duration {
	if r.Answered == 0 {
		return 0
	}
	return r.Took / time.Duration(r.Answered)
}

// Flow is an edge and what was seen of it in a window.
type Flow struct {
	Edge
	Traffic
	Application string `json:"application,omitempty"` // "http", "tls", "postgresql", …, as recognised from its first bytes
}
