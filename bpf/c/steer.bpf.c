/*
 * New connections to some ports of one network namespace go to a proxy's listener there. Those that the proxy opens to
 * the application itself pass. One object of its own: it is attached to a namespace, not to the host.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define AF_INET 2
#define TCP 6

const volatile __u64 steer_stale = 240000000; /* nanoseconds: a proxy that gave no sign for so long answers nobody */

struct source {
	__u32 addr[4]; /* IPv4 in the first */
	__u32 port;    /* in the order of the network */
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} steer_listeners SEC(".maps"); /* 0: IPv4, 1: IPv6 */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u8);
} steer_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct source);
	__type(value, __u8);
} steer_own SEC(".maps"); /* sources from which the proxy dials */

struct steering {
	__u64 beat;   /* when the proxy last gave a sign */
	__u64 closed; /* 1: without a proxy nobody gets through */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steering);
} steer_state SEC(".maps");

static __always_inline int without(struct steering *s) { return s->closed ? SK_DROP : SK_PASS; }

SEC("sk_lookup")
int steer(struct bpf_sk_lookup *c) {
	__u32 zero = 0, port = c->local_port, family = c->family != AF_INET;
	if (c->protocol != TCP || !bpf_map_lookup_elem(&steer_ports, &port))
		return SK_PASS;
	if (c->ingress_ifindex <= 1 && (family ? !(c->local_ip6[0] | c->local_ip6[1] | c->local_ip6[2]) : (c->local_ip4 & 0xff) == 127))
		return SK_PASS; /* the workload to its own loopback address */
	struct source from = {.port = c->remote_port};
	if (family) {
		from.addr[0] = c->remote_ip6[0];
		from.addr[1] = c->remote_ip6[1];
		from.addr[2] = c->remote_ip6[2];
		from.addr[3] = c->remote_ip6[3];
	} else {
		from.addr[0] = c->remote_ip4;
	}
	if (bpf_map_lookup_elem(&steer_own, &from))
		return SK_PASS;
	struct steering *s = bpf_map_lookup_elem(&steer_state, &zero);
	if (!s)
		return SK_PASS;
	__u64 now = bpf_ktime_get_ns();
	if (now > s->beat && now - s->beat > steer_stale)
		return without(s);
	struct bpf_sock *listener = bpf_map_lookup_elem(&steer_listeners, &family);
	if (!listener)
		return without(s);
	long err = bpf_sk_assign(c, listener, 0);
	bpf_sk_release(listener);
	return err ? without(s) : SK_PASS;
}
