/* The network, per container: whom it may talk to, where it may listen, which sockets it may make. */
#pragma once
#include "life.h"

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_RAW 3
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define TCP_LISTEN 10
#define PASS 1
#define DENY 0

static __always_inline void mapped(u8 *to, u32 v4) {
	__builtin_memset(to, 0, 10);
	to[10] = to[11] = 0xff;
	__builtin_memcpy(to + 12, &v4, 4);
}

__noinline int peer_allowed(struct peer_key *key, u16 port) {
	if (!key)
		return false;
	key->port = port;
	struct peer_key look = *key; /* kernels before 6.2 want a key of this function's own */
	if (bpf_map_lookup_elem(&peers, &look))
		return true;
	look.port = 0;
	return bpf_map_lookup_elem(&peers, &look) != NULL;
}

__noinline int net_tell(u32 number, u32 kind, int verdict, int reason, struct peer_key *key) {
	u32 repeats;
	if (!key)
		return 0;
	u64 *words = (u64 *)key;
	u64 h = mix(mix(mix(number, kind << 8 | verdict), words[1]), (u64)key->port << 8 | key->protocol);
	h = mix(h, *(u64 *)(key->addr + 8));
	if (!worth_telling(number, h, verdict == VERDICT_BLOCKED ? SECOND / 10 : 30 * SECOND, &repeats, BUDGET_BLOCKED))
		return 0;
	struct event *e = event_new(number, kind);
	if (!e)
		return 0;
	e->verdict = verdict;
	e->reason = verdict ? reason : REASON_NONE;
	e->backend = BACKEND_CGROUP;
	e->protocol = key->protocol;
	e->port = key->port;
	e->repeats = repeats;
	__builtin_memcpy(e->addr, key->addr, 16);
	event_send(e);
	return 0;
}

static __always_inline int net_verdict(struct slot *slot, bool allowed) {
	if (allowed || !(slot->flags & SLOT_NETWORK))
		return VERDICT_ALLOWED;
	return slot->flags & SLOT_ENFORCE ? VERDICT_BLOCKED : VERDICT_WOULD_BLOCK;
}

__noinline int going_out(struct peer_key *key, u16 port) {
	u32 number = slot_now();
	struct slot *slot = number == NO_SLOT ? NULL : slot_get(number);
	if (!slot || !key)
		return PASS;
	key->prefix = 64 + 128;
	key->profile = slot->profile;
	int verdict = net_verdict(slot, peer_allowed(key, port));
	net_tell(number, KIND_CONNECT, verdict, REASON_CONNECT, key);
	return verdict == VERDICT_BLOCKED ? DENY : PASS;
}

/* The verifier wants to see that an answer is 0 or 1; the compiler knows and leaves it out. */
static __always_inline int answer(int r) {
	asm volatile("%0 &= 1" : "+r"(r));
	return r;
}

static __always_inline u8 protocol_of(struct bpf_sock_addr *c) {
	return c->protocol ? c->protocol : c->type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
}

static __always_inline int out4(struct bpf_sock_addr *c) {
	struct peer_key key = {.protocol = protocol_of(c)};
	mapped(key.addr, c->user_ip4);
	return going_out(&key, bpf_ntohs(c->user_port));
}

static __always_inline int out6(struct bpf_sock_addr *c) {
	struct peer_key key = {.protocol = protocol_of(c)};
	u32 a[4] = {c->user_ip6[0], c->user_ip6[1], c->user_ip6[2], c->user_ip6[3]};
	__builtin_memcpy(key.addr, a, 16);
	return going_out(&key, bpf_ntohs(c->user_port));
}

SEC("cgroup/connect4") int on_connect4(struct bpf_sock_addr *c) { return answer(out4(c)); }
SEC("cgroup/connect6") int on_connect6(struct bpf_sock_addr *c) { return answer(out6(c)); }
SEC("cgroup/sendmsg4") int on_sendmsg4(struct bpf_sock_addr *c) { return answer(out4(c)); }
SEC("cgroup/sendmsg6") int on_sendmsg6(struct bpf_sock_addr *c) { return answer(out6(c)); }

static __always_inline bool may_listen(struct slot *slot, u8 protocol, u16 port) {
	return policy_find(slot->profile, POLICY_LISTEN, (u64)protocol << 16 | port) ||
	       (port >= 32768 && policy_find(slot->profile, POLICY_LISTEN, (u64)protocol << 16));
}

/* A bound port. Port 0 is the kernel's choice: a client's, or one that listen() is asked about again. */
__noinline int binding(struct peer_key *key, u16 port) {
	u32 number = slot_now();
	struct slot *slot = number == NO_SLOT ? NULL : slot_get(number);
	if (!slot || !key || !port)
		return PASS;
	key->port = port;
	int verdict = net_verdict(slot, may_listen(slot, key->protocol, port));
	if (verdict || key->protocol != IPPROTO_TCP) /* for TCP, listen() tells */
		net_tell(number, KIND_LISTEN, verdict, REASON_LISTEN, key);
	return verdict == VERDICT_BLOCKED ? DENY : PASS;
}

SEC("cgroup/bind4") int on_bind4(struct bpf_sock_addr *c) {
	struct peer_key key = {.protocol = protocol_of(c)};
	mapped(key.addr, c->user_ip4);
	return answer(binding(&key, bpf_ntohs(c->user_port)));
}
SEC("cgroup/bind6") int on_bind6(struct bpf_sock_addr *c) {
	struct peer_key key = {.protocol = protocol_of(c)};
	u32 a[4] = {c->user_ip6[0], c->user_ip6[1], c->user_ip6[2], c->user_ip6[3]};
	__builtin_memcpy(key.addr, a, 16);
	return answer(binding(&key, bpf_ntohs(c->user_port)));
}

struct sock {
	struct sock_common __sk_common;
	u8 sk_userlocks : 4;
} __attribute__((preserve_access_index));
#define SOCK_BINDPORT_LOCK 8 /* bind() named the port */

/* listen() on a socket that was never bound, or to port 0, takes any port, past the bind hooks. What is told and asked
 * for is then port 0: the next one will be another. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, const struct sock *sk, int oldstate, int newstate) {
	if (newstate != TCP_LISTEN)
		return 0;
	u32 number = slot_now();
	struct slot *slot = number == NO_SLOT ? NULL : slot_get(number);
	if (!slot)
		return 0;
	struct peer_key key = {.protocol = IPPROTO_TCP, .port = BPF_CORE_READ(sk, __sk_common.skc_num)};
	if (!(BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_BINDPORT_LOCK))
		key.port = 0;
	int verdict = net_verdict(slot, may_listen(slot, IPPROTO_TCP, key.port));
	if (verdict == VERDICT_BLOCKED)
		bpf_send_signal(SIGKILL);
	net_tell(number, KIND_LISTEN, verdict, REASON_LISTEN, &key);
	return 0;
}

/* Raw sockets of the internet families; the other families are the system call filter's. */
SEC("cgroup/sock_create") int on_socket(struct bpf_sock *s) {
	if (s->type != SOCK_RAW)
		return PASS;
	u32 number = slot_now();
	struct slot *slot = number == NO_SLOT ? NULL : slot_get(number);
	if (!slot)
		return PASS;
	struct peer_key key = {.protocol = s->protocol, .port = SOCK_RAW};
	int verdict = net_verdict(slot, policy_find(slot->profile, POLICY_SOCKET, (u64)SOCK_RAW << 8 | (u8)s->protocol) != NULL);
	net_tell(number, KIND_SOCKET, verdict, REASON_SOCKET, &key);
	return verdict == VERDICT_BLOCKED ? DENY : PASS;
}
