/* Whose bytes are these? Only what lies in a read-only layer of the container's own image is the image's. */
#pragma once
#include "path.h"

__noinline int origin_of(u64 file, u32 root_dev) {
	struct file *f = (void *)file;
	if (!f)
		return ORIGIN_ANONYMOUS;
	struct path p = shown(f);
	struct inode *inode = SEE(struct dentry, p.dentry, d_inode), *real = SEE(struct file, f, f_inode);
	u32 magic = SEE2(struct inode, inode, i_sb, s_magic), dev = SEE2(struct inode, inode, i_sb, s_dev);
	if (magic == TMPFS_MAGIC || magic == RAMFS_MAGIC || magic == HUGETLBFS_MAGIC)
		return SEE(struct inode, inode, i_nlink) ? ORIGIN_TMPFS : ORIGIN_MEMFD;
	if (dev == root_dev) {
		if (magic != OVERLAYFS_MAGIC)
			return ORIGIN_UPPER; /* a root that is no overlay cannot tell: never called the image's */
		struct ovl_inode *oi = (void *)inode - bpf_core_field_offset(struct ovl_inode, vfs_inode);
		struct dentry *upper = BPF_CORE_READ(oi, __upperdentry);
		if (!upper)
			return ORIGIN_IMAGE;
		if (real != inode && BPF_CORE_READ(upper, d_inode) != real)
			return ORIGIN_IMAGE; /* mapped before the file was copied up: still the layer's bytes */
		return ORIGIN_UPPER;
	}
	if (magic == OVERLAYFS_MAGIC)
		return ORIGIN_NESTED;
	if (magic == PROC_MAGIC || magic == SYSFS_MAGIC || magic == CGROUP_MAGIC || magic == CGROUP2_MAGIC)
		return ORIGIN_KERNEL;
	return ORIGIN_MOUNT;
}

/* Does the task run where the container runtime does, i.e. has it not entered the container yet? */
static __always_inline bool in_runtime(struct task_struct *t, struct slot *slot) {
	u32 ns = t->nsproxy->mnt_ns->ns.inum;
	struct settings *s = settings_get();
	return ns == slot->runtime_mntns || (s && ns == s->host_mntns);
}

/* A file that was looked at before is known again by its inode and the name it was found by. */
static __always_inline struct file_key file_key_of(struct dentry *d, struct inode *inode) {
	struct file_key key = {
		.inode = (u64)inode, .entry = (u64)d, .name = SEE(struct dentry, d, d_name.hash_len), .ino = SEE(struct inode, inode, i_ino),
		.dev = SEE2(struct inode, inode, i_sb, s_dev), .generation = SEE(struct inode, inode, i_generation),
	};
	return key;
}

/* Has a file of an overlay been changed, or moved, since its image was made? Both copy it up first. */
static __always_inline bool is_copied_up(struct inode *inode) {
	struct ovl_inode *oi = (void *)inode - bpf_core_field_offset(struct ovl_inode, vfs_inode);
	return BPF_CORE_READ(oi, __upperdentry) != NULL;
}

/* The hash that is remembered of a file, 0 for none; one that is given is remembered. It has a frame of its own: the
 * way down to hash_name is as deep as kernels before 6.13 let it be. */
__noinline u64 hash_memory(u64 file, u64 hash) {
	struct path p = shown((void *)file);
	struct inode *inode = SEE(struct dentry, p.dentry, d_inode);
	if (SEE2(struct inode, inode, i_sb, s_magic) != OVERLAYFS_MAGIC || is_copied_up(inode))
		return 0;
	struct file_key key = file_key_of(p.dentry, inode);
	if (hash) {
		bpf_map_update_elem(&hashes, &key, &hash, BPF_ANY);
		return hash;
	}
	u64 *known = bpf_map_lookup_elem(&hashes, &key);
	return known ? *known : 0;
}

/* Hash of the path, in the image, of a file. Programs are asked for at every start: what an image has is remembered. */
__noinline u64 image_hash(u64 file) {
	u64 hash = hash_memory(file, 0);
	if (hash)
		return hash;
	struct chain *c = chain_take();
	if (!c)
		return 0;
	struct path p = shown((void *)file);
	climb(c, (u64)p.dentry, (u64)p.mnt, true);
	hash = hash_chain(c);
	chain_give(c);
	if (hash)
		hash_memory(file, hash);
	return hash;
}

static __always_inline u64 process_key(struct task_struct *t) {
	return mix(BPF_CORE_READ(t, tgid), BPF_CORE_READ(t, group_leader, start_boottime));
}

/* What the profile says of the program that the current task runs. */
__noinline u32 program_entry(u32 profile) {
	struct file *exe = NULL;
	bpf_core_read(&exe, sizeof exe, &bpf_get_current_task_btf()->mm->exe_file);
	if (!exe)
		return 0;
	u32 *entry = policy_find(profile, POLICY_EXEC, image_hash((u64)exe));
	if (!entry)
		return 0;
	if ((*entry & ENTRY_INTERPRETER) && (*entry & ENTRY_MULTICALL)) {
		u64 key = process_key(bpf_get_current_task_btf());
		if (bpf_map_lookup_elem(&tools, &key))
			return *entry & ~ENTRY_INTERPRETER;
	}
	return *entry;
}
