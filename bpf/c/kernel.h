/* The kernel's types and functions that we use, and nothing more of each than that: CO-RE finds
 * the real offsets when the programs are loaded, so one object serves every kernel. */
#pragma once
#include <linux/types.h>
#include <stdbool.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct { int counter; } atomic_t;
typedef struct { s64 counter; } atomic64_t;
typedef struct { u32 val; } kuid_t;

struct qstr {
	union {
		struct {
			u32 hash;
			u32 len;
		};
		u64 hash_len;
	};
	const unsigned char *name;
};
struct file_system_type { const char *name; };
struct super_block {
	u32 s_dev;
	unsigned long s_magic;
};
struct inode {
	unsigned short i_mode;
	unsigned long i_ino;
	u32 i_generation;
	unsigned int i_nlink;
	struct super_block *i_sb;
};
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};
struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
};
struct mnt_namespace;
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct mnt_namespace *mnt_ns;
};
struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};
struct file {
	struct path f_path;
	struct inode *f_inode;
	unsigned int f_mode;
	unsigned int f_flags;
};
struct backing_file {
	struct file file;
	struct path user_path;
};
struct ovl_inode {
	struct inode vfs_inode;
	struct dentry *__upperdentry;
};
struct pid;
struct proc_inode {
	struct pid *pid;
	struct inode vfs_inode;
};
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};
struct files_struct {
	atomic_t count;
	struct fdtable *fdt;
};
struct mm_struct {
	atomic_t mm_users;
	unsigned long arg_start;
	unsigned long arg_end;
	struct file *exe_file;
};
struct vm_area_struct {
	unsigned long vm_start;
	unsigned long vm_end;
	unsigned long vm_flags;
	struct file *vm_file;
	void *anon_vma;
};
struct ns_common { unsigned int inum; };
struct mnt_namespace { struct ns_common ns; };
struct nsproxy { struct mnt_namespace *mnt_ns; };
struct kernfs_node {
	const char *name;
	u64 id;
};
struct cgroup_root { int hierarchy_id; };
struct cgroup;
struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};
struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};
struct css_set { struct cgroup *dfl_cgrp; };
struct cred { kuid_t euid; };
struct seccomp { atomic_t filter_count; };
struct thread_info { u32 status; };
struct signal_struct { struct pid *pids[4]; };
struct task_struct {
	struct thread_info thread_info;
	int pid;
	int tgid;
	u64 start_boottime;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct mm_struct *mm;
	struct nsproxy *nsproxy;
	struct files_struct *files;
	const struct cred *real_cred;
	const struct cred *cred;
	struct css_set *cgroups;
	struct seccomp seccomp;
	struct signal_struct *signal;
	unsigned int personality;
	char comm[16];
};
struct linux_binprm {
	struct file *executable;
	struct file *file;
	struct mm_struct *mm;
	unsigned long p;
	int argc;
};
struct user_namespace;
struct bpf_iter_meta { void *seq; u64 session_id; u64 seq_num; };
struct sock_common {
	unsigned short skc_family;
	unsigned short skc_num;
	u16 skc_dport;
	u32 skc_daddr;
	struct { union { u8 u6_addr8[16]; } in6_u; } skc_v6_daddr;
};

#pragma clang attribute pop

#ifdef __TARGET_ARCH_x86
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
} __attribute__((preserve_access_index));
#else
struct user_pt_regs { u64 regs[31]; u64 sp, pc, pstate; };
struct pt_regs {
	u64 regs[31], sp, pc, pstate, orig_x0;
	s32 syscallno;
} __attribute__((preserve_access_index));
#endif

#define bpf_ksym_exists(sym) (!!(sym))

enum pid_type { PIDTYPE_PID, PIDTYPE_TGID, PIDTYPE_PGID, PIDTYPE_SID, PIDTYPE_MAX };
struct bpf_iter_task { u64 opaque[3]; } __attribute__((aligned(8)));
extern int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *task, unsigned int flags) __ksym __weak;
extern struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it) __ksym __weak;
extern void bpf_iter_task_destroy(struct bpf_iter_task *it) __ksym __weak;
extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym __weak;
extern void bpf_task_release(struct task_struct *p) __ksym __weak;
extern int bpf_send_signal_task(struct task_struct *task, int sig, enum pid_type type, u64 value) __ksym __weak;

/* A plain load of what a pointer names, for kernels that take our word for its type (6.2 and later); a checked copy for
 * the others. The copy is a call of three functions: at every opened file that adds up to more than all else. */
extern void *bpf_rdonly_cast(const void *obj, u32 btf_id) __ksym __weak;
#define TYPED(T, p) ((T *)bpf_rdonly_cast((void *)(p), bpf_core_type_id_kernel(T)))
#define SEE(T, p, a) (bpf_ksym_exists(bpf_rdonly_cast) ? TYPED(T, p)->a : BPF_CORE_READ((T *)(p), a))
#define SEE2(T, p, a, b) (bpf_ksym_exists(bpf_rdonly_cast) ? TYPED(T, p)->a->b : BPF_CORE_READ((T *)(p), a, b))

#define SIGKILL 9
#define SIGSTOP 19
#define EPERM 1
#define EBUSY 16
#define ENOENT 2

#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFREG 0100000
#define S_IFBLK 0060000

#define FMODE_WRITE 2
#define PROT_READ 1
#define PROT_WRITE 2
#define PROT_EXEC 4
#define VM_EXEC 4
#define MAP_PRIVATE 2
#define MAP_ANONYMOUS 0x20
#define MAP_POPULATE 0x8000
#define SHM_EXEC 0100000
#define READ_IMPLIES_EXEC 0x0400000
#define TS_COMPAT 2

#define OVERLAYFS_MAGIC 0x794c7630
#define TMPFS_MAGIC 0x01021994
#define RAMFS_MAGIC 0x858458f6
#define HUGETLBFS_MAGIC 0x958458f6
#define PROC_MAGIC 0x9fa0
#define SYSFS_MAGIC 0x62656572
#define CGROUP_MAGIC 0x27e0eb
#define CGROUP2_MAGIC 0x63677270
