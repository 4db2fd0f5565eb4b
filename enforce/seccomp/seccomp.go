// Package seccomp confines processes that are already running to the system calls of their
// profile. Start with [Compile], which makes the filter, and [Inject], which puts it on every
// thread of a process; a [Listener] then answers for the calls that the filter does not know.
//
// It promises that an injection neither ends a process nor leaves it stopped, that no blocked
// call of the process fails because of it, and that whatever is refused is refused with EPERM
// and never with ENOSYS, which programs take as "this kernel is old". It decides by number,
// architecture and address family only: all of them are copied by the kernel before the
// filter runs, so another thread cannot change them afterwards.
//
// It is not the place for policy over time; that is package keeper.
package seccomp

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

//go:generate go run gen.go

// OnDeny says what happens to a call outside the policy.
type OnDeny int

// The answers to a call outside the policy.
const (
	Notify OnDeny = iota // the listener is asked, so that the answer may change while the process runs
	Errno                // EPERM, decided in the kernel for good
	Kill                 // the process ends by SIGSYS
)

// Policy is what a process may call. What is not in it is denied.
type Policy struct {
	Syscalls []string // kernel names ("openat"), or "syscall_470" for one that has no name here yet
	Sockets  []string // families that socket and socketpair may ask for ("inet"), or "family_44"; "*" is any
	OnDeny   OnDeny
	Arch     string // "amd64" or "arm64"; empty: that of this program
	Mark     uint32 // told back by [Marked]: which installation a filter belongs to
}

// Always are the calls that every filter allows. Without the first four a process could not
// return from a signal handler, end, or go on with a sleep that was interrupted: it would spin
// on EPERM instead. The C library calls the fifth once in each new thread, and an error there
// ends the program.
var always = []string{"rt_sigreturn", "exit", "exit_group", "restart_syscall", "rseq"}

// Always returns the calls that every filter allows.
func Always() []string { return append([]string(nil), always...) }

// magic stands with the mark behind the last instruction of our filters.
const magic = 0x424b4844

// maxFilter is the kernel's limit on the instructions of one filter.
const maxFilter = 4096

// x32Bit is set in the numbers of x32 calls, which have amd64's architecture.
const x32Bit = 0x40000000

// Offsets in struct seccomp_data; both architectures are little-endian.
const (
	offNumber = 0
	offArch   = 4
	offArg0   = 16
)

// Compile makes the filter of a policy: a search tree over ranges of allowed numbers. A call
// by another entry than the machine's own (i386, x32, 32-bit ARM) is outside every policy,
// but for leaving the process, without which a refused program would never end.
func Compile(p Policy) ([]unix.SockFilter, error) {
	a, err := archOf(p.Arch)
	if err != nil {
		return nil, err
	}
	deny, err := action(p.OnDeny)
	if err != nil {
		return nil, err
	}
	numbers, err := a.numbersOf(p.Syscalls)
	if err != nil {
		return nil, err
	}
	families, any, err := familiesOf(p.Sockets)
	if err != nil {
		return nil, err
	}
	c := compiler{arch: a, deny: deny, families: families, anyFamily: any}
	prog := append(c.prologue(), c.tree(c.ranges(numbers), 0, math.MaxUint32)...)
	prog = append(prog, ret(magic), ret(p.Mark)) // never reached: how [Marked] knows our own
	if len(prog) > maxFilter {
		return nil, fmt.Errorf("compile system call filter: %d instructions, the kernel takes %d: name fewer calls", len(prog), maxFilter)
	}
	return prog, nil
}

// Marked reports whether a filter was made by [Compile], and its mark.
func Marked(prog []unix.SockFilter) (mark uint32, ok bool) {
	n := len(prog)
	if n < 3 || prog[n-2] != ret(magic) || prog[n-1].Code != unix.BPF_RET|unix.BPF_K {
		return 0, false
	}
	return prog[n-1].K, true
}

func action(d OnDeny) (uint32, error) {
	switch d {
	case Notify:
		return unix.SECCOMP_RET_USER_NOTIF, nil
	case Errno:
		return unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), nil
	case Kill:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	}
	return 0, fmt.Errorf("compile system call filter: unknown answer %d to denied calls", d)
}

type compiler struct {
	arch      *arch
	deny      uint32
	families  []uint32
	anyFamily bool
}

// kind is what a range of numbers gets.
type kind int

const (
	denied kind = iota
	allowed
	byFamily
)

// span is the kind of all numbers from first to the next span's first.
type span struct {
	first uint32
	kind  kind
}

// prologue turns away the other architectures and leaves the number in the accumulator.
func (c compiler) prologue() []unix.SockFilter {
	foreign := c.foreign()
	prog := []unix.SockFilter{load(offArch), jump(unix.BPF_JEQ, c.arch.audit, byte(len(foreign)), 0)}
	prog = append(prog, foreign...)
	prog = append(prog, load(offNumber))
	if c.arch.x32 {
		leave := c.x32()
		prog = append(prog, jump(unix.BPF_JGE, x32Bit, 0, byte(len(leave))))
		prog = append(prog, leave...)
	}
	return prog
}

func (c compiler) foreign() []unix.SockFilter {
	return append([]unix.SockFilter{load(offArch), jump(unix.BPF_JEQ, c.arch.compat, 0, 4), load(offNumber)},
		jump(unix.BPF_JEQ, compatExit, 1, 0),
		jump(unix.BPF_JEQ, c.arch.compatExitGroup, 0, 1),
		ret(unix.SECCOMP_RET_ALLOW),
		ret(c.deny))
}

func (c compiler) x32() []unix.SockFilter {
	return []unix.SockFilter{
		jump(unix.BPF_JEQ, x32Bit|unix.SYS_EXIT, 1, 0),
		jump(unix.BPF_JEQ, x32Bit|unix.SYS_EXIT_GROUP, 0, 1),
		ret(unix.SECCOMP_RET_ALLOW),
		ret(c.deny),
	}
}

// ranges joins neighbouring numbers of one kind. Numbers are sorted.
func (c compiler) ranges(numbers []uint32) []span {
	spans := []span{{0, denied}}
	add := func(first uint32, k kind) {
		if spans[len(spans)-1].first == first {
			spans = spans[:len(spans)-1]
		}
		if len(spans) == 0 || spans[len(spans)-1].kind != k {
			spans = append(spans, span{first, k})
		}
	}
	for _, n := range numbers {
		add(n, c.kindOf(n))
		add(n+1, denied)
	}
	return spans
}

func (c compiler) kindOf(number uint32) kind {
	if c.anyFamily || !c.arch.socket[number] {
		return allowed
	}
	return byFamily
}

// tree decides between spans by halves. Its left half lies right behind the comparison.
func (c compiler) tree(spans []span, low, high uint32) []unix.SockFilter {
	if len(spans) == 1 {
		return c.leaf(spans[0].kind)
	}
	middle := len(spans) / 2
	left, right := c.tree(spans[:middle], low, high), c.tree(spans[middle:], low, high)
	var prog []unix.SockFilter
	if len(left) <= math.MaxUint8 {
		prog = []unix.SockFilter{jump(unix.BPF_JGE, spans[middle].first, byte(len(left)), 0)}
	} else { // a conditional jump reaches 255 instructions, an unconditional one any number
		prog = []unix.SockFilter{jump(unix.BPF_JGE, spans[middle].first, 0, 1), {Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(left))}}
	}
	return append(append(prog, left...), right...)
}

func (c compiler) leaf(k kind) []unix.SockFilter {
	switch k {
	case allowed:
		return []unix.SockFilter{ret(unix.SECCOMP_RET_ALLOW)}
	case byFamily: // the kernel reads the family as an int: the upper half means nothing
		prog := []unix.SockFilter{load(offArg0)}
		for i, f := range c.families {
			prog = append(prog, jump(unix.BPF_JEQ, f, byte(len(c.families)-i), 0))
		}
		return append(prog, ret(c.deny), ret(unix.SECCOMP_RET_ALLOW))
	}
	return []unix.SockFilter{ret(c.deny)}
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func ret(value uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
}

func jump(how uint16, value uint32, yes, no byte) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | how | unix.BPF_K, K: value, Jt: yes, Jf: no}
}

// errName is wrapped by every error about a name that is not known.
var errName = errors.New("unknown name")

func (a *arch) numbersOf(names []string) ([]uint32, error) {
	set := map[uint32]bool{}
	for _, name := range append(Always(), names...) {
		number, ok := Number(a.name, name)
		if ok {
			set[number] = true
		} else if !a.elsewhere(name) {
			return nil, fmt.Errorf("compile system call filter: %w %q: use the kernel's name, or syscall_NUMBER", errName, name)
		}
	}
	return sorted(set), nil
}

func familiesOf(names []string) (families []uint32, any bool, err error) {
	set := map[uint32]bool{}
	for _, name := range names {
		if name == "*" {
			return nil, true, nil
		}
		family, ok := Family(name)
		if !ok {
			return nil, false, fmt.Errorf("compile system call filter: %w %q of an address family: use family_NUMBER", errName, name)
		}
		set[family] = true
	}
	return sorted(set), false, nil
}

func sorted(set map[uint32]bool) []uint32 {
	list := make([]uint32, 0, len(set))
	for n := range set {
		list = append(list, n)
	}
	sort.Slice(list, func(i, j int) bool { return list[i] < list[j] })
	return list
}

// numbered reads "syscall_470": how a thing without a name is written.
func numbered(prefix, name string, limit uint64) (uint32, bool) {
	text, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err == nil && n < limit
}
