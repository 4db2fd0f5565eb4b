/* Containers come and go: their cgroups. And the capabilities that are used in them. */
#pragma once
#include "call.h"

#define ID_LENGTH 64 /* of the container ids of Docker, containerd's CRI and CRI-O, in hexadecimal */

static __always_inline bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

/* Does a cgroup's name hold a container id? "ID", "docker-ID.scope", "cri-containerd-ID.scope". The last eight
 * characters of the id are looked at. */
__noinline int named_by_id(u64 name) {
	char text[128] = {};
	long n = bpf_probe_read_kernel_str(text, sizeof text, (void *)name) - 1;
	if (n < ID_LENGTH)
		return 0;
	u32 end = n;
	if (text[(end - 1) & 127] == 'e' && text[(end - 6) & 127] == '.')
		end -= 6;
	if (end < ID_LENGTH)
		return 0;
	for (u32 i = 1; i <= 8; i++)
		if (!is_hex(text[(end - i) & 127]))
			return 0;
	return 1;
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(on_cgroup, struct cgroup *cgrp, const char *path) {
	if (BPF_CORE_READ(cgrp, root, hierarchy_id) != 0)
		return 0;
	struct cgroup *parent = (struct cgroup *)BPF_CORE_READ(cgrp, self.parent);
	u64 id = BPF_CORE_READ(cgrp, kn, id), above = parent ? BPF_CORE_READ(parent, kn, id) : 0;
	u32 number = slot_of(above), one = 1;
	if (number != NO_SLOT) { /* made inside a container: it stays that container */
		if (bpf_map_update_elem(&cgroups, &id, &number, BPF_ANY))
			count(COUNTER_CGROUPS_FULL);
		count(COUNTER_GENERATION);
		return 0;
	}
	if (bpf_map_lookup_elem(&newborn, &above) || bpf_map_lookup_elem(&parents, &above) || named_by_id((u64)BPF_CORE_READ(cgrp, kn, name)))
		bpf_map_update_elem(&newborn, &id, &one, BPF_ANY);
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(on_cgroup_end, struct cgroup *cgrp, const char *path) {
	if (BPF_CORE_READ(cgrp, root, hierarchy_id) != 0)
		return 0;
	u64 id = BPF_CORE_READ(cgrp, kn, id);
	bpf_map_delete_elem(&newborn, &id);
	if (bpf_map_delete_elem(&cgroups, &id) == 0)
		count(COUNTER_GENERATION);
	return 0;
}

/* A task that acts under other credentials than its own is in the hands of the kernel: overlayfs works on its
 * layers with those of whoever mounted it, and checks capabilities that the container never had. */
static __always_inline int capability(int cap) {
	struct task_struct *t = bpf_get_current_task_btf();
	if (t->cred != t->real_cred)
		return 0;
	u32 number = slot_now();
	if (number == NO_SLOT)
		return 0;
	struct seen *s = seen_get(number);
	struct slot *slot = slot_get(number);
	if (!s || !slot || !(slot->flags & SLOT_LEARN) || (s->caps >> (cap & 63) & 1))
		return 0;
	if (!is_runtime(number))
		__sync_fetch_and_or(&s->caps, 1ULL << (cap & 63));
	return 0;
}

SEC("tp_btf/cap_capable")
int BPF_PROG(on_capable, const struct cred *cred, struct user_namespace *target, const struct user_namespace *capable, int cap, int ret) {
	return ret ? 0 : capability(cap);
}

#define CAP_OPT_NOAUDIT 2 /* a question, not a use */

SEC("fexit/cap_capable")
int BPF_PROG(on_capable_exit, const struct cred *cred, struct user_namespace *target, int cap, unsigned int opts, int ret) {
	return ret || (opts & CAP_OPT_NOAUDIT) ? 0 : capability(cap);
}
