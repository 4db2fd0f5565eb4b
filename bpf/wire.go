package bpf

import "unsafe"

// The structures that kernel programs and Go share: bpf/c/state.h has the same, field by field,
// and TestLayout compares their sizes with those in the compiled object.

// Slots is how many containers one node can hold.
const Slots = 1024

// What a slot is held to: the flags of [Slot.Flags].
const (
	Learn     = 1 << iota // collect system calls and capabilities
	HoldExec              // executables and code
	HoldFiles             // opened files
	HoldNet               // connections and ports
	HoldCalls             // system calls
	Enforce               // outside the profile: blocked; without it only told
	Anonymous             // some executable of the profile makes anonymous memory executable
	Cover                 // every process must run under our seccomp filter: newcomers are stopped for it
)

// Slot is the kernel's view of one container.
type Slot struct {
	Cgroup       uint64
	Profile      uint32 // the number its policy entries are filed under; 0 is taken by what holds for all
	Flags        uint32
	RootDev      uint32 // kernel device number of its root overlay; 0: its root is no overlay
	RuntimeMntNS uint32
	Filters      uint32
	_            uint32
	Allowed      [8]uint64 // system calls, one bit each
	Watched      [8]uint64 // those of [Kernel.Watch]; SetSlot fills them in
}

// Seen is what the kernel collected of one container.
type Seen struct {
	Syscalls, Compat [8]uint64
	Caps, Sockets    uint64
	Events           uint64
	Lost             uint64 // found the ring full
	Folded           uint64 // equal to a recent one, or over the container's budget
	Blocked          uint64
	_, _             uint64
}

// Kind of an [Event].
type Kind uint8

// The kinds of events.
const (
	KindExec Kind = iota + 1
	KindFile
	KindConnect
	KindListen
	KindSyscall
	KindMemory
	KindSocket
)

// Verdict of an [Event].
type Verdict uint8

// The verdicts.
const (
	Allowed Verdict = iota
	WouldBlock
	Blocked
)

// Reason of a verdict.
type Reason uint8

// The reasons.
const (
	NoReason Reason = iota
	ForeignFile
	NotInProfile
	ForeignScript
	AnonymousCode
	ProcessMemory
	OutsideCall
	ForeignABI
	FileWrite
	FileRead
	Connecting
	Listening
	RawSocket
	HostNamespace
)

// Origin of a file's bytes.
type Origin uint8

// The origins.
const (
	FromImage Origin = iota
	FromUpper
	FromTmpfs
	FromMemfd
	FromMount
	FromNested
	FromNowhere
	FromKernel
)

// Backend that decided.
type Backend uint8

// The back ends.
const (
	Tracepoint Backend = iota
	LSM
	Cgroup
)

// The flags of an [Event].
const (
	FlagWrite uint16 = 1 << iota
	FlagCreated
	FlagStdinSocket
	FlagStdinFile
	FlagEntered
	FlagHostNamespace
	FlagPathCut
	FlagImagePath
	FlagHeld
	FlagCompat
	FlagSensitive
)

// Ancestor is a process above the one an event is about.
type Ancestor struct {
	Started uint64
	PID     uint32
	Comm    [16]byte
	_       uint32
}

// Event is one record of the kernel's ring. It is valid until the next one is read.
type Event struct {
	Time, Seq, Cgroup, Started, Hash uint64
	Slot, PID, TID, UID, Repeats, Nr uint32
	Kind                             Kind
	Verdict                          Verdict
	Reason                           Reason
	Origin                           Origin
	Backend                          Backend
	Protocol                         uint8
	_, _                             uint8
	Flags, pathLen, textLen, Port    uint16
	Addr                             [16]byte
	Args                             [6]uint64
	Comm                             [16]byte
	Up                               [6]Ancestor
	path                             [768]byte
	text                             [384]byte
}

// Path is the file, or the first path argument of a system call.
func (e *Event) Path() string { return string(e.path[:min(int(e.pathLen), len(e.path))]) }

// Text is argv with a zero byte between (exec), or the second path argument of a system call.
func (e *Event) Text() string { return string(e.text[:min(int(e.textLen), len(e.text))]) }

// Describe sets what [Event.Path] and [Event.Text] return, cut to the room there is.
func (e *Event) Describe(path, text string) {
	e.pathLen, e.textLen = uint16(copy(e.path[:], path)), uint16(copy(e.text[:], text))
}

// Hold is a process that was stopped before its first instruction in the container.
type Hold struct {
	Cgroup  uint64
	PID     uint32
	Unknown uint32 // 1: the container has no slot yet
}

type settings struct {
	Seed       uint64
	HoldNew    uint32
	HostMntNS  uint32
	BackingBit uint32
	OwnTgid    uint32
	FlowEpoch  uint32
	_          uint32
}

type policyKey struct {
	Profile, Kind uint32
	Hash          uint64
}

type peerKey struct {
	Prefix, Profile uint32
	Port            uint16
	Protocol        uint8
	_               uint8
	Addr            [16]byte
}

// PolicyKind says what an [Entry] is about.
type PolicyKind uint32

// The kinds of policy entries.
const (
	PolicyExec   PolicyKind = iota + 1 // Hash of the path in the image
	PolicyApplet                       // … mixed with that of the applet's name
	PolicyScript                       // patterns of foreign files an interpreter may read
	PolicyWrite                        // patterns of files that may be written
	PolicyRead                         // patterns of sensitive files that may be read
	PolicyListen                       // protocol<<16 | port
	PolicySocket                       // type<<8 | protocol
	PolicyName                         // a name that is sensitive in any directory
)

// Global is the profile number of what holds for every workload.
const Global uint32 = 0

// The flags of an [Entry].
const (
	EntryInterpreter uint32 = 1 << iota
	EntryMultiCall
	EntryAnonymous
	EntryForeign
	EntryExact
	EntryChild
	EntryDeep
	EntrySuffix
)

// Watch flags say what the kernel does at a system call.
const (
	WatchCode uint32 = 1 << iota
	WatchOpen
	WatchTell
	WatchPath0
	WatchPath1
	WatchPath2
	WatchPath3
	WatchClone
	WatchConnect
	WatchSocket
)

const eventSize = int(unsafe.Sizeof(Event{}))
