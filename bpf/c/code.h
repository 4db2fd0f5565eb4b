/* Code: nothing but the image's own bytes is ever mapped executable, and nothing without a file unless the
 * program was learned to do so (just-in-time compilers). Nothing runs between the entry of mmap or mprotect
 * and the return to user mode, so a kill at either end comes before the first foreign instruction; what shares
 * the address space or the descriptors is dealt with below. */
#pragma once
#include "exec.h"

enum { CALL_NONE, CALL_MAP, CALL_PROTECT, CALL_SHARED_MEMORY, CALL_OPEN };
enum { WATCH_CODE = 1 << 0, WATCH_OPEN = 1 << 1, WATCH_TELL = 1 << 2, WATCH_PATH0 = 1 << 3, WATCH_PATH1 = 1 << 4, WATCH_PATH2 = 1 << 5,
       WATCH_PATH3 = 1 << 6, WATCH_CLONE = 1 << 7, WATCH_CONNECT = 1 << 8, WATCH_SOCKET = 1 << 9, WATCH_CONTROL = 1 << 10 };

struct code { u32 root_dev; int origin; u64 end, file; };

/* Reason against one mapping's file; ORIGIN in *origin. */
static __always_inline int code_reason(int origin) {
	if (origin == ORIGIN_IMAGE)
		return REASON_NONE;
	return origin == ORIGIN_ANONYMOUS ? REASON_ANONYMOUS_CODE : REASON_FOREIGN_FILE;
}

static long code_vma(struct task_struct *t, struct vm_area_struct *v, struct code *c) {
	c->end = v->vm_end;
	struct file *f = v->vm_file;
	c->file = f ? number_of(f) : 0;
	c->origin = f ? origin_of(c->file, c->root_dev) : ORIGIN_ANONYMOUS;
	if (c->origin == ORIGIN_IMAGE && BPF_CORE_READ(v, anon_vma))
		c->origin = ORIGIN_ANONYMOUS; /* pages of the image that were written to are nobody's any more */
	return 0;
}

struct range { u64 addr, end; u32 root_dev; int origin; int busy; };
static long range_step(u32 i, struct range *r) {
	if (r->addr >= r->end || r->origin != ORIGIN_IMAGE)
		return 1;
	struct code c = {.root_dev = r->root_dev, .origin = ORIGIN_IMAGE};
	long err = bpf_find_vma(bpf_get_current_task_btf(), r->addr, code_vma, &c, 0);
	if (err == -EBUSY) {
		r->busy = 1;
		return 0;
	}
	if (err || !c.end) { /* a hole: the call fails there */
		r->addr = r->end;
		return 1;
	}
	r->origin = c.origin;
	r->addr = c.end;
	return 0;
}

/* Origin of the worst mapping in [addr, addr+len). A range that cannot be looked at (the lock stays taken, or
 * more mappings than anybody has) is anonymous: refused. */
__noinline int range_origin(u64 addr, u64 len, u32 root_dev) {
	struct range r = {.addr = addr, .end = addr + len, .root_dev = root_dev, .origin = ORIGIN_IMAGE};
	bpf_loop(20000, range_step, &r, 0);
	if (r.busy)
		count(COUNTER_BUSY);
	if (r.origin != ORIGIN_IMAGE)
		return r.origin;
	return r.addr < r.end ? ORIGIN_ANONYMOUS : ORIGIN_IMAGE;
}

struct spin { u64 until; };
static long spin_step(u32 i, struct spin *s) { return bpf_ktime_get_ns() >= s->until; }

/* Kill everything that shares the address space, not just the caller's threads, and keep the caller from
 * going on while the others die: a sibling made with CLONE_VM would else run what is being mapped. */
__noinline int kill_space(void) {
	struct task_struct *me = bpf_get_current_task_btf();
	struct mm_struct *mm = me->mm;
	bpf_send_signal(SIGKILL);
	if (!mm || BPF_CORE_READ(mm, mm_users.counter) <= 1)
		return 0;
	if (bpf_ksym_exists(bpf_iter_task_new) && bpf_ksym_exists(bpf_send_signal_task)) {
		struct bpf_iter_task it;
		struct task_struct *t;
		bpf_iter_task_new(&it, 0, 1 /* all threads */);
		while ((t = bpf_iter_task_next(&it)))
			if (t->mm == mm && t->tgid != me->tgid) {
				struct task_struct *held = bpf_task_acquire(t);
				if (held) {
					bpf_send_signal_task(held, SIGKILL, PIDTYPE_TGID, 0);
					bpf_task_release(held);
				}
			}
		bpf_iter_task_destroy(&it);
	}
	struct spin s = {bpf_ktime_get_ns() + 200000};
	bpf_loop(1 << 20, spin_step, &s, 0);
	return 0;
}

/* The system calls of interest and their arguments, whatever the entry. */
static __noinline int code_call(struct task_struct *t, struct pt_regs *regs, long nr, u64 *a) {
	if (!a)
		return CALL_NONE;
#ifdef __TARGET_ARCH_x86
	if (BPF_CORE_READ(t, thread_info.status) & TS_COMPAT) {
		a[0] = (u32)BPF_CORE_READ(regs, bx);
		a[1] = (u32)BPF_CORE_READ(regs, cx);
		a[2] = (u32)BPF_CORE_READ(regs, dx);
		a[3] = (u32)BPF_CORE_READ(regs, si);
		a[4] = (u32)BPF_CORE_READ(regs, di);
		if (nr == 192)
			return CALL_MAP;
		if (nr == 90) {
			u32 b[5] = {};
			bpf_probe_read_user(b, sizeof b, (void *)a[0]);
			for (int i = 0; i < 5; i++)
				a[i] = b[i];
			return CALL_MAP;
		}
		if (nr == 125 || nr == 380)
			return CALL_PROTECT;
		if (nr == 397 || (nr == 117 && (a[0] & 0xffff) == 21))
			return CALL_SHARED_MEMORY;
		if (nr == 5 || nr == 8 || nr == 295 || nr == 437)
			return CALL_OPEN;
		return CALL_NONE;
	}
	a[0] = BPF_CORE_READ(regs, di);
	a[1] = BPF_CORE_READ(regs, si);
	a[2] = BPF_CORE_READ(regs, dx);
	a[3] = BPF_CORE_READ(regs, r10);
	a[4] = BPF_CORE_READ(regs, r8);
	nr &= ~0x40000000L; /* x32 */
	if (nr == 9)
		return CALL_MAP;
	if (nr == 10 || nr == 329)
		return CALL_PROTECT;
	if (nr == 30)
		return CALL_SHARED_MEMORY;
	if (nr == 2 || nr == 85 || nr == 257 || nr == 437)
		return CALL_OPEN;
#else
	for (int i = 0; i < 5; i++)
		a[i] = BPF_CORE_READ(regs, regs[i]);
	a[0] = BPF_CORE_READ(regs, orig_x0);
	if (nr == 222)
		return CALL_MAP;
	if (nr == 226 || nr == 288)
		return CALL_PROTECT;
	if (nr == 196)
		return CALL_SHARED_MEMORY;
	if (nr == 56 || nr == 437)
		return CALL_OPEN;
#endif
	return CALL_NONE;
}

static __always_inline bool makes_code(struct task_struct *t, u64 prot) {
	return (prot & PROT_EXEC) || ((BPF_CORE_READ(t, personality) & READ_IMPLIES_EXEC) && (prot & PROT_READ));
}

/* Is it a foreign program that somebody approved? */
static __always_inline bool learned_foreign(u32 profile, struct file *f) {
	u32 *entry = policy_find(profile, POLICY_EXEC, image_hash((u64)f));
	return entry && (*entry & ENTRY_FOREIGN);
}

/* Decide on, tell of and punish one mapping. */
static __noinline int code_decide(u32 number, int origin, long nr, struct file *f, int backend) {
	struct slot *slot = slot_get(number);
	struct task_struct *t = bpf_get_current_task_btf();
	int reason = code_reason(origin);
	if (!slot || !reason || in_runtime(t, slot))
		return 0;
	if (origin == ORIGIN_UPPER && f && learned_foreign(slot->profile, f))
		return 0;
	if (reason == REASON_ANONYMOUS_CODE && (slot->flags & SLOT_ANONYMOUS) && (program_entry(slot->profile) & ENTRY_ANONYMOUS))
		return 0;
	int verdict = !(slot->flags & SLOT_EXEC) ? VERDICT_ALLOWED : slot->flags & SLOT_ENFORCE ? VERDICT_BLOCKED : VERDICT_WOULD_BLOCK;
	if (verdict == VERDICT_BLOCKED && backend == BACKEND_TRACEPOINT)
		kill_space();
	u32 repeats;
	struct file *exe = BPF_CORE_READ(t, mm, exe_file);
	u64 hash = exe ? image_hash((u64)exe) : 0;
	u64 window = verdict == VERDICT_BLOCKED ? 0 : 10 * SECOND;
	if (!worth_telling(number, mix(mix(hash, number), reason << 8 | origin), window, &repeats, BUDGET_BLOCKED))
		return verdict == VERDICT_BLOCKED;
	struct event *e = event_new(number, KIND_MEMORY);
	if (!e)
		return verdict == VERDICT_BLOCKED;
	e->verdict = verdict;
	e->reason = reason;
	e->origin = origin;
	e->backend = backend;
	e->nr = nr;
	e->hash = hash;
	e->repeats = repeats;
	if (f)
		event_path(e, (u64)f, origin == ORIGIN_UPPER);
	event_send(e);
	return verdict == VERDICT_BLOCKED;
}

static __noinline int code_enter(u32 number, struct pt_regs *regs, long nr) {
	struct slot *slot = slot_get(number);
	struct task_struct *t = bpf_get_current_task_btf();
	u64 a[5];
	int call = code_call(t, regs, nr, a);
	if (!slot || !call || call == CALL_OPEN)
		return 0;
	if (call == CALL_SHARED_MEMORY) {
		if ((a[2] & SHM_EXEC) || (BPF_CORE_READ(t, personality) & READ_IMPLIES_EXEC))
			code_decide(number, ORIGIN_MEMFD, nr, NULL, BACKEND_TRACEPOINT);
		return 0;
	}
	if (!makes_code(t, a[2]))
		return 0;
	if (call == CALL_PROTECT)
		return code_decide(number, range_origin(a[0], (a[1] + 4095) & ~4095ULL, slot->root_dev), nr, NULL, BACKEND_TRACEPOINT);
	if (a[3] & MAP_ANONYMOUS)
		return code_decide(number, ORIGIN_ANONYMOUS, nr, NULL, BACKEND_TRACEPOINT);
	struct file *f = fd_file(t, a[4]);
	if (!f)
		return 0;
	int origin = origin_of((u64)f, slot->root_dev);
	if (origin == ORIGIN_IMAGE && (a[2] & PROT_WRITE) && (a[3] & MAP_PRIVATE))
		origin = ORIGIN_ANONYMOUS;
	if (code_decide(number, origin, nr, f, BACKEND_TRACEPOINT))
		return 0;
	if (!(slot->flags & SLOT_EXEC) || BPF_CORE_READ(t, files, count.counter) == 1)
		return 0;
	/* Another thread can put a foreign file behind the descriptor before the kernel takes it: look again at the
	 * return, and until then at instruction faults. Populated mappings could be run before either. */
	if (a[3] & MAP_POPULATE)
		code_decide(number, ORIGIN_ANONYMOUS, nr, f, BACKEND_TRACEPOINT);
	u64 mm = (u64)t->mm, one = 1;
	bpf_map_update_elem(&armed, &mm, &one, BPF_ANY);
	return 0;
}

static __noinline int code_exit(u32 number, struct pt_regs *regs, long nr, long ret) {
	struct slot *slot = slot_get(number);
	struct task_struct *t = bpf_get_current_task_btf();
	u64 a[5], mm = (u64)t->mm;
	int call = code_call(t, regs, nr, a);
	if (!slot || (call != CALL_MAP && call != CALL_PROTECT) || !(slot->flags & SLOT_EXEC))
		return 0;
	if ((unsigned long)ret >= -4095UL) {
		if (call == CALL_MAP)
			bpf_map_delete_elem(&armed, &mm);
		return 0;
	}
	if (!makes_code(t, a[2]) || (call == CALL_MAP && (a[3] & MAP_ANONYMOUS)))
		return 0;
	if (call == CALL_MAP && BPF_CORE_READ(t, files, count.counter) == 1)
		return 0; /* nobody else could have changed the descriptor */
	if (call == CALL_PROTECT && BPF_CORE_READ(t, mm, mm_users.counter) == 1)
		return 0;
	code_decide(number, range_origin(call == CALL_MAP ? (u64)ret : a[0], (a[1] + 4095) & ~4095ULL, slot->root_dev), nr, NULL, BACKEND_TRACEPOINT);
	if (call == CALL_MAP)
		bpf_map_delete_elem(&armed, &mm);
	return 0;
}

/* The last line, against a mapping that was swapped in under a thread that is already running there. */
SEC("tp_btf/page_fault_user")
int BPF_PROG(on_fault, unsigned long addr, struct pt_regs *regs, unsigned long code) {
	struct task_struct *t = bpf_get_current_task_btf();
	u64 mm = (u64)t->mm;
	if (!(code & 16) || !bpf_map_lookup_elem(&armed, &mm))
		return 0;
	u32 number = slot_now();
	if (number == NO_SLOT)
		return 0;
	struct slot *slot = slot_get(number);
	if (!slot)
		return 0;
	struct code c = {.root_dev = slot->root_dev, .origin = ORIGIN_IMAGE};
	bpf_find_vma(t, addr, code_vma, &c, 0);
	if (c.origin != ORIGIN_IMAGE && c.origin != ORIGIN_ANONYMOUS)
		code_decide(number, c.origin, 0, (struct file *)c.file, BACKEND_TRACEPOINT);
	return 0;
}
