/* Opened files: writes, and reads of what is sensitive, held against the profile when open returns (a process
 * that may not have the file is killed before it holds the descriptor) or, with BPF-LSM, before it is opened. */
#pragma once
#include "code.h"

#define FMODE_CREATED 0x100000

enum { PROC_OTHER, PROC_PRIVATE, PROC_MEMORY };

/* Files of /proc/PID that show or change another process. */
__noinline int proc_kind(u64 file) {
	struct task_struct *t = bpf_get_current_task_btf();
	struct file *f = (void *)file;
	struct inode *inode = BPF_CORE_READ(f, f_inode);
	struct proc_inode *pi = (void *)inode - bpf_core_field_offset(struct proc_inode, vfs_inode);
	struct pid *owner = BPF_CORE_READ(pi, pid), *self = BPF_CORE_READ(t, signal, pids[PIDTYPE_TGID]);
	char name[8] = {};
	bpf_probe_read_kernel_str(name, sizeof name, BPF_CORE_READ(f, f_path.dentry, d_name.name));
	if (!owner)
		return PROC_OTHER;
	if (name[0] == 'm' && name[1] == 'e' && name[2] == 'm' && !name[3])
		return PROC_MEMORY;
	if (owner == self)
		return PROC_OTHER;
	if (name[0] == 'e' && name[1] == 'n' && name[2] == 'v' && name[3] == 'i')
		return PROC_PRIVATE;
	if (name[0] == 'm' && name[1] == 'a' && name[2] == 'p' && name[3] == 's' && !name[4])
		return PROC_PRIVATE;
	return PROC_OTHER;
}

struct opened { u32 number; int reason; int verdict; u32 flags; int origin; u32 script; u32 dull; };

__noinline int open_judge(struct opened *o, u64 file, struct chain *c) {
	struct file *f = (void *)file;
	if (!o || !f || !c)
		return 0;
	struct slot *slot = slot_get(o->number);
	if (!slot)
		return 0;
	bool write = BPF_CORE_READ(f, f_mode) & FMODE_WRITE;
	u32 magic = BPF_CORE_READ(f, f_inode, i_sb, s_magic);
	int proc = magic == PROC_MAGIC ? proc_kind(file) : PROC_OTHER;
	if (write) {
		o->flags |= FLAG_WRITE | (BPF_CORE_READ(f, f_mode) & FMODE_CREATED ? FLAG_CREATED : 0);
		if (match_chain(c, GLOBAL, POLICY_WRITE))
			o->flags |= FLAG_SENSITIVE;
		if (proc == PROC_MEMORY) {
			o->flags |= FLAG_SENSITIVE;
			o->reason = REASON_PROCESS_MEMORY;
			return 1;
		}
		if (!match_chain(c, slot->profile, POLICY_WRITE))
			o->reason = REASON_FILE_WRITE;
		return 1;
	}
	if (proc == PROC_PRIVATE || match_chain(c, GLOBAL, POLICY_READ)) {
		o->flags |= FLAG_SENSITIVE;
		if (!match_chain(c, slot->profile, POLICY_READ))
			o->reason = REASON_FILE_READ;
		return 1;
	}
	if (o->origin == ORIGIN_IMAGE || o->origin == ORIGIN_KERNEL || !(program_entry(slot->profile) & ENTRY_INTERPRETER))
		return 0;
	o->script = 1;
	if (!(match_chain(c, slot->profile, POLICY_SCRIPT) & ENTRY_FOREIGN) && !match_chain(c, slot->profile, POLICY_READ))
		o->reason = REASON_FOREIGN_SCRIPT;
	return 1;
}

/* Is the part of the profile in force that the reason speaks of? */
static __always_inline bool in_force(struct slot *slot, int reason) {
	if (reason == REASON_FOREIGN_SCRIPT || reason == REASON_PROCESS_MEMORY)
		return slot->flags & SLOT_EXEC;
	return slot->flags & SLOT_FILES;
}

/* Files that were found harmless to read need no second look under the same name, unless an interpreter could run
 * bytes that are not the image's. */
static __always_inline bool is_boring(struct slot *slot, struct file_key *key, struct inode *inode) {
	if (!bpf_map_lookup_elem(&boring, key))
		return false;
	if (key->dev == slot->root_dev && !is_copied_up(inode))
		return true;
	return !(program_entry(slot->profile) & ENTRY_INTERPRETER);
}

__noinline int open_tell(struct opened *o, struct chain *c, int backend) {
	if (!o || !c)
		return 0;
	u32 repeats, number = o->number;
	bool blocked = o->verdict == VERDICT_BLOCKED;
	u64 window = blocked ? SECOND / 10 : 30 * SECOND;
	if (!worth_telling(number, mix(mix(c->hash, number), o->flags << 8 | o->verdict), window, &repeats, blocked ? BUDGET_BLOCKED : BUDGET))
		return 0;
	struct event *e = event_new(number, KIND_FILE);
	if (!e)
		return 0;
	e->verdict = o->verdict;
	e->reason = o->verdict ? o->reason : o->script ? REASON_FOREIGN_SCRIPT : REASON_NONE;
	e->origin = o->origin;
	e->flags = o->flags;
	e->backend = backend;
	e->hash = c->hash;
	e->repeats = repeats;
	e->path_len = spell(c, e);
	if (c->deep)
		e->flags |= FLAG_PATH_CUT;
	event_send(e);
	return 0;
}

/* Decide on one file; whether it may not be had. */
static __always_inline int open_decide(struct opened *o, u64 file, struct chain *c, int backend) {
	struct slot *slot = o ? slot_get(o->number) : NULL;
	if (!slot || !c)
		return false;
	struct path p = shown((void *)file);
	climb(c, (u64)p.dentry, (u64)p.mnt, false);
	if (!open_judge(o, file, c)) {
		o->dull = o->origin != ORIGIN_KERNEL; /* a file of /proc is harmless to its owner only */
		return false;
	}
	if (o->reason && in_force(slot, o->reason))
		o->verdict = slot->flags & SLOT_ENFORCE ? VERDICT_BLOCKED : VERDICT_WOULD_BLOCK;
	/* After the fact only a kill is left: too much for a write to an ordinary place, which is told of instead. */
	bool told = backend == BACKEND_TRACEPOINT && o->reason == REASON_FILE_WRITE && !(o->flags & FLAG_SENSITIVE);
	if (o->verdict == VERDICT_BLOCKED && told)
		o->verdict = VERDICT_WOULD_BLOCK;
	bool blocked = o->verdict == VERDICT_BLOCKED;
	if (blocked && backend == BACKEND_TRACEPOINT)
		bpf_send_signal(SIGKILL);
	open_tell(o, c, backend);
	return blocked;
}

/* One opened regular file or block device. Returns whether it may not be had. */
__noinline int file_opened(u32 number, u64 file, int backend) {
	struct file *f = (void *)file;
	struct slot *slot = slot_get(number);
	struct task_struct *t = bpf_get_current_task_btf();
	if (!slot || !f)
		return false;
	struct inode *inode = NULL;
	bpf_core_read(&inode, sizeof inode, &f->f_inode);
	u16 type = SEE(struct inode, inode, i_mode) & S_IFMT;
	if (type != S_IFREG && type != S_IFBLK)
		return false;
	bool write = SEE(struct file, f, f_mode) & FMODE_WRITE;
	struct file_key key = file_key_of(BPF_CORE_READ(f, f_path.dentry), inode);
	if (!write && is_boring(slot, &key, inode))
		return false;
	if (in_runtime(t, slot))
		return false;
	struct opened o = {.number = number, .origin = origin_of(file, slot->root_dev)};
	struct chain *c = chain_take();
	if (!c)
		return !!(slot->flags & SLOT_ENFORCE);
	int blocked = open_decide(&o, file, c, backend);
	chain_give(c);
	u8 yes = 1;
	if (o.dull)
		bpf_map_update_elem(&boring, &key, &yes, BPF_ANY);
	return blocked;
}
