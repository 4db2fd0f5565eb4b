/* System calls: the set that each container uses, kept in the kernel; the few that rules want to hear of;
 * and the entries and returns that the other parts decide at. */
#pragma once
#include "file.h"

#define NAMESPACE_FLAGS 0x7e020000UL
#define X32_BIT 0x40000000L

/* A process of the container runtime on its way into the container: it mounts, pivots and drops privileges
 * there with its own program, which is none of the container's files. */
__noinline int is_runtime(u32 number) {
	struct task_struct *t = bpf_get_current_task_btf();
	struct slot *slot = slot_get(number);
	if (!slot || in_runtime(t, slot))
		return true;
	struct file *exe = BPF_CORE_READ(t, mm, exe_file);
	if (!exe || BPF_CORE_READ(exe, f_inode, i_sb, s_dev) == slot->root_dev)
		return false;
	int origin = origin_of((u64)exe, slot->root_dev);
	char comm[8] = {};
	bpf_core_read(comm, 8, &t->comm);
	bool named = (comm[0] == 'r' && comm[1] == 'u' && comm[2] == 'n' && comm[3] == 'c') ||
		     (comm[0] == 'c' && comm[1] == 'r' && comm[2] == 'u' && comm[3] == 'n');
	return named && origin != ORIGIN_IMAGE && origin != ORIGIN_UPPER;
}

/* The word of a call's bit in a set. The compiler knows that it is below 8; kernels before 6.2 want to see it. */
static __always_inline u64 word_of(u32 nr) {
	u64 word = nr >> 6;
	asm volatile("%0 &= 7" : "+r"(word));
	return word;
}

/* Only what the container's own programs call is its behaviour; asked when a call is new, so seldom. */
static __always_inline void mark(u32 number, u64 *set, u32 nr) {
	u64 bit = 1ULL << (nr & 63), *word = &set[word_of(nr)];
	if (!(*word & bit) && !is_runtime(number))
		__sync_fetch_and_or(word, bit);
}

static __always_inline u64 argument(struct pt_regs *regs, int i) {
#ifdef __TARGET_ARCH_x86
	switch (i) {
	case 0: return BPF_CORE_READ(regs, di);
	case 1: return BPF_CORE_READ(regs, si);
	case 2: return BPF_CORE_READ(regs, dx);
	case 3: return BPF_CORE_READ(regs, r10);
	case 4: return BPF_CORE_READ(regs, r8);
	default: return BPF_CORE_READ(regs, r9);
	}
#else
	return i == 0 ? BPF_CORE_READ(regs, orig_x0) : BPF_CORE_READ(regs, regs[i]);
#endif
}

struct call {
	u64 a[6];
	u64 key, window, text, second; /* text, second: addresses of the path arguments, 0 for none */
	u32 number, nr, watch, skip;
};

/* What makes two calls equal, and where their paths are. */
__noinline int call_describe(struct call *c) {
	if (!c)
		return 0;
	u32 watch = c->watch;
	u64 flags = c->a[0];
	c->window = SECOND;
	c->key = mix(mix(c->number, c->nr), c->a[0]);
	if (watch & WATCH_SOCKET) {
		c->key = mix(c->key, c->a[1] & 15);
		c->window = 60 * SECOND;
		return 0;
	}
	if (watch & WATCH_CLONE) {
		if (c->nr == 435)
			bpf_probe_read_user(&flags, sizeof flags, (void *)c->a[0]);
		c->skip = !(flags & NAMESPACE_FLAGS);
		c->key = mix(mix(c->number, c->nr), flags);
		c->a[0] = flags;
		return 0;
	}
	if (watch & WATCH_CONNECT) {
		u16 family = 0;
		bpf_probe_read_user(&family, sizeof family, (void *)c->a[1]);
		c->skip = family != 1;
		c->text = c->a[1] + 2;
		c->window = 60 * SECOND;
	}
	if (watch & WATCH_PATH0)
		c->text = c->a[0];
	else if (watch & WATCH_PATH1)
		c->text = c->a[1];
	if (watch & WATCH_PATH3)
		c->second = c->a[3];
	else if (watch & WATCH_PATH2)
		c->second = c->a[2];
	else if ((watch & WATCH_PATH0) && (watch & WATCH_PATH1))
		c->second = c->a[1];
	if (c->text) {
		u64 words[4] = {};
		bpf_probe_read_user_str(words, sizeof words, (void *)c->text);
		c->key = mix(mix(mix(mix(mix(c->number, c->nr), words[0]), words[1]), words[2]), words[3]);
	}
	return 0;
}

__noinline int call_strings(struct event *e, u64 text, u64 second) {
	if (!e)
		return 0;
	long n = text ? bpf_probe_read_user_str(e->path, PATH_ROOM, (void *)text) : 0;
	e->path_len = n > 0 ? n - 1 : 0;
	n = second ? bpf_probe_read_user_str(e->text, ARGS_ROOM, (void *)second) : 0;
	e->args_len = n > 0 ? n - 1 : 0;
	return 0;
}

static __noinline int call_tell(u32 number, struct pt_regs *regs, long nr, u32 watch) {
	struct seen *s = seen_get(number);
	struct call c = {.number = number, .nr = nr, .watch = watch};
	for (int i = 0; i < 6; i++)
		c.a[i] = argument(regs, i);
	if (s && (watch & WATCH_SOCKET))
		__sync_fetch_and_or(&s->sockets, 1ULL << (c.a[0] & 63));
	call_describe(&c);
	if (c.skip || is_runtime(number))
		return 0;
	u32 repeats;
	if (!worth_telling(number, mix(c.key, bpf_get_current_pid_tgid() >> 32), c.window, &repeats, BUDGET))
		return 0;
	struct event *e = event_new(number, KIND_SYSCALL);
	if (!e)
		return 0;
	e->nr = nr;
	e->repeats = repeats;
	__builtin_memcpy(e->args, c.a, sizeof c.a);
	call_strings(e, c.text, c.second);
	event_send(e);
	return 0;
}

/* A system call outside the profile got past seccomp: the caller is not covered (yet). It is killed; for what
 * takes effect before that, seccomp is the wall and this the net under it. */
__noinline int call_outside(u32 number, long nr, u32 compat) {
	struct slot *slot = slot_get(number);
	struct task_struct *t = bpf_get_current_task_btf();
	if (!slot || is_runtime(number))
		return 0;
	struct file *exe = BPF_CORE_READ(t, mm, exe_file);
	if (!exe || BPF_CORE_READ(exe, f_inode, i_sb, s_dev) != slot->root_dev)
		return 0;
	bool enforce = slot->flags & SLOT_ENFORCE;
	if (enforce)
		bpf_send_signal(SIGKILL);
	u32 repeats;
	if (!worth_telling(number, mix(mix(number, nr), compat + 7), enforce ? 0 : 10 * SECOND, &repeats, BUDGET_BLOCKED))
		return 0;
	struct event *e = event_new(number, KIND_SYSCALL);
	if (!e)
		return 0;
	e->nr = nr;
	e->verdict = enforce ? VERDICT_BLOCKED : VERDICT_WOULD_BLOCK;
	e->reason = compat ? REASON_FOREIGN_ABI : REASON_SYSCALL;
	e->flags = compat ? FLAG_COMPAT : 0;
	e->repeats = repeats;
	event_send(e);
	return 0;
}

static __always_inline bool is_compat(struct task_struct *t) {
#ifdef __TARGET_ARCH_x86
	return t->thread_info.status & TS_COMPAT;
#else
	return false;
#endif
}

/* A call that needs a look: the rarer way, apart from the one that every call of a container takes. */
static __always_inline int call_look(u32 number, struct pt_regs *regs, long nr) {
	u32 bare = nr & 511;
	u32 *watch = bpf_map_lookup_elem(&watched, &bare);
	if (!watch || !*watch)
		return 0;
	if (*watch & WATCH_CODE)
		code_enter(number, regs, nr);
	else if (*watch & WATCH_TELL)
		call_tell(number, regs, nr, *watch);
	return 0;
}

static __always_inline int call_foreign(u32 number, struct pt_regs *regs, long nr) {
	struct slot *slot = slot_get(number);
	struct seen *s = seen_get(number);
	if (!slot || !s)
		return 0;
	mark(number, s->compat, nr & 511);
	if (slot->flags & (SLOT_SYSCALLS | SLOT_ENFORCE)) /* what they open is not looked at when they return */
		call_outside(number, nr, 1);
	if (slot->flags & (SLOT_EXEC | SLOT_LEARN))
		code_enter(number, regs, nr);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_enter, struct pt_regs *regs, long nr) {
	struct task_struct *t = bpf_get_current_task_btf();
	u32 number = slot_of_task(t);
	if (number == NO_SLOT)
		return 0;
	if (is_compat(t) || (u64)nr >= 512)
		return call_foreign(number, regs, nr);
	struct slot *slot = slot_get(number);
	if (!slot)
		return 0;
	u32 bare = nr & 511;
	u64 bit = 1ULL << (bare & 63), word = word_of(bare);
	if (slot->flags & SLOT_LEARN) {
		struct seen *s = seen_get(number);
		if (s)
			mark(number, s->syscalls, bare);
	} else if (!(slot->allowed[word] & bit) && (slot->flags & SLOT_SYSCALLS)) {
		call_outside(number, nr, 0);
	}
	return slot->watched[word] & bit ? call_look(number, regs, nr) : 0;
}

/* The returns of calls that open files or map code. Attached to the tracepoints of those calls: the one of all
 * returns costs every call of the host more. 32-bit calls have no tracepoints of their own, and in no profile. */
struct returned { u64 common; long nr; long ret; };

SEC("tracepoint/syscalls/sys_exit_openat")
int exit_open(struct returned *r) {
	if (r->ret < 0)
		return 0;
	u32 number = slot_now();
	if (number != NO_SLOT)
		file_opened(number, (u64)fd_file(bpf_get_current_task_btf(), r->ret), BACKEND_TRACEPOINT);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_mmap")
int exit_code(struct returned *r) {
	u32 number = slot_now();
	if (number != NO_SLOT)
		code_exit(number, (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf()), r->nr, r->ret);
	return 0;
}
