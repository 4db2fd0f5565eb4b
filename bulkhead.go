// Package bulkhead holds the words of the product: what an Image, a Workload, a
// Profile, an Event, an Alert and a Verdict are. Start with [Event] and [Profile].
//
// It promises plain data: every type can be copied, compared with go-cmp and written as
// JSON, and nothing here opens a file, a socket or a map. It imports the standard library
// only, so that every other package may import it. It is not the place for behaviour.
package bulkhead

import "time"

// Severity says how bad a finding or an alert is.
type Severity string

// The severities, in rising order.
const (
	Low      Severity = "low"
	Medium   Severity = "medium"
	High     Severity = "high"
	Critical Severity = "critical"
)

// Rank orders severities: 1 for low to 4 for critical, 0 for anything else.
func (s Severity) Rank() int {
	switch s {
	case Low:
		return 1
	case Medium:
		return 2
	case High:
		return 3
	case Critical:
		return 4
	}
	return 0
}

// Mode says what is done with behaviour outside a workload's profile.
type Mode string

// The modes, in the order in which a workload goes through them.
const (
	Learn   Mode = "learn"   // outside the profile: it is added to the profile
	Monitor Mode = "monitor" // outside the profile: an alert says what would have been blocked
	Protect Mode = "protect" // outside the profile: blocked in the kernel, and an alert
)

// Valid reports whether m is one of the three modes.
func (m Mode) Valid() bool { return m == Learn || m == Monitor || m == Protect }

// Image is a container image. An image is its digest; the reference is how a person calls it.
type Image struct {
	Reference string `json:"reference"`        // as given to the engine: "nginx:1.27"
	Digest    string `json:"digest"`           // "sha256:…" of the manifest, or of the configuration where the engine knows no manifest
	Config    string `json:"config,omitempty"` // "sha256:…" of the image configuration (Docker's image id)
}

// Workload is the thing a person deploys: stable across restarts, nodes and clusters.
type Workload struct {
	Name      string `json:"name"`                // unique, e.g. "docker/shop" or "default/deployment/web/nginx"
	Kind      string `json:"kind"`                // "container", "compose", "deployment", "daemonset", "statefulset", "job", "pod"
	Namespace string `json:"namespace,omitempty"` // Kubernetes namespace
}

// Pod is the Kubernetes pod a container belongs to.
type Pod struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	UID       string            `json:"uid"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// Container is one container on one node.
type Container struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Engine   string            `json:"engine"` // "docker", "containerd", "cri" or "unknown"
	Image    Image             `json:"image"`
	Workload Workload          `json:"workload"`
	Pod      *Pod              `json:"pod,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	PID      int               `json:"pid"`      // of its first process, as the host counts; 0 when not running
	CgroupID uint64            `json:"cgroupId"` // inode number of its cgroup v2 directory = bpf_get_current_cgroup_id(); 0 when unknown
	Cgroup   string            `json:"cgroup"`   // path below the cgroup v2 mount, "/docker/ID"
	Started  time.Time         `json:"started"`
}

// Ancestor is one process above another, nearest first.
type Ancestor struct {
	PID  int    `json:"pid"`
	Comm string `json:"comm"`
	Exe  string `json:"exe,omitempty"` // path in its container, where the node saw it start
}

// Process is who did something.
type Process struct {
	PID      int        `json:"pid"` // thread group, as the host counts
	TID      int        `json:"-"`   // the thread, where it is known
	UID      int        `json:"uid"` // effective, as the host counts
	Comm     string     `json:"comm"`
	Exe      string     `json:"exe"` // path in its container
	Args     []string   `json:"args"`
	Started  uint64     `json:"started"` // nanoseconds since boot: with PID and the node's boot id it is unique
	Ancestry []Ancestor `json:"ancestry"`
}

// EventKind says what happened.
type EventKind string

// The kinds of events. The comment names the detail that is set.
const (
	EventExec       EventKind = "exec"       // Exec: a program was started
	EventFile       EventKind = "file"       // File: a file was opened for writing, or a sensitive one for reading
	EventConnect    EventKind = "connect"    // Network: a connection or datagram went out
	EventListen     EventKind = "listen"     // Network: a port was bound
	EventSyscall    EventKind = "syscall"    // Syscall: a watched or blocked system call
	EventMemory     EventKind = "memory"     // Memory: memory became executable
	EventCapability EventKind = "capability" // Capability: a capability was used for the first time
	EventContainer  EventKind = "container"  // a container started or ended
	EventRequest    EventKind = "request"    // a request came; only alerts are about one
	EventDrift      EventKind = "drift"      // an audited setting changed; only alerts are about one
)

// Verdict says what was decided.
type Verdict string

// The verdicts.
const (
	Allowed    Verdict = "allowed"
	WouldBlock Verdict = "would-block" // outside the profile, mode monitor
	Blocked    Verdict = "blocked"     // outside the profile, mode protect
)

// Event is one thing that a process in a container did, as the kernel told it.
type Event struct {
	Boot      string    `json:"boot"` // node boot id
	Seq       uint64    `json:"seq"`  // per boot, without holes: a hole is a lost event
	Time      time.Time `json:"time"`
	Node      string    `json:"node"`
	Kind      EventKind `json:"kind"`
	Container Container `json:"container"`
	Process   Process   `json:"process"`
	Verdict   Verdict   `json:"verdict"`
	Reason    Reason    `json:"reason,omitempty"`  // why it was or would be blocked
	Backend   string    `json:"backend,omitempty"` // which kernel mechanism decided: "lsm", "tracepoint", "seccomp", "cgroup"
	Repeats   int       `json:"repeats,omitempty"` // how many equal ones the kernel folded into this one

	Exec       *Exec    `json:"exec,omitempty"`
	File       *File    `json:"file,omitempty"`
	Network    *Network `json:"network,omitempty"`
	Syscall    *Syscall `json:"syscall,omitempty"`
	Memory     *Memory  `json:"memory,omitempty"`
	Capability string   `json:"capability,omitempty"` // "CAP_NET_RAW"
}

// Reason names the part of the policy that an event went against.
type Reason string

// The reasons.
const (
	ReasonForeignFile   Reason = "foreign-file"    // executable bytes that are not the image's own
	ReasonNotInProfile  Reason = "not-in-profile"  // the image's own, but never learned
	ReasonForeignScript Reason = "foreign-script"  // an interpreter was given a script that is neither the image's nor learned
	ReasonAnonymousCode Reason = "anonymous-code"  // memory without a file became executable
	ReasonProcessMemory Reason = "process-memory"  // another process's memory was opened for writing
	ReasonSyscall       Reason = "syscall"         // system call outside the profile
	ReasonForeignABI    Reason = "foreign-abi"     // 32-bit or x32 entry
	ReasonFileWrite     Reason = "file-write"      // write outside the profile
	ReasonFileRead      Reason = "file-read"       // read of a sensitive path outside the profile
	ReasonConnect       Reason = "connect"         // connection outside the profile
	ReasonListen        Reason = "listen"          // port outside the profile
	ReasonSocket        Reason = "socket"          // raw, packet or other socket outside the profile
	ReasonHostNamespace Reason = "host-namespaces" // a process of the container runs in the host's mount namespace
)

// Origin says where a file's bytes come from.
type Origin string

// The origins of an executable file.
const (
	OriginImage  Origin = "image"  // a read-only layer of the container's own image
	OriginUpper  Origin = "upper"  // written in the container after it started
	OriginTmpfs  Origin = "tmpfs"  // tmpfs, /dev/shm
	OriginMemory Origin = "memfd"  // a file without a name
	OriginMount  Origin = "mount"  // another file system: volume, bind mount
	OriginHost   Origin = "nested" // another overlay
)

// Exec is the start of a program.
type Exec struct {
	Path         string `json:"path"`                   // the file whose instructions run, as the image names it
	Script       string `json:"script,omitempty"`       // the script the kernel found the program by (#!)
	ScriptOrigin Origin `json:"scriptOrigin,omitempty"` // where its bytes come from, where that is known
	Applet       string `json:"applet,omitempty"`       // base name of argv[0]
	Origin       Origin `json:"origin"`
	StdinSocket  bool   `json:"stdinSocket,omitempty"` // descriptor 0 is a socket
	StdinFile    bool   `json:"stdinFile,omitempty"`   // descriptor 0 is a regular file that is not the image's
	Cwd          string `json:"cwd,omitempty"`
	Entered      bool   `json:"entered,omitempty"` // first program of a process that came from outside ("docker exec")
}

// File is an opened file.
type File struct {
	Path    string `json:"path"`
	Write   bool   `json:"write"`
	Created bool   `json:"created,omitempty"`
	Origin  Origin `json:"origin"`
}

// Network is a connection or a bound port.
type Network struct {
	Protocol string `json:"protocol"` // "tcp", "udp", "icmp", "raw"
	Address  string `json:"address"`  // IPv4 or IPv6 in text; IPv4-mapped is shown as IPv4
	Port     int    `json:"port"`
	Peer     string `json:"peer,omitempty"` // workload name, where the address is known to the node
}

// Syscall is a system call and its arguments as the kernel got them.
type Syscall struct {
	Name  string    `json:"name"`
	Args  [6]uint64 `json:"args"`
	Path  string    `json:"path,omitempty"`  // first path argument, as the caller wrote it (may have been changed since)
	Path2 string    `json:"path2,omitempty"` // second path argument
	ABI   string    `json:"abi,omitempty"`   // "i386" or "x32" when not the native one
}

// Memory is a mapping that became executable.
type Memory struct {
	Path   string `json:"path,omitempty"`
	Origin Origin `json:"origin,omitempty"`
	Call   string `json:"call"` // "mmap", "mprotect", "pkey_mprotect", "shmat"
}

// Technique is one technique of MITRE ATT&CK, by its id ("T1059.004").
type Technique struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Tactic string `json:"tactic"`
}

// Alert is what a person is told. Its JSON is a promise to scripts.
type Alert struct {
	ID        string       `json:"id"` // node boot id and sequence: equal for the same event wherever it is seen
	Time      time.Time    `json:"time"`
	Cluster   string       `json:"cluster"`
	Node      string       `json:"node"`
	Workload  string       `json:"workload"`
	Container string       `json:"container"`
	Image     string       `json:"image"`
	Digest    string       `json:"digest"`
	Rule      string       `json:"rule"` // a rule's id, or "profile/executables", "profile/syscalls", "profile/files", "profile/network", "profile/memory"
	Title     string       `json:"title"`
	Technique string       `json:"technique"`
	Tactic    string       `json:"tactic"`
	Severity  Severity     `json:"severity"`
	Action    string       `json:"action"` // "blocked" or "detected"
	Message   string       `json:"message"`
	Process   AlertProcess `json:"process"`
	Cause     AlertCause   `json:"cause"`
	Count     int          `json:"count"`            // how many equal ones were folded into it
	Heal      *Approval    `json:"heal,omitempty"`   // what approving it would add to the profile
	Healed    bool         `json:"healed,omitempty"` // it was approved
	Web       *WebRequest  `json:"web,omitempty"`    // the request that it is about
}

// The two values of [Alert.Action].
const (
	ActionBlocked  = "blocked"
	ActionDetected = "detected"
)

// AlertProcess is the process an alert is about.
type AlertProcess struct {
	PID      int        `json:"pid"`
	UID      int        `json:"uid"`
	Exe      string     `json:"exe"`
	Args     []string   `json:"args"`
	Ancestry []Ancestor `json:"ancestry"`
}

// AlertCause is what the process did, as the event had it.
type AlertCause struct {
	Kind   EventKind `json:"kind,omitempty"`
	Reason Reason    `json:"reason,omitempty"`
	Object string    `json:"object,omitempty"` // the path, address:port or system call

	Request *WebCause `json:"request,omitempty"` // that the process was serving, where that is known
	Drift   *Drift    `json:"drift,omitempty"`   // which audited setting changed
}

// DriftRules begins the rule of every alert about an audited setting; the check's id follows.
const DriftRules = "drift/"

// Drift is a check of the baseline whose answer is another than it was. The process of its alert is the one that changed
// what the check looks at, where that was seen.
type Drift struct {
	Check  string   `json:"check"`
	Title  string   `json:"title"`
	Layer  string   `json:"layer"`
	Before string   `json:"before"` // "pass", "fail", "manual", "not-applicable"
	After  string   `json:"after"`
	Was    string   `json:"was"` // the evidence before, and after
	Is     string   `json:"is"`
	Paths  []string `json:"paths"`          // that changed
	User   string   `json:"user,omitempty"` // who ran the process
}

// Section names a part of a profile.
type Section string

// The sections of a profile.
const (
	SectionExecutables  Section = "executables"
	SectionScripts      Section = "scripts"
	SectionSyscalls     Section = "syscalls"
	SectionWrites       Section = "writes"
	SectionReads        Section = "reads"
	SectionCapabilities Section = "capabilities"
	SectionListens      Section = "listens"
	SectionPeers        Section = "peers"
	SectionMemory       Section = "memory"
)

// Approval widens one workload's profile by one entry: safe healing.
type Approval struct {
	Workload string  `json:"workload"`
	Section  Section `json:"section"`
	Value    string  `json:"value"` // an executable "path" or "path#applet", a pattern, a syscall name, "tcp/443", "tcp 10.0.0.0/8 443", "anonymous"
	By       string  `json:"by,omitempty"`
}
