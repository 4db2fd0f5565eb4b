/* Who talks to whom: packets are counted per edge in the kernel, and only the sums reach user space. A TCP socket counts
 * for itself and adds to its edge once a second and at its end, so that a packet costs no look-up of the edge. */
#pragma once
#include "net.h"
#include "segment.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define IPPROTO_ICMP 1
#define IPPROTO_ICMPV6 58
#define TCP_SYN_SENT 2
#define FLAG_FIN 1
#define FLAG_SYN 2
#define FLAG_RST 4
#define FLAG_ACK 16
#define EPHEMERAL 32768
#define DNS_PORT 53

enum { OUT, IN };
enum flow_role { FLOW_CLIENT = 1, FLOW_SERVER };

struct flow_key {
	u64 cgroup; /* of the container */
	u8 peer[16];
	u16 port; /* the server's; of ICMP: 0 */
	u8 protocol;
	u8 role;
	u32 pad;
};

/* What was seen since user space looked last. */
struct flow {
	u64 first, last; /* boot time */
	u64 bytes[2];    /* out and in, with IP headers */
	u64 packets[2];
	u64 opened;      /* connections asked for: SYNs, without those sent again; first datagrams of a socket */
	u64 established;
	u64 refused;     /* answered by a reset */
	u64 reset;       /* ended by one */
	u64 resent;      /* segments */
	u64 rtt;         /* sum of smoothed round-trip times, in microseconds … */
	u64 rtts;        /* … and of how many */
	u64 denied;      /* connections and datagrams that the policy in force cut */
	u64 would_deny;  /* … and that the staged one would have */
};

/* The first bytes that one side of an edge sent, and answers of name servers. */
#define HEAD_ROOM 512
struct head {
	struct flow_key key;
	u32 length;
	u32 direction;
	u8 data[HEAD_ROOM];
};

/* The beginning of what one side of a connection says after the other has spoken: a request, or an answer. */
#define TURN_ROOM 256
struct turn {
	struct flow_key key;
	u64 socket;
	u64 at; /* boot time */
	u32 length;
	u32 direction;
	u8 data[TURN_ROOM];
};

struct flow_sock {
	struct flow_key key;
	u64 flushed;
	u64 bytes[2], packets[2];
	u32 resent;
	u8 state; /* SOCK_… below */
	u8 headed;
	u8 verdict;     /* SEGMENT_… */
	u8 turn;        /* TURN_…; 0: nobody reads along */
	u32 generation; /* of the verdict; 0: there is none */
	u32 tick;       /* when the clock was looked at last */
};
enum { SOCK_COUNTED = 1 << 0, SOCK_CLOSING = 1 << 1 };
enum { TURN_NONE = 1, TURN_OUT, TURN_IN }; /* who spoke last */

#define FLOWS 131072
MAP(flows_even, BPF_MAP_TYPE_HASH, FLOWS, struct flow_key, struct flow, BPF_F_NO_PREALLOC);
MAP(flows_odd, BPF_MAP_TYPE_HASH, FLOWS, struct flow_key, struct flow, BPF_F_NO_PREALLOC);
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 19); } heads SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 20); } turns SEC(".maps");
MAP(read_along, BPF_MAP_TYPE_ARRAY, SLOTS, u32, u32, 0); /* containers whose turns are told */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct flow_sock);
} flow_socks SEC(".maps");

/* The edge in the table that user space does not read now. */
static __always_inline struct flow *flow_get(struct flow_key *key, u64 now) {
	struct settings *s = settings_get();
	void *table = s && (s->flow_epoch & 1) ? (void *)&flows_odd : (void *)&flows_even;
	struct flow *f = bpf_map_lookup_elem(table, key);
	if (!f) {
		struct flow fresh = {.first = now};
		bpf_map_update_elem(table, key, &fresh, BPF_NOEXIST);
		f = bpf_map_lookup_elem(table, key);
	}
	if (!f)
		count(COUNTER_FLOWS_FULL);
	else
		f->last = now;
	return f;
}

static __always_inline void add(u64 *to, u64 n) {
	if (n)
		__sync_fetch_and_add(to, n);
}

static __always_inline u64 take(u64 *from) { return __sync_lock_test_and_set(from, 0); }

/* Adds what a TCP socket has counted to its edge. */
__noinline int flow_flush(struct flow_sock *s, u64 now, u32 rtt, u32 resent) {
	if (!s)
		return 0;
	struct flow_key key = s->key;
	struct flow *f = flow_get(&key, now);
	if (!f)
		return 0;
	s->flushed = now;
	add(&f->bytes[OUT], take(&s->bytes[OUT]));
	add(&f->bytes[IN], take(&s->bytes[IN]));
	add(&f->packets[OUT], take(&s->packets[OUT]));
	add(&f->packets[IN], take(&s->packets[IN]));
	if (resent > s->resent)
		add(&f->resent, resent - s->resent);
	s->resent = resent;
	if (rtt) {
		add(&f->rtt, rtt);
		add(&f->rtts, 1);
	}
	return 0;
}

/* Where things are in a packet. */
struct packet {
	u64 now;
	struct flow_key key;
	u32 number;         /* slot, or NO_SLOT */
	u32 payload;        /* offset of the bytes that the application sent */
	u16 local, remote;  /* ports */
	u8 flags;           /* of TCP */
	u8 direction;
	u8 itself;          /* from an address to the same one, or the loopback device's */
	u8 pad;
	u32 wall;           /* flags: what this container is held to … */
	u32 generation;     /* … and of when that is */
};

/* What a container's socket sends or gets belongs to the container, also before user space has named it. */
static __always_inline bool owner(struct __sk_buff *skb, struct packet *p) {
	u64 cgroup = bpf_skb_cgroup_id(skb);
	p->number = slot_of(cgroup);
	if (p->number == NO_SLOT) {
		p->key.cgroup = cgroup;
		return bpf_map_lookup_elem(&newborn, &cgroup) != NULL;
	}
	struct slot *slot = slot_get(p->number);
	p->key.cgroup = slot ? slot->cgroup : cgroup;
	return true;
}

struct ip4 { u8 v_ihl, tos; u16 length, id, fragment; u8 ttl, protocol; u16 check; u32 from, to; };
struct ip6 { u32 v; u16 length; u8 next, hops; u8 from[16], to[16]; };
struct ports { u16 from, to; };

/* Reads a packet's headers; false: nothing that we count. */
static __always_inline bool packet_read(struct __sk_buff *skb, struct packet *p) {
	u32 at;
	bool first = true;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct ip4 h;
		if (bpf_skb_load_bytes(skb, 0, &h, sizeof h))
			return false;
		p->key.protocol = h.protocol;
		mapped(p->key.peer, p->direction == OUT ? h.to : h.from);
		p->itself = h.from == h.to || p->key.peer[12] == 127;
		at = (h.v_ihl & 15) * 4;
		first = !(h.fragment & bpf_htons(0x1fff));
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ip6 h;
		if (bpf_skb_load_bytes(skb, 0, &h, sizeof h))
			return false;
		p->key.protocol = h.next;
		__builtin_memcpy(p->key.peer, p->direction == OUT ? h.to : h.from, 16);
		p->itself = !__builtin_memcmp(h.from, h.to, 16);
		at = sizeof h;
	} else {
		return false;
	}
	p->payload = at + 8;
	if (!first || (p->key.protocol != IPPROTO_TCP && p->key.protocol != IPPROTO_UDP))
		return true;
	struct ports ports;
	if (bpf_skb_load_bytes(skb, at, &ports, sizeof ports))
		return false;
	p->local = bpf_ntohs(p->direction == OUT ? ports.from : ports.to);
	p->remote = bpf_ntohs(p->direction == OUT ? ports.to : ports.from);
	if (p->key.protocol == IPPROTO_TCP) {
		u16 word; /* length of the header, and the flags */
		if (bpf_skb_load_bytes(skb, at + 12, &word, sizeof word))
			return false;
		p->flags = bpf_ntohs(word) & 63;
		p->payload = at + (bpf_ntohs(word) >> 12) * 4;
	}
	return true;
}

__noinline int head_fill(struct head *e, struct packet *p, u32 length) {
	if (!e || !p)
		return 0;
	e->key = p->key;
	e->direction = p->direction;
	e->length = length;
	return 0;
}

/* Tells the first bytes of an edge, at most once a minute, and all answers of name servers within the budget. */
__noinline int flow_head(struct __sk_buff *skb, struct packet *p) {
	u32 repeats, length;
	if (!skb || !p || p->number == NO_SLOT || skb->len <= p->payload)
		return 0;
	length = skb->len - p->payload;
	struct flow_key *key = &p->key;
	u64 *words = (u64 *)key->peer;
	u64 h = mix(mix(mix(key->cgroup, words[0]), words[1]), (u64)p->direction << 32 | (u64)key->role << 24 | (u64)key->protocol << 16 | key->port);
	bool names = key->protocol == IPPROTO_UDP && key->port == DNS_PORT && p->direction == IN;
	if (!worth_telling(p->number, h, names ? 0 : 60 * SECOND, &repeats, BUDGET_BLOCKED))
		return 0;
	struct head *e = bpf_ringbuf_reserve(&heads, sizeof *e, 0);
	if (!e) {
		count(COUNTER_HEADS_LOST);
		return 0;
	}
	if (length > HEAD_ROOM)
		length = HEAD_ROOM;
	head_fill(e, p, length);
	u32 last = length - 1;
	asm volatile("" : "+r"(last)); /* the verifier wants to see the bounds */
	if (bpf_skb_load_bytes(skb, p->payload, e->data, (last & (HEAD_ROOM - 1)) + 1))
		bpf_ringbuf_discard(e, 0);
	else
		bpf_ringbuf_submit(e, 0);
	return 0;
}

__noinline int turn_fill(struct turn *e, struct packet *p, u64 socket, u32 length) {
	if (!e || !p)
		return 0;
	e->key = p->key;
	e->direction = p->direction;
	e->socket = socket;
	e->at = p->now;
	e->length = length;
	return 0;
}

/* Tells the beginning of a turn. */
__noinline int flow_turn(struct __sk_buff *skb, struct packet *p) {
	if (!skb || !p || skb->len <= p->payload)
		return 0;
	u32 length = skb->len - p->payload;
	struct turn *e = bpf_ringbuf_reserve(&turns, sizeof *e, 0);
	if (!e) {
		count(COUNTER_TURNS_LOST);
		return 0;
	}
	if (length > TURN_ROOM)
		length = TURN_ROOM;
	turn_fill(e, p, bpf_get_socket_cookie(skb), length);
	u32 last = length - 1;
	asm volatile("" : "+r"(last));
	if (bpf_skb_load_bytes(skb, p->payload, e->data, (last & (TURN_ROOM - 1)) + 1))
		bpf_ringbuf_discard(e, 0);
	else
		bpf_ringbuf_submit(e, 0);
	return 0;
}

/* Whether somebody reads along is asked as often as the clock. */
static __always_inline void turn_look(struct flow_sock *s, u32 number) {
	u32 *on = number == NO_SLOT ? NULL : bpf_map_lookup_elem(&read_along, &number);
	if (!on || !*on)
		s->turn = 0;
	else if (!s->turn)
		s->turn = TURN_NONE;
}

/* Some hundredths of a second, of a clock that costs nothing to read: often enough to look at the one that does. */
static __always_inline u32 tick_now(void) { return bpf_jiffies64() >> 5; }

static __always_inline u64 segments(struct __sk_buff *skb) { return skb->gso_segs > 1 ? skb->gso_segs : 1; }

/* Which side opened: what the first packet says, or else the port that looks like a server's. */
static __always_inline u8 role_of(struct packet *p, bool opening) {
	if (opening)
		return p->direction == OUT ? FLOW_CLIENT : FLOW_SERVER;
	return p->local < EPHEMERAL && p->remote >= EPHEMERAL ? FLOW_SERVER : FLOW_CLIENT;
}

static __always_inline void role_set(struct flow_key *key, struct packet *p, u8 role) {
	key->role = role;
	key->port = role == FLOW_SERVER ? p->local : p->remote;
}

/* Asks the policies about a packet whose key has its role and port. */
__noinline int packet_verdict(struct packet *p) {
	if (!p || p->itself)
		return 0;
	struct segment_ask ask = {.number = p->number};
	ask.what.direction = p->key.role == FLOW_SERVER;
	ask.what.protocol = p->key.protocol;
	ask.what.port = bpf_htons(p->key.port);
	__builtin_memcpy(ask.who.addr, p->key.peer, 16);
	return segment_verdict(&ask);
}

static __always_inline void verdict_count(struct flow *f, u32 verdict) {
	add(&f->denied, verdict & SEGMENT_DENY ? 1 : 0);
	add(&f->would_deny, verdict & SEGMENT_WOULD_DENY ? 1 : 0);
}

/* A connection that is asked for: no socket counts for it yet. */
static __always_inline u32 flow_open(struct __sk_buff *skb, struct packet *p, bool again) {
	role_set(&p->key, p, role_of(p, true));
	u32 verdict = p->wall ? packet_verdict(p) : 0;
	struct flow *f = flow_get(&p->key, p->now);
	if (!f)
		return verdict;
	add(again ? &f->resent : &f->opened, 1);
	add(&f->packets[p->direction & 1], 1);
	add(&f->bytes[p->direction & 1], skb->len);
	if (!again)
		verdict_count(f, verdict);
	return verdict;
}

/* The verdict on a connection that stands, asked for again after every change of policies. */
static __always_inline u32 flow_verdict(struct packet *p, struct flow_sock *s) {
	u32 generation = generation_now();
	if (s->generation == generation)
		return s->verdict;
	p->key = s->key;
	u32 verdict = packet_verdict(p);
	s->verdict = verdict;
	s->generation = generation;
	struct flow *f = verdict ? flow_get(&s->key, p->now) : NULL;
	if (f)
		verdict_count(f, verdict);
	return verdict;
}

static __always_inline void flow_refused(struct __sk_buff *skb, struct packet *p) {
	role_set(&p->key, p, FLOW_CLIENT);
	struct flow *f = flow_get(&p->key, p->now);
	if (!f)
		return;
	add(&f->refused, 1);
	add(&f->packets[IN], 1);
	add(&f->bytes[IN], skb->len);
}

static __always_inline u32 flow_tcp(struct __sk_buff *skb, struct packet *p, struct bpf_sock *sk) {
	struct flow_sock *s = bpf_sk_storage_get(&flow_socks, sk, 0, 0);
	if (p->flags & FLAG_SYN) {
		if (p->flags & FLAG_ACK) /* the handshake's other half, which is not counted: an established socket follows */
			return 0;
		if (sk->state == TCP_LISTEN && !s && (s = bpf_sk_storage_get(&flow_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE)))
			s->key.role = FLOW_SERVER; /* its connections inherit that */
		bool again = sk->state != TCP_LISTEN && s && s->flushed;
		if (sk->state != TCP_LISTEN && !s && (s = bpf_sk_storage_get(&flow_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE))) {
			s->key.role = FLOW_CLIENT;
			s->flushed = p->now;
		}
		return flow_open(skb, p, again);
	}
	if (sk->state == TCP_SYN_SENT) {
		if (p->flags & FLAG_RST)
			flow_refused(skb, p);
		return 0;
	}
	if (sk->state == TCP_LISTEN) /* the handshake's end */
		return 0;
	if (!s && !(s = bpf_sk_storage_get(&flow_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE)))
		return 0;
	if (!(s->state & SOCK_COUNTED)) {
		u8 role = s->key.role;
		s->key = p->key;
		role_set(&s->key, p, role ? role : role_of(p, false));
		s->state |= SOCK_COUNTED;
		struct flow *f = flow_get(&s->key, p->now);
		if (f)
			add(&f->established, 1);
		s->flushed = p->now;
	}
	if (p->wall) {
		u32 verdict = flow_verdict(p, s);
		if (verdict & SEGMENT_DENY) /* but that it has ended may be said */
			return p->flags & FLAG_RST && skb->len <= p->payload ? 0 : verdict;
	} else if (p->number != NO_SLOT) {
		s->verdict = 0;
		s->generation = p->generation;
	}
	s->tick = tick_now();
	turn_look(s, p->number);
	u32 way = p->direction & 1;
	__sync_fetch_and_add(&s->bytes[way], skb->len);
	__sync_fetch_and_add(&s->packets[way], segments(skb));
	if (!(s->headed & (1 << way)) && skb->len > p->payload) {
		s->headed |= 1 << way;
		p->key = s->key;
		flow_head(skb, p);
	}
	if (s->turn && s->turn != TURN_OUT + way && skb->len > p->payload) {
		s->turn = TURN_OUT + way;
		p->key = s->key;
		flow_turn(skb, p);
	}
	if (p->flags & (FLAG_FIN | FLAG_RST)) {
		struct flow *f = p->flags & FLAG_RST ? flow_get(&s->key, p->now) : NULL;
		if (f)
			add(&f->reset, 1);
		s->state |= SOCK_CLOSING;
	}
	if ((s->state & SOCK_CLOSING) || p->now - s->flushed > SECOND) {
		struct bpf_tcp_sock *tcp = bpf_tcp_sock(sk);
		if (tcp)
			flow_flush(s, p->now, *(volatile u32 *)&tcp->srtt_us >> 3, *(volatile u32 *)&tcp->total_retrans);
	}
	return 0;
}

/* Of datagrams each pair of a socket and a peer is asked about by who of the two was first. */
__noinline int datagram_verdict(struct __sk_buff *skb, struct packet *p) {
	if (!skb || !p)
		return 0;
	struct talk_key key = {.socket = bpf_get_socket_cookie(skb), .port = p->remote, .protocol = p->key.protocol};
	__builtin_memcpy(key.peer, p->key.peer, 16);
	u8 *known = bpf_map_lookup_elem(&talks, &key);
	u8 role = known ? *known : role_of(p, true);
	role_set(&p->key, p, role);
	int verdict = packet_verdict(p);
	if (!known && !(verdict & SEGMENT_DENY))
		bpf_map_update_elem(&talks, &key, &role, BPF_ANY);
	return verdict;
}

/* Datagrams: a socket may have many peers, so each packet goes to its edge. */
static __always_inline u32 flow_datagram(struct __sk_buff *skb, struct packet *p, struct bpf_sock *sk) {
	struct flow_sock *s = bpf_sk_storage_get(&flow_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s)
		return 0;
	bool opening = !s->key.role;
	if (opening)
		s->key.role = role_of(p, true);
	u32 verdict = p->wall ? datagram_verdict(skb, p) : 0;
	if (!(verdict & SEGMENT_DENY))
		role_set(&p->key, p, s->key.role);
	struct flow *f = flow_get(&p->key, p->now);
	if (!f)
		return verdict;
	verdict_count(f, verdict);
	if (verdict & SEGMENT_DENY)
		return verdict;
	add(&f->opened, opening);
	add(&f->packets[p->direction & 1], segments(skb));
	add(&f->bytes[p->direction & 1], skb->len);
	if (p->key.protocol == IPPROTO_UDP)
		flow_head(skb, p);
	return verdict;
}

/* Counts a packet in the middle of a connection, which is nearly all of them: its socket knows whose it is and that it may
 * pass. What is the first of something, ends something, or comes after some time goes the long way; false says so. */
static __always_inline bool flow_middle(struct __sk_buff *skb, struct bpf_sock *sk, u32 way) {
	struct flow_sock *s = bpf_sk_storage_get(&flow_socks, sk, 0, 0);
	if (!s || (s->state & (SOCK_COUNTED | SOCK_CLOSING)) != SOCK_COUNTED || s->verdict & SEGMENT_DENY)
		return false;
	if (s->generation != generation_now() || s->tick != tick_now())
		return false;
	u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end, *tcp;
	u32 headers;
	if (data + 40 > end) /* headers that are elsewhere; IPv4's and TCP's are 40 bytes too */
		return false;
	if (data[0] == 0x45) {
		headers = 20;
		tcp = data + 20;
	} else if (data[0] >> 4 == 6 && data[6] == IPPROTO_TCP) {
		headers = 40;
		tcp = data + 40;
	} else {
		return false;
	}
	if (tcp + 14 > end || tcp[13] & (FLAG_FIN | FLAG_SYN | FLAG_RST))
		return false;
	bool first = !(s->headed & (1 << way)) || (s->turn && s->turn != TURN_OUT + way);
	if (first && skb->len > headers + (tcp[12] >> 4) * 4)
		return false;
	__sync_fetch_and_add(&s->bytes[way], skb->len);
	__sync_fetch_and_add(&s->packets[way], segments(skb));
	return true;
}

static __always_inline int flow(struct __sk_buff *skb, u32 direction) {
	struct bpf_sock *sk = skb->sk;
	if (!sk || flow_middle(skb, sk, direction))
		return PASS;
	struct packet p = {.direction = direction};
	if (!(sk = bpf_sk_fullsock(sk)) || !owner(skb, &p) || !packet_read(skb, &p))
		return PASS;
	p.now = bpf_ktime_get_boot_ns();
	p.generation = generation_now();
	p.wall = wall_flags(p.number);
	u32 verdict = p.key.protocol == IPPROTO_TCP ? flow_tcp(skb, &p, sk) : flow_datagram(skb, &p, sk);
	return verdict & SEGMENT_DENY ? DENY : PASS;
}

SEC("cgroup_skb/egress") int on_egress(struct __sk_buff *skb) { return flow(skb, OUT); }
SEC("cgroup_skb/ingress") int on_ingress(struct __sk_buff *skb) { return flow(skb, IN); }
