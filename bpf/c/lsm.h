/* The same decisions where the kernel lets BPF be a security module: denied with EPERM before anything happens. */
#pragma once
#include "net.h"

static __always_inline struct slot *lsm_slot(u32 *number) {
	*number = slot_of(bpf_get_current_cgroup_id());
	return *number == NO_SLOT ? NULL : slot_get(*number);
}

SEC("lsm/bprm_check_security")
int BPF_PROG(lsm_exec, struct linux_binprm *bprm, int ret) {
	u32 number, entry = 0;
	struct slot *slot = lsm_slot(&number);
	struct task_struct *t = bpf_get_current_task_btf();
	if (ret || !slot || !(slot->flags & SLOT_EXEC) || in_runtime(t, slot))
		return ret;
	struct file *f = BPF_CORE_READ(bprm, file);
	u64 hash = image_hash((u64)f);
	int origin = origin_of((u64)f, slot->root_dev);
	int reason = judge_program(slot->profile, hash, origin, &entry);
	if (reason == REASON_NOT_IN_PROFILE && policy_find(slot->profile, POLICY_SCRIPT, hash))
		reason = REASON_NONE; /* a learned script of the image: its interpreter is asked about next */
	if (!reason || !(slot->flags & SLOT_ENFORCE)) /* monitoring: the tracepoint tells */
		return 0;
	u32 repeats;
	if (!worth_telling(number, mix(hash, number), 0, &repeats, BUDGET_BLOCKED))
		return -EPERM;
	struct event *e = event_new(number, KIND_EXEC);
	if (!e)
		return -EPERM;
	e->verdict = VERDICT_BLOCKED;
	e->reason = reason;
	e->origin = origin;
	e->backend = BACKEND_LSM;
	e->hash = hash;
	event_path(e, (u64)f, origin == ORIGIN_IMAGE || origin == ORIGIN_UPPER);
	event_send(e);
	return -EPERM;
}

static __always_inline int lsm_code(u32 number, int origin, struct file *f) {
	return code_decide(number, origin, 0, f, BACKEND_LSM) ? -EPERM : 0;
}

SEC("lsm/mmap_file")
int BPF_PROG(lsm_mmap, struct file *f, unsigned long reqprot, unsigned long prot, unsigned long flags, int ret) {
	u32 number;
	if (ret || !(prot & PROT_EXEC))
		return ret;
	struct slot *slot = lsm_slot(&number);
	if (!slot)
		return 0;
	if (!f)
		return lsm_code(number, ORIGIN_ANONYMOUS, NULL);
	f = (void *)number_of(f);
	int origin = origin_of((u64)f, slot->root_dev);
	if (origin == ORIGIN_IMAGE && (prot & PROT_WRITE) && (flags & MAP_PRIVATE))
		origin = ORIGIN_ANONYMOUS;
	return lsm_code(number, origin, f);
}

SEC("lsm/file_mprotect")
int BPF_PROG(lsm_mprotect, struct vm_area_struct *v, unsigned long reqprot, unsigned long prot, int ret) {
	u32 number;
	if (ret || !(prot & PROT_EXEC))
		return ret;
	struct slot *slot = lsm_slot(&number);
	if (!slot)
		return 0;
	struct file *f = BPF_CORE_READ(v, vm_file);
	int origin = f ? origin_of((u64)f, slot->root_dev) : ORIGIN_ANONYMOUS;
	if (origin == ORIGIN_IMAGE && BPF_CORE_READ(v, anon_vma))
		origin = ORIGIN_ANONYMOUS;
	return lsm_code(number, origin, f);
}

SEC("lsm/file_open")
int BPF_PROG(lsm_open, struct file *f, int ret) {
	u32 number;
	struct slot *slot = lsm_slot(&number);
	if (ret || !slot)
		return ret;
	return file_opened(number, number_of(f), BACKEND_LSM) ? -EPERM : 0;
}
