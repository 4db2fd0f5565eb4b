/*
 * Which connection of the layer-7 firewall each thread read from last: a process that it starts is of the same request.
 * One object of its own: it is attached while a firewall stands in somebody's path.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define AF_INET 2
#define MARK 0x6c37 /* sockets that the firewall connected to, as package intercept marks them */
#define KEPT 4      /* of one thread: one that serves many connections reads from many */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct in6_addr {
	union {
		__u32 u6_addr32[4];
	} in6_u;
};
struct sock_common {
	__u32 skc_daddr;
	__u16 skc_dport;
	unsigned short skc_family;
	struct in6_addr skc_v6_daddr;
};
struct sock {
	struct sock_common __sk_common;
	__u32 sk_mark;
};
struct task_struct {
	int pid;
};
#pragma clang attribute pop

struct read {
	__u64 time; /* since boot, as events have it */
	__u32 addr[4];
	__u32 port; /* in the order of the network */
	__u32 family;
};

struct reads {
	__u32 next;
	__u32 unused;
	struct read last[KEPT];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32); /* a thread, as the host counts */
	__type(value, struct reads);
} serve_reads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct reads);
} serve_blank SEC(".maps"); /* always zero: too large for the stack */

static __always_inline void fill(struct read *r, struct sock *sk) {
	r->time = bpf_ktime_get_boot_ns();
	r->family = sk->__sk_common.skc_family;
	r->port = sk->__sk_common.skc_dport;
	if (r->family == AF_INET) {
		r->addr[0] = sk->__sk_common.skc_daddr;
		r->addr[1] = r->addr[2] = r->addr[3] = 0;
		return;
	}
	r->addr[0] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[0];
	r->addr[1] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[1];
	r->addr[2] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[2];
	r->addr[3] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[3];
}

/* The kernel comes by here in the thread that has just read from sk. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(serve_read, struct sock *sk) {
	if (sk->sk_mark != MARK)
		return 0;
	__u32 tid = (__u32)bpf_get_current_pid_tgid(), zero = 0;
	struct reads *mine = bpf_map_lookup_elem(&serve_reads, &tid);
	if (!mine) {
		struct reads *blank = bpf_map_lookup_elem(&serve_blank, &zero);
		if (!blank || bpf_map_update_elem(&serve_reads, &tid, blank, BPF_NOEXIST))
			return 0;
		mine = bpf_map_lookup_elem(&serve_reads, &tid);
		if (!mine)
			return 0;
	}
	fill(&mine->last[mine->next++ % KEPT], sk); /* only this thread writes its own */
	return 0;
}

/* What is started belongs to what its starter served. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(serve_fork, struct task_struct *parent, struct task_struct *child) {
	__u32 tid = (__u32)bpf_get_current_pid_tgid(), born = child->pid;
	struct reads *its = bpf_map_lookup_elem(&serve_reads, &tid);
	if (its)
		bpf_map_update_elem(&serve_reads, &born, its, BPF_ANY);
	else
		bpf_map_delete_elem(&serve_reads, &born); /* of a thread that had the number before */
	return 0;
}
