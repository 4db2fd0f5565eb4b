package keeper

import (
	"bulkhead/enforce/seccomp"
)

// Policy is what a container's processes may call.
type Policy struct {
	Syscalls []string `json:"syscalls"` // kernel names
	Sockets  []string `json:"sockets"`  // address families for socket and socketpair
	Kill     bool     `json:"kill"`     // end the process instead of answering EPERM
}

// Ward is one protected container: all that is needed to decide about its calls.
type Ward struct {
	CgroupID  uint64   `json:"cgroupId"`
	CgroupDir string   `json:"cgroupDir"`
	Policy    Policy   `json:"policy"`   // as it was protected first: what its filters allow by themselves
	Baseline  int      `json:"baseline"` // filters that the engine itself puts on its processes
	Syscalls  []string `json:"widened"`  // allowed since
	Sockets   []string `json:"widenedSockets"`
	Enforcing bool     `json:"enforcing"`
}

// Verdict is what became of a call.
type Verdict string

// The verdicts.
const (
	Denied     Verdict = "denied"
	Killed     Verdict = "killed"
	WouldDeny  Verdict = "would-deny" // not enforcing
	Unanswered Verdict = "unanswered" // an earlier listener is lost: the kernel says ENOSYS
)

// rules is a ward made quick to ask.
type rules struct {
	enforcing, kill, anyFamily bool
	numbers, families          map[uint32]bool
}

func newRules(w Ward) *rules {
	r := &rules{enforcing: w.Enforcing, kill: w.Policy.Kill, numbers: map[uint32]bool{}, families: map[uint32]bool{}}
	for _, list := range [][]string{seccomp.Always(), w.Policy.Syscalls, w.Syscalls} {
		for _, name := range list {
			if n, ok := seccomp.Number("", name); ok {
				r.numbers[n] = true
			}
		}
	}
	for _, list := range [][]string{w.Policy.Sockets, w.Sockets} {
		for _, name := range list {
			if n, ok := seccomp.Family(name); ok {
				r.families[n] = true
			}
			r.anyFamily = r.anyFamily || name == "*"
		}
	}
	return r
}

// allows decides by number, entry and address family alone. The kernel copied them, so they
// cannot change under us; pointers are never followed.
func (r *rules) allows(d seccomp.Data) bool {
	number := uint32(d.Number)
	if !r.numbers[number] || seccomp.Entry("", d.Arch, number) != "" {
		return false
	}
	return !seccomp.TakesFamily("", number) || r.anyFamily || r.families[uint32(d.Args[0])]
}

// decide says whether a call may run, and what to report; an empty verdict reports nothing.
func (r *rules) decide(d seccomp.Data) (run bool, v Verdict) {
	switch {
	case r.allows(d):
		return true, ""
	case !r.enforcing:
		return true, WouldDeny
	case r.kill:
		return false, Killed
	}
	return false, Denied
}
