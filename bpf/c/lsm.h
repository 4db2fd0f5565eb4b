/* The same decisions where the kernel lets BPF be a security module: denied with EPERM before anything happens. */
#pragma once
#include "flow.h"

/* The two answers, in a way that the compiler cannot compute with: newer kernels want to see that an answer is an
 * error or 0. What another module denied stays denied. */
static __always_inline long denied(void) {
	long r;
	asm volatile("%0 = -1" : "=r"(r)); /* -EPERM */
	return r;
}
static __always_inline long passed(void) {
	long r;
	asm volatile("%0 = 0" : "=r"(r));
	return r;
}

static __always_inline struct slot *lsm_slot(u32 *number) {
	*number = slot_of(bpf_get_current_cgroup_id());
	return *number == NO_SLOT ? NULL : slot_get(*number);
}

/* Overlayfs opens the files of its layers by itself, under the credentials of whoever mounted it and through a mount
 * that is in no namespace, or, before 6.6, under the name of the file above with an inode that is not that name's: for
 * every open, or to copy a file up. What the container opened was asked about before. */
static __always_inline bool is_inner(struct task_struct *t, struct file *f) {
	if (t->cred == t->real_cred)
		return false;
	if (f->f_inode != f->f_path.dentry->d_inode)
		return true;
	struct vfsmount *v = f->f_path.mnt;
	struct mount *m = (void *)v - bpf_core_field_offset(struct mount, mnt);
	return (u64)BPF_CORE_READ(m, mnt_ns) >= -4095UL;
}

/* Is it a learned script? Its interpreter is asked about next. */
static __always_inline bool learned_script(u32 profile, u64 hash, int origin) {
	u32 *entry = policy_find(profile, POLICY_SCRIPT, hash);
	return entry && (origin == ORIGIN_IMAGE || (*entry & ENTRY_FOREIGN));
}

__noinline int exec_denied(u32 number, u64 file, u64 hash, u32 why) {
	u32 repeats, origin = why >> 8;
	if (!worth_telling(number, mix(hash, number), 0, &repeats, BUDGET_BLOCKED))
		return 0;
	struct event *e = event_new(number, KIND_EXEC);
	if (!e)
		return 0;
	e->verdict = VERDICT_BLOCKED;
	e->reason = why & 255;
	e->origin = origin;
	e->backend = BACKEND_LSM;
	e->hash = hash;
	event_path(e, file, origin == ORIGIN_IMAGE || origin == ORIGIN_UPPER);
	event_send(e);
	return 0;
}

static __always_inline long deny_exec(struct linux_binprm *bprm) {
	u32 number, entry = 0;
	struct slot *slot = lsm_slot(&number);
	struct task_struct *t = bpf_get_current_task_btf();
	if (!slot || !(slot->flags & SLOT_EXEC) || in_runtime(t, slot))
		return passed();
	struct file *f = BPF_CORE_READ(bprm, file);
	u64 hash = image_hash((u64)f);
	int origin = origin_of((u64)f, slot->root_dev);
	int reason = judge_program(slot->profile, hash, origin, &entry);
	if (reason && learned_script(slot->profile, hash, origin))
		reason = REASON_NONE;
	if (!reason || !(slot->flags & SLOT_ENFORCE)) /* monitoring: the tracepoint tells */
		return passed();
	exec_denied(number, (u64)f, hash, origin << 8 | reason);
	return denied();
}

/* A program whose file may run, by the name and with the input that it was given. The tracepoint asks the same, but
 * from 7.0 on tracepoints can be interrupted, and the kernel leaves a program out that is at work on the processor
 * already. This is asked when the kernel maps the program: too late for an error, early enough for a kill. */
static __always_inline bool deny_start(u32 number, struct slot *slot, struct file *f) {
	struct task_struct *t = bpf_get_current_task_btf();
	struct file *exe = BPF_CORE_READ(t, mm, exe_file);
	u32 both = SLOT_EXEC | SLOT_ENFORCE;
	if ((slot->flags & both) != both || !exe || BPF_CORE_READ(exe, f_inode) != BPF_CORE_READ(f, f_inode) || in_runtime(t, slot))
		return false;
	u64 hash = image_hash((u64)exe);
	u32 *entry = policy_find(slot->profile, POLICY_EXEC, hash);
	int reason = entry ? start_reason(slot->profile, hash, *entry, stdin_flags(slot->root_dev)) : REASON_NONE;
	if (!reason)
		return false;
	bpf_send_signal(SIGKILL);
	exec_denied(number, (u64)exe, hash, ORIGIN_IMAGE << 8 | reason);
	return true;
}

static __always_inline long deny_code(u32 number, int origin, struct file *f) {
	if (code_decide(number, origin, 0, f, BACKEND_LSM))
		return denied();
	return passed();
}

static __always_inline long deny_mmap(struct file *f, unsigned long prot, unsigned long flags) {
	u32 number;
	struct slot *slot = lsm_slot(&number);
	if (!slot || !makes_code(bpf_get_current_task_btf(), prot))
		return passed();
	if (!f)
		return deny_code(number, ORIGIN_ANONYMOUS, NULL);
	f = (void *)number_of(f);
	if (deny_start(number, slot, f))
		return denied();
	int origin = origin_of((u64)f, slot->root_dev);
	if (origin == ORIGIN_IMAGE && (prot & PROT_WRITE) && (flags & MAP_PRIVATE))
		origin = ORIGIN_ANONYMOUS;
	return deny_code(number, origin, f);
}

static __always_inline long deny_mprotect(struct vm_area_struct *v, unsigned long prot) {
	u32 number;
	struct slot *slot = lsm_slot(&number);
	if (!slot || !(prot & PROT_EXEC))
		return passed();
	struct file *f = BPF_CORE_READ(v, vm_file);
	int origin = f ? origin_of((u64)f, slot->root_dev) : ORIGIN_ANONYMOUS;
	if (origin == ORIGIN_IMAGE && BPF_CORE_READ(v, anon_vma))
		origin = ORIGIN_ANONYMOUS;
	return deny_code(number, origin, f);
}

/* Is there nothing to say of this open? The same as file_opened begins with, but by plain loads, while the verifier
 * still knows what the pointers are: most opens end here, and each checked read costs a call. */
static __always_inline bool is_dull(struct slot *slot, struct file *f) {
	struct inode *inode = f->f_inode;
	struct dentry *d = f->f_path.dentry;
	u16 type = inode->i_mode & S_IFMT;
	if (type != S_IFREG && type != S_IFBLK)
		return true;
	if (f->f_mode & FMODE_WRITE)
		return false;
	struct file_key key = {
		.inode = (u64)inode, .entry = (u64)d, .name = (u64)d->d_name.len << 32 | d->d_name.hash, .ino = inode->i_ino,
		.dev = inode->i_sb->s_dev, .generation = inode->i_generation,
	};
	return is_boring(slot, &key, inode);
}

static __always_inline long deny_open(struct file *f) {
	u32 number;
	if (is_inner(bpf_get_current_task_btf(), f))
		return passed();
	struct slot *slot = lsm_slot(&number);
	if (!slot || is_dull(slot, f))
		return passed();
	if (file_opened(number, number_of(f), BACKEND_LSM))
		return denied();
	return passed();
}

SEC("lsm/bprm_check_security")
int BPF_PROG(lsm_exec, struct linux_binprm *bprm, int ret) {
	return ret ? denied() : deny_exec(bprm);
}
SEC("lsm/mmap_file")
int BPF_PROG(lsm_mmap, struct file *f, unsigned long reqprot, unsigned long prot, unsigned long flags, int ret) {
	return ret ? denied() : deny_mmap(f, prot, flags);
}
SEC("lsm/file_mprotect")
int BPF_PROG(lsm_mprotect, struct vm_area_struct *v, unsigned long reqprot, unsigned long prot, int ret) {
	return ret ? denied() : deny_mprotect(v, prot);
}
SEC("lsm/file_open")
int BPF_PROG(lsm_open, struct file *f, int ret) {
	return ret ? denied() : deny_open(f);
}

/* Without "bpf" in the kernel's list of security modules those are never called: in front of the functions that call
 * all modules there is another place that can say no. */
SEC("fmod_ret/security_bprm_check")
int BPF_PROG(mod_exec, struct linux_binprm *bprm, int ret) {
	return ret ? denied() : deny_exec(bprm);
}
SEC("fmod_ret/security_mmap_file")
int BPF_PROG(mod_mmap, struct file *f, unsigned long prot, unsigned long flags, int ret) {
	return ret ? denied() : deny_mmap(f, prot, flags);
}
SEC("fmod_ret/security_file_mprotect")
int BPF_PROG(mod_mprotect, struct vm_area_struct *v, unsigned long reqprot, unsigned long prot, int ret) {
	return ret ? denied() : deny_mprotect(v, prot);
}
SEC("fmod_ret/security_file_open")
int BPF_PROG(mod_open, struct file *f, int ret) {
	return ret ? denied() : deny_open(f);
}
