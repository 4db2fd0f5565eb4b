// Package bpf is Bulkhead's part of the kernel: the BPF programs in c/, the structures they share with
// Go, and the loader. Start with [Load] and [Kernel].
//
// It promises that what is pinned keeps deciding when the process that loaded it is gone, that a program the
// kernel refuses is left out and named in [Features] instead of failing the rest, and that nothing outside
// this package knows a map or a program. It is not for deciding what belongs in a profile: it is told.
package bpf

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	bpffeatures "github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
)

// Options for [Load].
type Options struct {
	Pin        string // directory on a BPF file system; "" keeps nothing when the process ends
	CgroupRoot string // mount point of the cgroup v2 hierarchy
	NoLSM      bool   // leave BPF-LSM alone even where it works
	Log        *slog.Logger
}

// Kernel is a loaded set of programs and maps. Its methods may be called from several goroutines.
type Kernel struct {
	options  Options
	coll     *ebpf.Collection
	hasher   Hasher
	features Features

	mu      sync.Mutex
	links   map[string]link.Link
	watched [8]uint64 // the system calls of Watch, one bit each
}

// Features says what this kernel lets Bulkhead do.
type Features struct {
	Release string
	LSM     bool              // executables, code and files are denied before anything happens
	Refused map[string]string // program → why the kernel would not have it
	Limits  []string          // what it cannot do, in words
	Adopted bool              // programs and maps of an earlier process were found and taken over
}

// The programs by what they are for. Those of `always` are attached as long as Bulkhead is loaded.
var (
	always  = []string{"on_exec", "on_cgroup", "on_cgroup_end", "on_state", "on_connect4", "on_connect6", "on_sendmsg4", "on_sendmsg6", "on_bind4", "on_bind6", "on_socket"}
	calls   = []string{"on_enter"}
	faults  = []string{"on_fault"}
	returns = []string{ // what follows the dash is the call whose tracepoint it is for
		"exit_open-openat", "exit_open-open", "exit_open-openat2", "exit_open-creat", "exit_code-mmap", "exit_code-mprotect", "exit_code-pkey_mprotect",
	}
	lsm      = []string{"lsm_exec", "lsm_mmap", "lsm_mprotect", "lsm_open"}
	modify   = []string{"mod_exec", "mod_mmap", "mod_mprotect", "mod_open"} // the same where no security module may be BPF
	flows    = []string{"on_egress", "on_ingress"}
	capables = []string{"on_capable", "on_capable_exit"} // the first that the kernel takes
)

// Load brings the programs into the kernel, or takes over those that an earlier process pinned.
func Load(o Options) (*Kernel, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := usable(); err != nil {
		return nil, err
	}
	k := &Kernel{options: o, links: map[string]link.Link{}, features: Features{Release: release(), Refused: map[string]string{}, Limits: limits()}}
	if err := k.load(); err != nil {
		k.Close()
		return nil, err
	}
	if err := k.configure(); err != nil {
		k.Close()
		return nil, err
	}
	if err := k.attachAlways(); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// usable says why this kernel is of no use at all, with what to do.
func usable() error {
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		return fmt.Errorf("this kernel describes no types (/sys/kernel/btf/vmlinux is missing), so its programs cannot be adapted to it: use a kernel built with CONFIG_DEBUG_INFO_BTF")
	}
	for _, helper := range []asm.BuiltinFunc{asm.FnLoop, asm.FnFindVma} {
		if err := bpffeatures.HaveProgramHelper(ebpf.RawTracepoint, helper); errors.Is(err, ebpf.ErrNotSupported) {
			return fmt.Errorf("kernel %s cannot follow paths and mappings in BPF programs (%v is missing): containers are neither learned nor held here; use Linux 5.17 or newer", release(), helper)
		}
	}
	return nil
}

// limits are what this kernel cannot do where its tracepoints decide.
func limits() []string {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return nil
	}
	var list []string
	for _, name := range []string{"bpf_send_signal_task", "bpf_iter_task_new"} {
		var f *btf.Func
		if types.TypeByName(name, &f) != nil {
			list = append(list, "where only tracepoints decide, a process that shares its memory with a killed one (CLONE_VM) is not killed with it: "+name+" is missing")
			break
		}
	}
	if interruptible(release()) {
		list = append(list, "where only tracepoints decide, one can be interrupted and is then left out for other processes on the same processor: an execution is missed now and then")
	}
	return list
}

// interruptible: from 7.0 on, what is attached to a tracepoint runs with preemption on.
func interruptible(release string) bool {
	var major int
	fmt.Sscanf(release, "%d.", &major)
	return major >= 7
}

func release() string {
	var u syscall.Utsname
	if syscall.Uname(&u) != nil {
		return "unknown"
	}
	var b strings.Builder
	for _, c := range u.Release {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}

// version names the object: other programs must not be taken over.
func version() string {
	sum := sha256.Sum256(_ProgramsBytes)
	return hex.EncodeToString(sum[:6])
}

func (k *Kernel) pinDir(part string) string {
	if k.options.Pin == "" {
		return ""
	}
	return filepath.Join(k.options.Pin, version(), part)
}

func (k *Kernel) load() error {
	spec, err := loadPrograms()
	if err != nil {
		return fmt.Errorf("reading the built-in BPF object: %w", err)
	}
	options := ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{ExtraRelocationTargets: moduleTypes("overlay")}}
	if dir := k.pinDir("maps"); dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making %s: %w; is a BPF file system mounted there (mount -t bpf bpf /sys/fs/bpf)?", dir, err)
		}
		_, err := os.Stat(filepath.Join(dir, "slots"))
		k.features.Adopted = err == nil
		options.Maps.PinPath = dir
		for _, m := range spec.Maps {
			m.Pinning = ebpf.PinByName
		}
		if options.MapReplacements, err = keeperMaps(spec, k.options.Pin); err != nil {
			return err
		}
	}
	k.coll, err = k.loadCollection(spec, options)
	return err
}

// moduleTypes are the types of kernel modules that define structures we read.
func moduleTypes(names ...string) []*btf.Spec {
	var specs []*btf.Spec
	for _, name := range names {
		if s, err := btf.LoadKernelModuleSpec(name); err == nil {
			specs = append(specs, s)
		}
	}
	return specs
}

// loadCollection loads every program by itself, so that one refused leaves the others working.
func (k *Kernel) loadCollection(spec *ebpf.CollectionSpec, o ebpf.CollectionOptions) (*ebpf.Collection, error) {
	empty := spec.Copy()
	empty.Programs = nil
	coll, err := ebpf.NewCollectionWithOptions(empty, o)
	if err != nil {
		return nil, fmt.Errorf("creating BPF maps: %w%s", err, privilegeHint(err))
	}
	coll.Programs = map[string]*ebpf.Program{}
	for name, p := range spec.Programs {
		if !k.worthLoading(name) {
			continue
		}
		one := &ebpf.CollectionSpec{Maps: spec.Maps, Programs: map[string]*ebpf.ProgramSpec{name: p}, Types: spec.Types, ByteOrder: spec.ByteOrder, Variables: spec.Variables}
		loaded, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{Programs: o.Programs, MapReplacements: coll.Maps})
		if err != nil {
			k.features.Refused[name] = refusal(err)
			continue
		}
		coll.Programs[name] = loaded.DetachProgram(name)
		loaded.Close()
	}
	return coll, nil
}

// worthLoading: of the two that deny before anything happens, one is enough.
func (k *Kernel) worthLoading(name string) bool {
	switch {
	case slices.Contains(lsm, name):
		return !k.options.NoLSM && lsmListed()
	case slices.Contains(modify, name):
		return !k.options.NoLSM && !lsmListed()
	}
	return true
}

func refusal(err error) string {
	var ve *ebpf.VerifierError
	if errors.As(err, &ve) && len(ve.Log) > 0 {
		return fmt.Sprintf("%v: %s", ve.Cause, strings.Join(ve.Log[max(0, len(ve.Log)-3):], " / "))
	}
	return err.Error()
}

func privilegeHint(err error) string {
	if errors.Is(err, syscall.EPERM) {
		return " (run as root, with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)"
	}
	return ""
}

// configure draws the seed on the first load and tells the programs about this host.
func (k *Kernel) configure() error {
	var s settings
	m := k.coll.Maps["settings"]
	if err := m.Lookup(uint32(0), &s); err != nil {
		return fmt.Errorf("reading BPF settings: %w", err)
	}
	if s.Seed == 0 {
		var seed [8]byte
		rand.Read(seed[:])
		s.Seed = binary.LittleEndian.Uint64(seed[:]) | 1
	}
	k.hasher = Hasher(s.Seed)
	if err := k.readWatched(); err != nil {
		return err
	}
	s.HostMntNS = namespaceInode("/proc/1/ns/mnt")
	s.BackingBit = backingBit(k.features.Release)
	s.OwnTgid = uint32(os.Getpid())
	return k.putSettings(s)
}

func (k *Kernel) putSettings(s settings) error {
	if err := k.coll.Maps["settings"].Put(uint32(0), s); err != nil {
		return fmt.Errorf("writing BPF settings: %w", err)
	}
	return nil
}

func (k *Kernel) changeSettings(change func(*settings)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var s settings
	if err := k.coll.Maps["settings"].Lookup(uint32(0), &s); err != nil {
		return fmt.Errorf("reading BPF settings: %w", err)
	}
	change(&s)
	return k.putSettings(s)
}

func namespaceInode(path string) uint32 {
	var st syscall.Stat_t
	if syscall.Stat(path, &st) != nil {
		return 0
	}
	return uint32(st.Ino)
}

// backingBit is FMODE_BACKING: the kernel moved it in 6.12 when the file mode flags were put in order.
// Before 6.5 mappings of overlay files carry the shown path by themselves.
func backingBit(release string) uint32 {
	var major, minor int
	fmt.Sscanf(release, "%d.%d", &major, &minor)
	switch n := major*1000 + minor; {
	case n >= 6012:
		return 1 << 24
	case n >= 6005:
		return 1 << 25
	}
	return 0
}

func (k *Kernel) attachAlways() error {
	for _, name := range always {
		if err := k.attach(name); err != nil {
			return fmt.Errorf("attaching %s: %w%s", name, err, privilegeHint(err))
		}
	}
	k.features.LSM = k.attachLSM()
	return nil
}

// attachLSM attaches what can deny: the security-module programs where the kernel both takes and asks them (without
// "bpf" in its list of modules they attach and are never called), else those before its security functions.
func (k *Kernel) attachLSM() bool {
	if k.options.NoLSM {
		return false
	}
	names := modify
	if lsmListed() {
		names = lsm
	}
	for i, name := range names {
		if err := k.attach(name); err != nil {
			k.features.Refused[name] = err.Error()
			_ = k.want(false, names[:i]) // half of them would decide twice, beside the tracepoints
			return false
		}
	}
	return true
}

func lsmListed() bool {
	b, err := os.ReadFile("/sys/kernel/security/lsm")
	if errors.Is(err, fs.ErrNotExist) {
		if syscall.Mount("securityfs", "/sys/kernel/security", "securityfs", 0, "") == nil {
			b, _ = os.ReadFile("/sys/kernel/security/lsm")
		}
	}
	return slices.Contains(strings.Split(strings.TrimSpace(string(b)), ","), "bpf")
}

// attach attaches one program, or takes over its pinned link. Links are kept: one that nothing refers to is
// collected and detaches silently.
func (k *Kernel) attach(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.links[name] != nil {
		return nil
	}
	dir := k.pinDir("links")
	if dir != "" {
		if l, err := link.LoadPinnedLink(filepath.Join(dir, name), nil); err == nil {
			k.links[name] = l
			return nil
		}
	}
	program, call, _ := strings.Cut(name, "-")
	p := k.coll.Programs[program]
	if p == nil {
		return fmt.Errorf("the kernel refused it: %s", k.features.Refused[program])
	}
	l, err := k.attachProgram(name, call, p)
	if errors.Is(err, errNoCall) {
		return nil
	}
	if err != nil {
		return err
	}
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return errors.Join(err, l.Close())
		}
		if err := l.Pin(filepath.Join(dir, name)); err != nil {
			return errors.Join(fmt.Errorf("pinning: %w", err), l.Close())
		}
	}
	k.links[name] = l
	return nil
}

var cgroupHooks = map[string]ebpf.AttachType{
	"on_connect4": ebpf.AttachCGroupInet4Connect, "on_connect6": ebpf.AttachCGroupInet6Connect,
	"on_sendmsg4": ebpf.AttachCGroupUDP4Sendmsg, "on_sendmsg6": ebpf.AttachCGroupUDP6Sendmsg,
	"on_bind4": ebpf.AttachCGroupInet4Bind, "on_bind6": ebpf.AttachCGroupInet6Bind,
	"on_socket": ebpf.AttachCGroupInetSockCreate,
	"on_egress": ebpf.AttachCGroupInetEgress, "on_ingress": ebpf.AttachCGroupInetIngress,
}

// errNoCall: this processor's system calls have other names.
var errNoCall = errors.New("no such system call")

// attachReturn attaches to the tracepoint of one call's return.
func attachReturn(call string, p *ebpf.Program) (link.Link, error) {
	if err := mountTracefs(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(tracefs + "/events/syscalls/sys_exit_" + call); errors.Is(err, fs.ErrNotExist) {
		return nil, errNoCall
	}
	return link.Tracepoint("syscalls", "sys_exit_"+call, p, nil)
}

// mountTracefs brings up the file system that knows the tracepoints' numbers, where nobody has.
func mountTracefs() error {
	if _, err := os.Stat(tracefs + "/events"); err != nil {
		if err := syscall.Mount("tracefs", tracefs, "tracefs", 0, "mode=0700"); err != nil {
			return fmt.Errorf("mounting tracefs at %s: %w", tracefs, err)
		}
	}
	if _, err := os.Stat(tracefs + "/events/syscalls"); err != nil {
		return fmt.Errorf("looking for tracepoints of single system calls: %w; they come with a kernel that has CONFIG_FTRACE_SYSCALLS", err)
	}
	return nil
}

const tracefs = "/sys/kernel/tracing"

func (k *Kernel) attachProgram(name, call string, p *ebpf.Program) (link.Link, error) {
	if call != "" {
		return attachReturn(call, p)
	}
	if hook, ok := cgroupHooks[name]; ok {
		return link.AttachCgroup(link.CgroupOptions{Path: k.options.CgroupRoot, Attach: hook, Program: p})
	}
	if p.Type() == ebpf.LSM {
		return link.AttachLSM(link.LSMOptions{Program: p})
	}
	return link.AttachTracing(link.TracingOptions{Program: p})
}

func (k *Kernel) detach(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.links[name]
	if l == nil {
		return nil
	}
	delete(k.links, name)
	return errors.Join(ignoreUnpinned(l.Unpin()), l.Close())
}

func ignoreUnpinned(err error) error {
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Need attaches and detaches the programs that cost something at every system call of the host.
// learning: some container's system calls and capabilities are collected, or watched for rules.
// holding: some container is held to a profile.
func (k *Kernel) Need(learning, holding bool) error {
	code := (learning || holding) && !k.features.LSM
	return errors.Join(
		k.want(learning || code || (holding && !k.features.LSM), calls),
		k.want(holding && !k.features.LSM, faults),
		k.want(code, returns),
		k.wantFirst(learning, capables),
	)
}

func (k *Kernel) want(wanted bool, names []string) error {
	var errs []error
	for _, name := range names {
		if wanted {
			errs = append(errs, k.attach(name))
		} else {
			errs = append(errs, k.detach(name))
		}
	}
	return errors.Join(errs...)
}

func (k *Kernel) wantFirst(wanted bool, names []string) error {
	if !wanted {
		return k.want(false, names)
	}
	var errs []error
	for _, name := range names {
		err := k.attach(name)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Features says what was loaded.
func (k *Kernel) Features() Features { return k.features }

// Hasher hashes paths with this kernel's seed.
func (k *Kernel) Hasher() Hasher { return k.hasher }

// Close lets go of everything; what is pinned goes on deciding.
func (k *Kernel) Close() {
	for _, l := range k.links {
		l.Close()
	}
	if k.coll != nil {
		k.coll.Close()
	}
}

// Release takes everything out of the kernel: nothing is decided any more.
func (k *Kernel) Release() error {
	var errs []error
	for name := range k.links {
		errs = append(errs, k.detach(name))
	}
	k.Close()
	if k.options.Pin != "" {
		errs = append(errs, os.RemoveAll(k.options.Pin))
	}
	return errors.Join(errs...)
}

// ReleaseAll takes everything that any version pinned below a directory out of the kernel.
func ReleaseAll(pin string) error {
	if err := os.RemoveAll(pin); err != nil {
		return fmt.Errorf("removing pinned programs: %w", err)
	}
	return nil
}
