/*
 * What programs of one network namespace read of TLS connections, as OpenSSL hands it to them: plain. One object for each
 * tap; the probes are on the library's file, which other containers may share, and look at the namespace first.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

typedef __u64 u64;
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#if defined(__TARGET_ARCH_arm64)
struct user_pt_regs { u64 regs[31]; u64 sp, pc, pstate; };
struct pt_regs { struct user_pt_regs user_regs; };
#else
struct pt_regs { unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss; };
#endif
struct ns_common { unsigned int inum; };
struct net { struct ns_common ns; };
struct nsproxy { struct net *net_ns; };
struct task_struct { struct nsproxy *nsproxy; };
struct in6_addr { union { __u32 u6_addr32[4]; } in6_u; };
struct sock_common {
	__u32 skc_daddr;
	__u16 skc_dport;
	unsigned short skc_family;
	struct in6_addr skc_v6_daddr;
};
struct sock { struct sock_common __sk_common; };
#pragma clang attribute pop

#define __VMLINUX_H__ /* the registers have the kernel's names above */
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define AF_INET 2
#define PIECE 4096
#define PIECES 4 /* a record of TLS has 16 KiB at most, and a read gives no more than one */

const volatile __u32 tls_namespace = 0;

struct address {
	__u32 addr[4];
	__u32 port; /* in the order of the network */
	__u32 family;
};

struct reading {
	u64 ssl, buffer, count; /* count: where SSL_read_ex says how much it was; 0: it is returned */
	struct address from;    /* whom the thread read from meanwhile */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct reading);
} tls_reading SEC(".maps"); /* by thread */

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct address);
} tls_last SEC(".maps"); /* by thread: whom it read from last, also outside the library's reads: a handshake brings the first request along */

struct piece {
	u64 ssl;
	__u32 process;
	__u32 size; /* of all pieces of this read; 0: the connection is over */
	__u32 at;
	__u32 here;
	struct address from;
	unsigned char data[PIECE];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} tls_pieces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, u64);
} tls_missed SEC(".maps");

const struct piece *unused_piece __attribute__((unused));

static __always_inline int ours(void) {
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	return BPF_CORE_READ(t, nsproxy, net_ns, ns.inum) == tls_namespace;
}

static __always_inline void miss(void) {
	__u32 zero = 0;
	u64 *n = bpf_map_lookup_elem(&tls_missed, &zero);
	if (n)
		__sync_fetch_and_add(n, 1);
}

static __always_inline int begin(u64 ssl, u64 buffer, u64 count) {
	if (!ours())
		return 0;
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct reading r = {.ssl = ssl, .buffer = buffer, .count = count};
	bpf_map_update_elem(&tls_reading, &tid, &r, BPF_ANY);
	return 0;
}

SEC("uprobe")
int BPF_KPROBE(tls_read, void *ssl, void *buffer) { return begin((u64)ssl, (u64)buffer, 0); }

SEC("uprobe")
int BPF_KPROBE(tls_read_ex, void *ssl, void *buffer, u64 size, void *count) { return begin((u64)ssl, (u64)buffer, (u64)count); }

static __always_inline void tell(struct reading *r, __u32 size) {
	for (__u32 i = 0; i < PIECES; i++) {
		__u32 at = i * PIECE;
		if (at >= size)
			return;
		__u32 here = size - at;
		if (here > PIECE)
			here = PIECE;
		struct piece *p = bpf_ringbuf_reserve(&tls_pieces, sizeof *p, 0);
		if (!p) {
			miss();
			return;
		}
		p->ssl = r->ssl;
		p->process = bpf_get_current_pid_tgid() >> 32;
		p->size = size;
		p->at = at;
		p->here = here;
		p->from = r->from;
		if (bpf_probe_read_user(p->data, here, (void *)(r->buffer + at)))
			p->here = 0;
		bpf_ringbuf_submit(p, 0);
	}
}

static __always_inline int end(struct pt_regs *ctx, int extended) {
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct reading *r = bpf_map_lookup_elem(&tls_reading, &tid);
	if (!r)
		return 0;
	struct reading mine = *r;
	bpf_map_delete_elem(&tls_reading, &tid);
	if (!mine.from.family) {
		struct address *last = bpf_map_lookup_elem(&tls_last, &tid);
		if (last)
			mine.from = *last;
	}
	int got = (int)PT_REGS_RC(ctx);
	u64 size = 0;
	if (got <= 0)
		return 0;
	if (!extended)
		size = got;
	else if (bpf_probe_read_user(&size, sizeof size, (void *)mine.count))
		return 0;
	if (size == 0)
		return 0;
	if (size > PIECE * PIECES) {
		miss();
		size = PIECE * PIECES;
	}
	tell(&mine, size);
	return 0;
}

SEC("uretprobe")
int BPF_KRETPROBE(tls_read_done) { return end(ctx, 0); }

SEC("uretprobe")
int BPF_KRETPROBE(tls_read_ex_done) { return end(ctx, 1); }

SEC("uprobe")
int BPF_KPROBE(tls_free, void *ssl) {
	if (!ours())
		return 0;
	struct piece *p = bpf_ringbuf_reserve(&tls_pieces, sizeof *p, 0);
	if (!p) {
		miss();
		return 0;
	}
	p->ssl = (u64)ssl;
	p->process = bpf_get_current_pid_tgid() >> 32;
	p->size = p->at = p->here = 0;
	bpf_ringbuf_submit(p, 0);
	return 0;
}

/* The kernel comes by here in the thread that has just read from sk. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(tls_peer, struct sock *sk) {
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	if (!ours())
		return 0;
	struct address from = {.family = sk->__sk_common.skc_family, .port = sk->__sk_common.skc_dport};
	if (from.family == AF_INET) {
		from.addr[0] = sk->__sk_common.skc_daddr;
	} else {
		from.addr[0] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[0];
		from.addr[1] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[1];
		from.addr[2] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[2];
		from.addr[3] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[3];
	}
	bpf_map_update_elem(&tls_last, &tid, &from, BPF_ANY);
	struct reading *r = bpf_map_lookup_elem(&tls_reading, &tid);
	if (r)
		r->from = from;
	return 0;
}
