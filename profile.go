package bulkhead

import "time"

// ProfileVersion is the format that [Profile.Version] names.
const ProfileVersion = "bulkhead/profile/v1"

// Profile is what one workload does, learned and then enforced. Every list is sorted and
// without doubles; a list that is empty allows nothing.
type Profile struct {
	Version   string    `json:"version"`
	Workload  string    `json:"workload"`
	Image     Image     `json:"image"`
	Started   time.Time `json:"started"` // when learning began
	Updated   time.Time `json:"updated"`
	Observed  float64   `json:"observed"`  // seconds of running containers that were watched
	Events    uint64    `json:"events"`    // observations of any kind, repeated ones included
	Revisions int       `json:"revisions"` // approvals since it was learned

	Executables  []Executable `json:"executables"`
	Scripts      []Script     `json:"scripts"`
	Syscalls     []string     `json:"syscalls"`     // kernel names: "openat"
	Sockets      []string     `json:"sockets"`      // address families that socket() may ask for: "unix", "inet", "inet6", "netlink"
	Writes       []string     `json:"writes"`       // patterns, see package profile
	Reads        []string     `json:"reads"`        // patterns of sensitive paths that were read
	Capabilities []string     `json:"capabilities"` // "CAP_NET_BIND_SERVICE"
	Listens      []Port       `json:"listens"`
	Peers        []Peer       `json:"peers"`
	Anonymous    []string     `json:"anonymous"` // executables that make anonymous memory executable (just-in-time compilers)

	Completeness map[Section]Completeness `json:"completeness"`
}

// Executable is a program the workload runs.
type Executable struct {
	Path        string   `json:"path"`              // as the image names it, symbolic links resolved
	Digest      string   `json:"digest,omitempty"`  // sha256 of its content
	Layer       string   `json:"layer,omitempty"`   // digest of the image layer it comes from
	Applets     []string `json:"applets,omitempty"` // for programs that do what argv[0] says: the names used
	Interpreter bool     `json:"interpreter,omitempty"`
	Foreign     bool     `json:"foreign,omitempty"`  // not the image's own: allowed only after an approval
	Approved    bool     `json:"approved,omitempty"` // added by a person
}

// Script is a file an interpreter of the workload runs.
type Script struct {
	Path        string `json:"path"` // or a pattern
	Interpreter string `json:"interpreter"`
	Digest      string `json:"digest,omitempty"`
	Layer       string `json:"layer,omitempty"`
	Foreign     bool   `json:"foreign,omitempty"` // its bytes were not the image's own when it was learned or approved; without it only the image's may run
}

// Port is a port the workload listens on.
type Port struct {
	Protocol string `json:"protocol"` // "tcp" or "udp"
	Port     int    `json:"port"`     // 0: any of the ephemeral range
}

// Peer is somebody the workload talks to.
type Peer struct {
	Protocol string `json:"protocol"`
	Port     int    `json:"port"`               // 0: any
	CIDR     string `json:"cidr,omitempty"`     // "10.0.0.7/32", "::1/128"
	Workload string `json:"workload,omitempty"` // resolved by the node to its containers' addresses
}

// Completeness says how much of a workload's behaviour a section holds.
type Completeness struct {
	Score   float64 `json:"score"`   // 0 to 1: one minus the expected share of new behaviour
	HeldOut float64 `json:"heldOut"` // share of the entries of the last fifth of the run that the rest of it already had
	Items   int     `json:"items"`
	Curve   []Point `json:"curve"` // the saturation curve, at most 64 points
	Ready   bool    `json:"ready"`
	Dropped uint64  `json:"dropped,omitempty"` // observations for which there was no room; such a section is never ready
}

// Point is one step of a saturation curve.
type Point struct {
	Seconds float64 `json:"seconds"` // observed so far
	Events  uint64  `json:"events"`  // observed so far
	Items   int     `json:"items"`   // distinct so far
}
