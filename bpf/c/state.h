/* What the kernel side remembers, and what it tells. User space has the same structures in Go
 * (bpf/wire.go); a test compares sizes and offsets. */
#pragma once
#include "kernel.h"

#define SLOTS 1024
#define GLOBAL 0 /* the profile number of what holds for every workload: sensitive reads, guarded writes */

/* slot.flags */
enum {
	SLOT_LEARN = 1 << 0,    /* collect system calls and capabilities */
	SLOT_EXEC = 1 << 1,     /* hold executables and code against the profile */
	SLOT_FILES = 1 << 2,    /* hold opened files against the profile */
	SLOT_NETWORK = 1 << 3,  /* hold connections and ports against the profile */
	SLOT_SYSCALLS = 1 << 4, /* hold system calls against the profile */
	SLOT_ENFORCE = 1 << 5,  /* outside the profile: blocked; without it: told */
	SLOT_ANONYMOUS = 1 << 6,/* some executable of the profile makes anonymous memory executable */
	SLOT_COVER = 1 << 7,    /* every process has our seccomp filter: stop newcomers that have not */
};

/* One per container. User space writes it, programs read it. */
struct slot {
	u64 cgroup;
	u32 profile;       /* first part of every key in `policy`: a new profile is put in force by one write */
	u32 flags;
	u32 root_dev;      /* s_dev of the container's own overlay; 0: its root is no overlay */
	u32 runtime_mntns; /* where the container runtime itself runs: not held against the profile */
	u32 filters;       /* seccomp filters of a covered process, at least */
	u32 pad;
	u64 allowed[8];    /* system calls of the native ABI, one bit each */
	u64 watched[8];    /* those that somebody wants to look at */
};

/* One per container. Programs write it, user space reads it. */
struct seen {
	u64 syscalls[8];
	u64 compat[8]; /* 32-bit entry */
	u64 caps;
	u64 sockets;   /* address families given to socket() */
	u64 events;
	u64 lost;      /* events that found the ring full */
	u64 folded;    /* events that were equal to a recent one, or over the container's budget */
	u64 blocked;
	u64 second;    /* budget: the second it counts for, and what was used of it */
	u64 used;
};

enum kind { KIND_EXEC = 1, KIND_FILE, KIND_CONNECT, KIND_LISTEN, KIND_SYSCALL, KIND_MEMORY, KIND_SOCKET };
enum verdict { VERDICT_ALLOWED, VERDICT_WOULD_BLOCK, VERDICT_BLOCKED };
enum reason {
	REASON_NONE, REASON_FOREIGN_FILE, REASON_NOT_IN_PROFILE, REASON_FOREIGN_SCRIPT, REASON_ANONYMOUS_CODE,
	REASON_PROCESS_MEMORY, REASON_SYSCALL, REASON_FOREIGN_ABI, REASON_FILE_WRITE, REASON_FILE_READ,
	REASON_CONNECT, REASON_LISTEN, REASON_SOCKET, REASON_HOST_NAMESPACE,
};
enum origin { ORIGIN_IMAGE, ORIGIN_UPPER, ORIGIN_TMPFS, ORIGIN_MEMFD, ORIGIN_MOUNT, ORIGIN_NESTED, ORIGIN_ANONYMOUS, ORIGIN_KERNEL };
enum backend { BACKEND_TRACEPOINT, BACKEND_LSM, BACKEND_CGROUP };

/* event.flags */
enum {
	FLAG_WRITE = 1 << 0, FLAG_CREATED = 1 << 1, FLAG_STDIN_SOCKET = 1 << 2, FLAG_STDIN_FILE = 1 << 3,
	FLAG_ENTERED = 1 << 4, FLAG_HOST_NAMESPACE = 1 << 5, FLAG_PATH_CUT = 1 << 6, FLAG_IMAGE_PATH = 1 << 7,
	FLAG_HELD = 1 << 8, FLAG_COMPAT = 1 << 9, FLAG_SENSITIVE = 1 << 10,
};

#define ANCESTORS 6
#define PATH_ROOM 512
#define NAME_ROOM 256 /* longest name, so that the verifier sees that the last one fits */
#define ARGS_ROOM 384

struct ancestor {
	u64 started;
	u32 pid;
	char comm[16];
	u32 pad;
};

struct event {
	u64 time, seq, cgroup, started, hash;
	u32 slot, pid, tid, uid, repeats, nr;
	u8 kind, verdict, reason, origin, backend, protocol, pad0, pad1;
	u16 flags, path_len, args_len, port;
	u8 addr[16];
	u64 args[6];
	char comm[16];
	struct ancestor up[ANCESTORS];
	char path[PATH_ROOM + NAME_ROOM];
	char text[ARGS_ROOM]; /* exec: argv, zero between; file: the executable; syscall: second path */
};

/* A process that was stopped before its first instruction in the container. */
struct hold {
	u64 cgroup;
	u32 pid;
	u32 unknown; /* 1: nobody has said yet what this container is */
};

struct settings {
	u64 seed;         /* of the path hashes, so that nobody outside can aim at one */
	u32 hold_new;     /* stop the first process of every new container until user space knows it */
	u32 host_mntns;   /* mount namespace of the host's first process */
	u32 backing_bit;  /* FMODE_BACKING of this kernel */
	u32 own_tgid;     /* the agent */
	u32 flow_epoch;   /* which of the two tables of flows programs write: even or odd */
	u32 pad;
};

struct policy_key {
	u32 profile;
	u32 kind;
	u64 hash;
};
enum policy_kind { POLICY_EXEC = 1, POLICY_APPLET, POLICY_SCRIPT, POLICY_WRITE, POLICY_READ, POLICY_LISTEN, POLICY_SOCKET, POLICY_NAME };
enum {
	ENTRY_INTERPRETER = 1 << 0, ENTRY_MULTICALL = 1 << 1, ENTRY_ANONYMOUS = 1 << 2, ENTRY_FOREIGN = 1 << 3,
	ENTRY_EXACT = 1 << 4, ENTRY_CHILD = 1 << 5, ENTRY_DEEP = 1 << 6, ENTRY_SUFFIX = 1 << 7,
};

struct peer_key {
	u32 prefix; /* bits: 64 for what comes before the address, then those of the address */
	u32 profile;
	u16 port;
	u8 protocol;
	u8 pad;
	u8 addr[16];
};

struct recent { u64 time; u32 count; u32 pad; };
struct file_key { u64 inode; u64 ino; u64 entry; u64 name; u32 dev; u32 generation; };

#define MAP(NAME, TYPE, MAX, KEY, VALUE, FLAGS) \
	struct { __uint(type, TYPE); __uint(max_entries, MAX); __type(key, KEY); __type(value, VALUE); __uint(map_flags, FLAGS); } NAME SEC(".maps")

MAP(settings, BPF_MAP_TYPE_ARRAY, 1, u32, struct settings, 0);
MAP(heartbeat, BPF_MAP_TYPE_ARRAY, 1, u32, u64, 0);            /* boot time of the keeper's last sign of life */
MAP(cgroups, BPF_MAP_TYPE_HASH, 4 * SLOTS, u64, u32, 0);       /* cgroup id (nested ones too) → slot */
MAP(newborn, BPF_MAP_TYPE_LRU_HASH, 4096, u64, u32, 0);        /* cgroup id of a container nobody has named yet */
MAP(parents, BPF_MAP_TYPE_HASH, 256, u64, u32, 0);             /* cgroup ids below which engines make containers */
MAP(slots, BPF_MAP_TYPE_ARRAY, SLOTS, u32, struct slot, 0);
MAP(seen, BPF_MAP_TYPE_ARRAY, SLOTS, u32, struct seen, 0);
MAP(policy, BPF_MAP_TYPE_HASH, 131072, struct policy_key, u32, BPF_F_NO_PREALLOC);
MAP(peers, BPF_MAP_TYPE_LPM_TRIE, 16384, struct peer_key, u32, BPF_F_NO_PREALLOC);
MAP(recents, BPF_MAP_TYPE_LRU_HASH, 16384, u64, struct recent, 0);
MAP(boring, BPF_MAP_TYPE_LRU_HASH, 16384, struct file_key, u8, 0);  /* files of images that nobody needs to look at again */
MAP(hashes, BPF_MAP_TYPE_LRU_HASH, 8192, struct file_key, u64, 0);  /* the image paths of programs */
MAP(tools, BPF_MAP_TYPE_LRU_HASH, 16384, u64, u8, 0);           /* processes of an interpreter's file that are none: busybox called as tar */
MAP(armed, BPF_MAP_TYPE_LRU_HASH, 4096, u64, u64, 0);          /* mm with a code mapping in flight while its descriptors are shared */
MAP(watched, BPF_MAP_TYPE_ARRAY, 512, u32, u32, 0);            /* per system call: what to look at */
MAP(counters, BPF_MAP_TYPE_ARRAY, 16, u32, u64, 0);
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 22); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 16); } holds SEC(".maps");

enum { COUNTER_SEQ, COUNTER_LOST, COUNTER_HOLDS_LOST, COUNTER_BUSY, COUNTER_GENERATION, COUNTER_CGROUPS_FULL, COUNTER_FLOWS_FULL, COUNTER_HEADS_LOST, COUNTER_TURNS_LOST };

/* The last answer of `cgroups` on this processor: most calls come from the container that called last. */
struct last { u64 cgroup; u32 slot; u32 generation; };
MAP(lasts, BPF_MAP_TYPE_PERCPU_ARRAY, 1, u32, struct last, 0);

static __always_inline struct settings *settings_get(void) { u32 zero = 0; return bpf_map_lookup_elem(&settings, &zero); }
static __always_inline u64 *counter(u32 i) { return bpf_map_lookup_elem(&counters, &i); }
static __always_inline void count(u32 i) { u64 *v = counter(i); if (v) __sync_fetch_and_add(v, 1); }

#define NO_SLOT 0xffffffff

static __always_inline u32 slot_of(u64 cgroup) {
	u32 *slot = bpf_map_lookup_elem(&cgroups, &cgroup);
	return slot ? *slot : NO_SLOT;
}

/* Slot number of the container that runs now. The processor's last answer is read again after the
 * number was taken: a program that came between would have changed it. */
static __always_inline u32 slot_by(u64 cgroup) {
	u32 zero = 0;
	struct last *last = bpf_map_lookup_elem(&lasts, &zero);
	u64 *generation = counter(COUNTER_GENERATION);
	if (!last || !generation)
		return NO_SLOT;
	if (last->cgroup == cgroup && last->generation == (u32)*generation) {
		u32 slot = *(volatile u32 *)&last->slot;
		if (*(volatile u64 *)&last->cgroup == cgroup)
			return slot;
	}
	u32 slot = slot_of(cgroup);
	*(volatile u64 *)&last->cgroup = 0;
	last->generation = (u32)*generation;
	*(volatile u32 *)&last->slot = slot;
	*(volatile u64 *)&last->cgroup = cgroup;
	return slot;
}

static __always_inline u32 slot_now(void) { return slot_by(bpf_get_current_cgroup_id()); }

/* The same for what runs at every system call: where processors are kept from guessing returns, a helper costs as much
 * as the rest together. */
static __always_inline u32 slot_of_task(struct task_struct *t) { return slot_by(t->cgroups->dfl_cgrp->kn->id); }

static __always_inline struct slot *slot_get(u32 i) { return bpf_map_lookup_elem(&slots, &i); }
static __always_inline struct seen *seen_get(u32 i) { return bpf_map_lookup_elem(&seen, &i); }

static __always_inline u32 *policy_find(u32 profile, u32 kind, u64 hash) {
	struct policy_key key = {.profile = profile, .kind = kind, .hash = hash};
	return bpf_map_lookup_elem(&policy, &key);
}
