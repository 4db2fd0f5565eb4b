/* Programs: held against the profile when the kernel has loaded the new image and before it has run one
 * of its instructions. */
#pragma once
#include "event.h"

static __always_inline struct file *fd_file(struct task_struct *t, u32 fd) {
	struct fdtable *table = t->files->fdt;
	if (fd >= table->max_fds)
		return NULL;
	struct file **array = (struct file **)table->fd, *f = NULL;
	bpf_probe_read_kernel(&f, sizeof f, array + fd);
	return f;
}

/* Hash of the base name of argv[0]: what a multi-call program goes by. Nobody else can write it: the
 * address space is new and its program has not run. Longer than 63 bytes is no applet of anybody. */
__noinline u64 applet_hash(void) {
	struct task_struct *t = bpf_get_current_task_btf();
	char arg[64] = {};
	u64 start = BPF_CORE_READ(t, mm, arg_start);
	long n = bpf_probe_read_user_str(arg, sizeof arg, (void *)start);
	if (n <= 1 || n >= sizeof arg) /* cut: what was not read may be the name */
		return 0;
	struct last_of slash = {.text = arg, .what = '/'};
	bpf_loop(63, last_step, &slash, 0);
	u32 base = slash.at;
	if (arg[base & 63] == '-') /* a login shell */
		base++;
	u32 len = n - 1;
	if (base >= len)
		return 0;
	return hash_name(0, number_of(arg) + (base & 63), (len - base) & 63);
}

/* Does an interpreter get a foreign file as its standard input? */
__noinline int stdin_flags(u32 root_dev) {
	struct file *in = fd_file(bpf_get_current_task_btf(), 0);
	if (!in)
		return 0;
	u16 mode = SEE2(struct file, in, f_inode, i_mode) & S_IFMT;
	if (mode == S_IFSOCK)
		return FLAG_STDIN_SOCKET;
	if (mode == S_IFREG && origin_of((u64)in, root_dev) != ORIGIN_IMAGE)
		return FLAG_STDIN_FILE;
	return 0;
}

/* The program interpreter (ld.so) that the kernel mapped by itself: the file under the first instruction. */
struct entry_check { u32 root_dev; int origin; };
static long entry_vma(struct task_struct *t, struct vm_area_struct *v, struct entry_check *c) {
	struct file *f = v->vm_file;
	if (f)
		c->origin = origin_of(number_of(f), c->root_dev);
	return 0;
}
struct entry_search { u64 ip; struct entry_check check; u32 found; };
static long entry_step(u32 i, struct entry_search *s) {
	struct entry_check c = s->check;
	if (bpf_find_vma(bpf_get_current_task_btf(), s->ip, entry_vma, &c, 0) == -EBUSY)
		return 0; /* somebody looks at the new address space through /proc */
	s->check = c;
	s->found = 1;
	return 1;
}
__noinline int entry_origin(u32 root_dev) {
	struct task_struct *t = bpf_get_current_task_btf();
	struct entry_check c = {.root_dev = root_dev, .origin = ORIGIN_IMAGE};
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(t);
#ifdef __TARGET_ARCH_x86
	u64 ip = BPF_CORE_READ(regs, ip);
#else
	u64 ip = BPF_CORE_READ(regs, pc);
#endif
	struct entry_search s = {.ip = ip, .check = c};
	bpf_loop(1000, entry_step, &s, 0);
	return s.found ? s.check.origin : ORIGIN_ANONYMOUS;
}

/* Is a script or program file allowed by itself, without looking at arguments? */
__noinline int judge_program(u32 profile, u64 hash, int origin, u32 *flags) {
	if (!flags)
		return REASON_NONE;
	u32 *entry = policy_find(profile, POLICY_EXEC, hash);
	*flags = entry ? *entry : 0;
	if (origin != ORIGIN_IMAGE && !(entry && (*entry & ENTRY_FOREIGN) && origin == ORIGIN_UPPER))
		return REASON_FOREIGN_FILE;
	return entry ? REASON_NONE : REASON_NOT_IN_PROFILE;
}

/* Seccomp filters that the task runs under. */
static __always_inline u32 filters_of(struct task_struct *t) {
	return BPF_CORE_READ(t, seccomp.filter_count.counter);
}

#define KEEPER_ALIVE (2 * SECOND)

/* Is the standard input one of the foreign files that the profile lets interpreters read? */
__noinline u32 stdin_learned(u32 profile) {
	struct file *in = fd_file(bpf_get_current_task_btf(), 0);
	struct chain *c = in ? chain_take() : NULL;
	if (!c)
		return 0;
	struct path p = shown(in);
	climb(c, (u64)p.dentry, (u64)p.mnt, false);
	u32 learned = (match_chain(c, profile, POLICY_SCRIPT) & ENTRY_FOREIGN) || match_chain(c, profile, POLICY_READ);
	chain_give(c);
	return learned;
}

__noinline int hold_fill(struct hold *h, u64 cgroup, u32 unknown) {
	if (!h)
		return 0;
	h->cgroup = cgroup;
	h->pid = BPF_CORE_READ(bpf_get_current_task_btf(), tgid);
	h->unknown = unknown;
	return 0;
}

/* Stop the task before its first instruction and tell the keeper, which lets it go on again. Only while the
 * keeper lives: nothing is ever stopped with nobody there to continue it. */
__noinline int hold_task(u64 cgroup, u32 unknown) {
	u32 zero = 0;
	u64 *alive = bpf_map_lookup_elem(&heartbeat, &zero);
	if (!alive || bpf_ktime_get_boot_ns() - *alive > KEEPER_ALIVE)
		return false;
	struct hold *h = bpf_ringbuf_reserve(&holds, sizeof *h, 0);
	if (!h) {
		count(COUNTER_HOLDS_LOST);
		return false;
	}
	hold_fill(h, cgroup, unknown);
	bool stopped = bpf_send_signal(SIGSTOP) == 0;
	if (stopped)
		bpf_ringbuf_submit(h, BPF_RB_FORCE_WAKEUP);
	else
		bpf_ringbuf_discard(h, 0);
	return stopped;
}

static __always_inline void exec_args(struct event *e, struct task_struct *t) {
	u64 start = BPF_CORE_READ(t, mm, arg_start), end = BPF_CORE_READ(t, mm, arg_end);
	u64 n = end - start;
	if (n > ARGS_ROOM)
		n = ARGS_ROOM;
	n &= 511;
	if (n > ARGS_ROOM)
		n = ARGS_ROOM;
	if (bpf_probe_read_user(e->text, n, (void *)start) == 0)
		e->args_len = n;
}

/* A process keeps what it was called as until it executes something else; its forks are interpreters again. */
static __always_inline void remember_tool(bool tool) {
	u64 key = process_key(bpf_get_current_task_btf());
	u8 yes = 1;
	if (tool)
		bpf_map_update_elem(&tools, &key, &yes, BPF_ANY);
	else
		bpf_map_delete_elem(&tools, &key);
}

/* What a program is called by, and what it gets as its input, held against the profile: reason against it. */
__noinline int start_reason(u32 profile, u64 hash, u32 entry, u32 flags) {
	if (entry & ENTRY_MULTICALL) {
		u32 *applet = policy_find(profile, POLICY_APPLET, mix(hash, applet_hash()));
		if (!applet)
			return REASON_NOT_IN_PROFILE;
		if (!(*applet & ENTRY_INTERPRETER))
			entry &= ~ENTRY_INTERPRETER;
		remember_tool(!(entry & ENTRY_INTERPRETER));
	}
	if ((entry & ENTRY_INTERPRETER) && (flags & FLAG_STDIN_FILE) && !stdin_learned(profile))
		return REASON_FOREIGN_SCRIPT;
	return REASON_NONE;
}

/* What makes two starts equal: the program, how it is called, and by whom. */
struct call_line { u64 at, end, h; };
static long call_line_step(u32 i, struct call_line *l) {
	u64 word[4] = {};
	if (l->at >= l->end)
		return 1;
	u64 n = l->end - l->at;
	bpf_probe_read_user(word, n < sizeof word ? n & 31 : sizeof word, (void *)l->at);
	l->h = mix(mix(mix(mix(l->h, word[0]), word[1]), word[2]), word[3]);
	l->at += sizeof word;
	return 0;
}
__noinline u64 start_key(u64 hash, u32 number, u32 flags) {
	struct task_struct *t = bpf_get_current_task_btf();
	struct call_line l = {.at = BPF_CORE_READ(t, mm, arg_start), .end = BPF_CORE_READ(t, mm, arg_end), .h = mix(mix(hash, number), flags)};
	bpf_loop(ARGS_ROOM / 32, call_line_step, &l, 0);
	u64 by[4] = {BPF_CORE_READ(t, cred, euid.val), l.end - l.at};
	bpf_core_read(&by[2], 16, &t->real_parent->comm);
	return mix(mix(mix(mix(l.h, by[0]), by[1]), by[2]), by[3]);
}

#define TOLD_STARTS 32 /* equal starts that are told one by one within a window; a service seldom makes more */

/* Is a start worth telling? A program that is started over and over in the same way is told as one. */
__noinline int start_worth(u32 number, u64 key, u32 *repeats) {
	u64 slot = of_life(number, mix(key, 0x57a27));
	u64 now = bpf_ktime_get_boot_ns();
	struct recent *r = bpf_map_lookup_elem(&recents, &slot);
	if (!repeats)
		return false;
	if (!r || now - r->time >= 10 * SECOND) {
		struct recent fresh = {.time = now};
		bpf_map_update_elem(&recents, &slot, &fresh, BPF_ANY);
		return worth_telling(number, 0, 0, repeats, BUDGET);
	}
	u32 told = r->count;
	__sync_fetch_and_add(&r->count, 1);
	if (told < TOLD_STARTS)
		return worth_telling(number, 0, 0, repeats, BUDGET);
	return worth_telling(number, key, 2 * SECOND, repeats, BUDGET);
}

static __always_inline int exec_judge(struct task_struct *t, struct linux_binprm *bprm) {
	u64 cgroup = bpf_get_current_cgroup_id();
	u32 number = slot_of(cgroup);
	struct settings *set = settings_get();
	if (!set)
		return 0;
	if (number == NO_SLOT) {
		/* The container's first program, not the runtime's: its parent is in another mount namespace. */
		if (set->hold_new && bpf_map_lookup_elem(&newborn, &cgroup) &&
		    BPF_CORE_READ(t, nsproxy, mnt_ns) != BPF_CORE_READ(t, real_parent, nsproxy, mnt_ns))
			hold_task(cgroup, 1);
		return 0;
	}
	struct slot *slot = slot_get(number);
	if (!slot)
		return 0;
	u64 mm = (u64)t->mm;
	bpf_map_delete_elem(&armed, &mm); /* of a process that had its address before */
	struct file *f = BPF_CORE_READ(bprm, file);
	bool outside = in_runtime(t, slot);
	bool entered = !outside && BPF_CORE_READ(t, nsproxy, mnt_ns) != BPF_CORE_READ(t, real_parent, nsproxy, mnt_ns);
	u64 hash = image_hash((u64)f);
	int origin = origin_of((u64)f, slot->root_dev), reason = REASON_NONE;
	u32 entry = 0, flags = stdin_flags(slot->root_dev);
	if (!outside && (slot->flags & SLOT_EXEC)) {
		reason = judge_program(slot->profile, hash, origin, &entry);
		if (!reason)
			reason = start_reason(slot->profile, hash, entry, flags);
		if (!reason && entry_origin(slot->root_dev) != ORIGIN_IMAGE && !(entry & ENTRY_FOREIGN))
			reason = REASON_FOREIGN_FILE;
	}
	int verdict = !reason ? VERDICT_ALLOWED : slot->flags & SLOT_ENFORCE ? VERDICT_BLOCKED : VERDICT_WOULD_BLOCK;
	if (verdict == VERDICT_BLOCKED)
		bpf_send_signal(SIGKILL);
	bool held = false;
	if (verdict != VERDICT_BLOCKED && !outside && (slot->flags & SLOT_COVER) && filters_of(t) < slot->filters)
		held = hold_task(cgroup, 0);

	u32 repeats, marks = flags | (outside ? FLAG_HOST_NAMESPACE : 0) | (held ? FLAG_HELD : 0) | (entered ? FLAG_ENTERED : 0);
	if (verdict ? !worth_telling(number, 0, 0, &repeats, BUDGET_BLOCKED) : !start_worth(number, start_key(hash, number, marks), &repeats))
		return 0;
	struct event *e = event_new(number, KIND_EXEC);
	if (!e)
		return 0;
	e->hash = hash;
	e->repeats = repeats;
	e->verdict = verdict;
	e->reason = reason;
	e->origin = origin;
	e->flags = marks;
	event_path(e, (u64)f, origin == ORIGIN_IMAGE || origin == ORIGIN_UPPER);
	exec_args(e, t);
	event_send(e);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *t, int old_pid, struct linux_binprm *bprm) {
	return exec_judge(t, bprm);
}
