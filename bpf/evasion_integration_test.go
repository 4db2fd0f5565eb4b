//go:build integration

package bpf

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestKernel runs everything that shares one set of loaded programs: with the best back end of this kernel, and with
// its tracepoints alone.
func TestKernel(t *testing.T) {
	if tooOld() {
		return // TestLoad has it
	}
	im := newImage(t)
	for _, name := range []string{"best", "tracepoint"} {
		t.Run(name, func(t *testing.T) {
			if name == "tracepoint" && interruptible(release()) {
				t.Skipf("with tracepoints alone this kernel does not decide reliably, and Features.Limits says so: %v", limits())
			}
			h := newHall(t, im, name == "tracepoint")
			if name == "best" && !h.lsm {
				return // the tracepoints are the best that this kernel has
			}
			t.Run("ways", h.ways)
			t.Run("own", h.own)
			t.Run("files", h.files)
			t.Run("network", h.network)
			t.Run("calls", h.calls)
			t.Run("cgroups", h.cgroups)
			t.Run("hold", h.hold)
		})
	}
}

// hall is the kernel's programs and the image that the rooms of one test are made of.
type hall struct {
	kernel  *Kernel
	image   *image
	lsm     bool
	profile uint32
}

func newHall(t *testing.T, im *image, noLSM bool) *hall {
	t.Helper()
	k, err := Load(Options{CgroupRoot: cgroupRoot(t), NoLSM: noLSM})
	check(t, err)
	t.Cleanup(k.Close)
	if os.Getenv("BULKHEAD_KERNEL") != "" && k.Features().LSM == noLSM {
		t.Fatalf("BPF-LSM: %v, refused: %v", k.Features().LSM, k.Features().Refused)
	}
	check(t, k.Need(false, true))
	h := &hall{kernel: k, image: im, lsm: k.Features().LSM, profile: 1}
	h.watch(t)
	check(t, k.PutPolicy(1, profileEntries(k.Hasher())))
	return h
}

// watch asks for the system calls that decide on code and files, as the agent does.
func (h *hall) watch(t testing.TB) {
	if h.lsm {
		return
	}
	for _, nr := range []uint32{9, 10, 30, 329} {
		check(t, h.kernel.Watch(nr, WatchCode))
	}
	for _, nr := range []uint32{2, 85, 257, 437} {
		check(t, h.kernel.Watch(nr, WatchOpen))
	}
}

func profileEntries(h Hasher) []Entry {
	entries := []Entry{
		{PolicyExec, h.Path("/bin/busybox"), EntryInterpreter | EntryMultiCall},
		{PolicyApplet, h.Applet("/bin/busybox", "sh"), EntryInterpreter},
		{PolicyApplet, h.Applet("/bin/busybox", "cat"), 0},
		{PolicyExec, h.Path("/bin/jit"), EntryAnonymous},
		{PolicyExec, h.Path("/learned"), EntryForeign},
		{PolicyExec, h.Path("/opt/script"), 0},
		{PolicyScript, h.Path("/opt/script"), EntryExact},
		{PolicyScript, h.Path("/learned-script"), EntryExact | EntryForeign},
	}
	for _, path := range []string{"/bin/attack", "/bin/attack-dynamic", "/bin/tool", "/bin/tool-dynamic", "/bin/quiet-dynamic", "/bin/probe", "/lib64/ld-linux-x86-64.so.2"} {
		entries = append(entries, Entry{PolicyExec, h.Path(path), 0})
	}
	return entries
}

// roomSlot is the slot of each room, one after the other.
const roomSlot = 7

// enter binds a room and says what it is held to.
func (h *hall) enter(t testing.TB, r *room, flags uint32) {
	t.Helper()
	r.slot.Flags = flags
	r.slot.Profile = h.profile
	check(t, h.kernel.ClearSeen(roomSlot))
	check(t, h.kernel.SetSlot(roomSlot, r.slot))
	check(t, h.kernel.Bind(r.slot.Cgroup, roomSlot))
}

// leave forgets the room, so that the next one has the slot.
func (h *hall) leave(t testing.TB, r *room) {
	r.end()
	check(t, h.kernel.Unbind(r.slot.Cgroup))
}

// ways of running what is not the image's, in the order of ways.h, with what each needs to be tried at all.
var (
	dynamicWays = []string{"dlopen_dropped", "dlopen_changed", "dlopen_shm", "dlopen_volume"}
	waysTable   = strings.Fields(`
		exec_dropped exec_changed exec_renamed_over exec_copied exec_hard_link exec_symlink exec_symlinked_folder exec_symlink_race exec_shm exec_tmpfs
		exec_volume exec_memory exec_tmpfile exec_unlinked exec_loader_replaced exec_not_learned
		loader_dropped loader_shm loader_volume loader_preload preload dlopen_dropped dlopen_changed dlopen_shm dlopen_volume
		map_dropped map_shared map_changed map_volume map_shm map_memory map_memory_shared map_tmpfile map_unlinked map_implied map_zero_device
		protect_dropped protect_read_first protect_key protect_behind_own protect_contended image_page_written image_page_writable
		shared_memory shared_memory_protect int80_protect int80_map int80_old_map x32_map
		anonymous_mapped anonymous_protected anonymous_heap anonymous_stack anonymous_implied process_memory process_memory_int80 process_memory_of_task
		race_thread race_shared_space race_descriptor race_descriptor_thread race_descriptor_populated
		script_shebang script_shell script_changed script_changed_shebang script_volume script_shm script_memory script_input script_input_memory
		script_sourced script_descriptor script_renamed_shell script_login_shell script_profile script_environment
		applet_symlink applet_name applet_argument applet_folder applet_long_name applet_from_shell applet_shell applet_copied applet_hard_link`)
	ownTable = strings.Fields(`own_program own_program_symlink own_program_dynamic own_program_loader own_library own_preload own_mapping own_protect
		own_script own_shebang own_command own_tool_reads_foreign own_data learned_foreign learned_script`)
	jitTable = strings.Fields("anonymous_mapped anonymous_protected anonymous_heap image_page_written")
)

// attempts of each way: EVASION_N, e.g. 10000 for docs/benchmarks.md; few where the machine is emulated.
func attempts() int {
	if n, err := strconv.Atoi(os.Getenv("EVASION_N")); err == nil {
		return n
	}
	if os.Getenv("BULKHEAD_KERNEL") != "" {
		return 6
	}
	return 200
}

func chosen(table []string) []string {
	if only := os.Getenv("EVASION_WAYS"); only != "" {
		return strings.Fields(only)
	}
	return table
}

// try makes a room for attempts of a way: how often its code ran.
func (h *hall) try(t *testing.T, program, way string, n int, flags uint32) (marks int, said string) {
	t.Helper()
	r := newRoom(t, h.image, "", program, way, fmt.Sprint(n), "2")
	h.enter(t, r, flags)
	defer h.leave(t, r)
	said = r.run()
	return r.marks(), said
}

func programFor(way string) string {
	for _, w := range append(dynamicWays, "own_library") {
		if w == way {
			return "/bin/attack-dynamic"
		}
	}
	return "/bin/attack"
}

// ways: told of only, each way works at least once; enforced, it never does.
func (h *hall) ways(t *testing.T) {
	for _, way := range chosen(waysTable) {
		t.Run(way, func(t *testing.T) {
			tries := 2
			if strings.HasPrefix(way, "race_") { // seldom won
				tries = 20
			}
			before, said := h.try(t, programFor(way), way, tries, HoldExec)
			if strings.Contains(said, fmt.Sprintf("impossible %d", tries)) {
				t.Log("this kernel has no such way")
				return
			}
			if before == 0 && !strings.HasPrefix(way, "race_descriptor") { // not every time, on one processor
				t.Errorf("the way does not even work where it is allowed: %s", said)
			}
			n := attempts()
			ran, said := h.try(t, programFor(way), way, n, HoldExec|Enforce)
			switch {
			case ran != 0 && !h.lsm && (way == "race_shared_space" || interruptible(release())) && len(h.kernel.Features().Limits) > 0:
				t.Logf("foreign code ran %d times in %d attempts, as this kernel's limits say: %v", ran, n, h.kernel.Features().Limits)
			case ran != 0:
				t.Errorf("foreign code ran %d times in %d attempts: %s", ran, n, lastLine(said))
			}
			if !strings.Contains(said, "killed") {
				t.Errorf("the attempts were not made to their end: %q", said)
			}
			t.Logf("%-26s %6d attempts, %d successes (allowed: %d of %d); %s", way, n, ran, before, tries, lastLine(said))
		})
	}
}

func lastLine(text string) string { return text[strings.LastIndexByte(text, '\n')+1:] }

// own: the near twins of the ways, which have to go on working.
func (h *hall) own(t *testing.T) {
	const n = 4
	for _, way := range ownTable {
		t.Run(way, func(t *testing.T) {
			if ran, said := h.try(t, programFor(way), way, n, HoldExec|Enforce); ran != n {
				t.Errorf("ran %d times of %d: %q", ran, n, said)
			}
		})
	}
	for _, way := range jitTable {
		t.Run("jit_"+way, func(t *testing.T) {
			if ran, said := h.try(t, "/bin/jit", way, n, HoldExec|Enforce|Anonymous); ran != n {
				t.Errorf("ran %d times of %d: %q", ran, n, said)
			}
		})
	}
}
