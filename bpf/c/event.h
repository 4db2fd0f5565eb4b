/* How user space is told. Equal events within a window are folded into one; a container has a budget, so
 * that a flood in one does not hide another; what is lost is counted. */
#pragma once
#include "origin.h"

#define SECOND 1000000000ULL
#define BUDGET 1000 /* events a container may send in a second */
#define BUDGET_BLOCKED 2000 /* … when they tell of a block */

/* Is it the first of its kind within the window? If not it is counted, and told with the next one. */
static __always_inline bool is_fresh(struct seen *s, u64 key, u64 window, u64 now, u32 *repeats) {
	struct recent *r = bpf_map_lookup_elem(&recents, &key);
	if (r && now - r->time < window) {
		__sync_fetch_and_add(&r->count, 1);
		__sync_fetch_and_add(&s->folded, 1);
		return false;
	}
	if (r)
		*repeats = r->count;
	struct recent fresh = {.time = now};
	bpf_map_update_elem(&recents, &key, &fresh, BPF_ANY);
	return true;
}

/* What is equal is so within one container: the next one in its slot tells everything anew. */
static __always_inline u64 of_life(u32 number, u64 key) {
	struct slot *slot = slot_get(number);
	return slot ? mix(key, slot->cgroup) : key;
}

/* Count an event in; false: fold it away. */
__noinline int worth_telling(u32 slot, u64 key, u64 window, u32 *repeats, u32 budget) {
	struct seen *s = seen_get(slot);
	u64 now = bpf_ktime_get_boot_ns();
	if (!s || !repeats)
		return false;
	*repeats = 0;
	if (window && !is_fresh(s, of_life(slot, key), window, now, repeats))
		return false;
	u64 second = now / SECOND;
	if (s->second != second) {
		s->second = second;
		s->used = 0;
	}
	if (__sync_fetch_and_add(&s->used, 1) >= budget) {
		__sync_fetch_and_add(&s->folded, 1);
		return false;
	}
	return true;
}

/* A record of the ring with who, when and above whom filled in; NULL when the ring is full, which is counted. */
__noinline int event_fill(struct event *e, u32 slot, u32 kind) {
	struct task_struct *t = bpf_get_current_task_btf();
	if (!e)
		return 0;
	e->time = bpf_ktime_get_boot_ns();
	e->cgroup = bpf_get_current_cgroup_id();
	e->slot = slot;
	e->kind = kind;
	e->pid = BPF_CORE_READ(t, tgid);
	e->tid = BPF_CORE_READ(t, pid);
	e->uid = BPF_CORE_READ(t, cred, euid.val);
	e->started = BPF_CORE_READ(t, group_leader, start_boottime);
	bpf_get_current_comm(e->comm, sizeof e->comm);
	struct task_struct *up = BPF_CORE_READ(t, real_parent);
	for (int i = 0; i < ANCESTORS; i++) {
		struct task_struct *leader = BPF_CORE_READ(up, group_leader);
		u32 pid = BPF_CORE_READ(leader, tgid);
		if (!pid)
			break;
		e->up[i].pid = pid;
		e->up[i].started = BPF_CORE_READ(leader, start_boottime);
		bpf_core_read(e->up[i].comm, 16, &leader->comm);
		up = BPF_CORE_READ(leader, real_parent);
	}
	return 0;
}

static __always_inline struct event *event_new(u32 slot, u32 kind) {
	u64 *seq = counter(COUNTER_SEQ);
	struct seen *s = seen_get(slot);
	if (!seq || !s)
		return NULL;
	u64 number = __sync_fetch_and_add(seq, 1);
	struct event *e = bpf_ringbuf_reserve(&events, sizeof *e, 0);
	if (!e) {
		__sync_fetch_and_add(&s->lost, 1);
		count(COUNTER_LOST);
		return NULL;
	}
	__sync_fetch_and_add(&s->events, 1);
	__builtin_memset(e, 0, __builtin_offsetof(struct event, path));
	e->seq = number;
	event_fill(e, slot, kind);
	return e;
}

static __always_inline void event_send(struct event *e) {
	struct seen *s = seen_get(e->slot);
	if (s && e->verdict == VERDICT_BLOCKED)
		__sync_fetch_and_add(&s->blocked, 1);
	bpf_ringbuf_submit(e, 0);
}

/* Path of the file in the container, as text. */
__noinline int event_path(struct event *e, u64 file, u32 image) {
	if (!e || !file)
		return 0;
	struct chain *c = chain_take();
	if (!c)
		return 0;
	struct path p = shown((void *)file);
	climb(c, (u64)p.dentry, (u64)p.mnt, image);
	e->path_len = spell(c, e);
	if (c->deep)
		e->flags |= FLAG_PATH_CUT;
	chain_give(c);
	if (image)
		e->flags |= FLAG_IMAGE_PATH;
	return 0;
}
