/* Network policy between workloads: may these two talk? User space says who is at an address and what is open for whom;
 * here two look-ups decide: address → identity, identity and port → open. */
#pragma once
#include "state.h"

enum {
	WALL_OUT = 1 << 0,        /* the policy in force closes what goes out, but for openings */
	WALL_IN = 1 << 1,
	WALL_STAGED_OUT = 1 << 2, /* the same of the staged one, by which is only counted */
	WALL_STAGED_IN = 1 << 3,
	WALL_CUT = 1 << 4,        /* in quarantine */
};
enum { SEGMENT_DENY = 1 << 0, SEGMENT_WOULD_DENY = 1 << 1 };

/* One per container. */
struct wall {
	u32 epoch;  /* which identities it is by */
	u32 flags;
	u32 policy; /* number of what is in force … */
	u32 staged; /* … and of what is staged */
};

struct identity_key {
	u32 prefix; /* bits: 32 for the epoch, then those of the address */
	u32 epoch;
	u8 addr[16];
};

struct opening_key {
	u32 prefix;   /* bits: 80 for what comes before the port, then those of the port; 72 for every protocol */
	u32 policy;
	u32 identity;
	u8 direction; /* 0 out, 1 in */
	u8 protocol;
	u16 port;     /* in network order, so that a range is a few prefixes */
};

/* Who asked whom first, of datagrams: what goes back is an answer. */
struct talk_key {
	u64 socket;
	u8 peer[16];
	u16 port;
	u16 protocol;
	u32 pad;
};

MAP(walls, BPF_MAP_TYPE_ARRAY, SLOTS, u32, struct wall, 0);
MAP(identities, BPF_MAP_TYPE_LPM_TRIE, 65536, struct identity_key, u32, BPF_F_NO_PREALLOC);
MAP(openings, BPF_MAP_TYPE_LPM_TRIE, 524288, struct opening_key, u32, BPF_F_NO_PREALLOC);
MAP(talks, BPF_MAP_TYPE_LRU_HASH, 65536, struct talk_key, u8, 0);
MAP(segment_generation, BPF_MAP_TYPE_ARRAY, 1, u32, u32, 0); /* grows with every change: verdicts on connections are from before it */

struct segment_ask {
	struct identity_key who;
	struct opening_key what;
	u32 number; /* slot */
	u32 pad;
};

static __always_inline bool open_by(struct segment_ask *ask, u32 policy) {
	ask->what.policy = policy;
	ask->what.prefix = 96;
	struct opening_key look = ask->what;
	u32 *open = bpf_map_lookup_elem(&openings, &look);
	return open && *open;
}

/* The verdict on what an ask is filled in with: the address, direction, protocol and port. */
__noinline int segment_verdict(struct segment_ask *ask) {
	if (!ask)
		return 0;
	u32 number = ask->number;
	struct wall *w = bpf_map_lookup_elem(&walls, &number);
	if (!w || !w->flags)
		return 0;
	if (w->flags & WALL_CUT)
		return SEGMENT_DENY;
	u32 in = ask->what.direction ? 1 : 0, verdict = 0;
	bool held = w->flags & (in ? WALL_IN : WALL_OUT), staged = w->flags & (in ? WALL_STAGED_IN : WALL_STAGED_OUT);
	if (!held && !staged)
		return 0;
	ask->who.epoch = w->epoch;
	ask->who.prefix = 32 + 128;
	struct identity_key look = ask->who;
	u32 *identity = bpf_map_lookup_elem(&identities, &look);
	ask->what.identity = identity ? *identity : 0;
	if (held && !open_by(ask, w->policy))
		verdict |= SEGMENT_DENY;
	if (staged && !open_by(ask, w->staged))
		verdict |= SEGMENT_WOULD_DENY;
	return verdict;
}

static __always_inline u32 wall_flags(u32 number) {
	struct wall *w = number == NO_SLOT ? NULL : bpf_map_lookup_elem(&walls, &number);
	return w ? w->flags : 0;
}

static __always_inline u32 generation_now(void) {
	u32 zero = 0;
	u32 *g = bpf_map_lookup_elem(&segment_generation, &zero);
	return g ? *g : 0;
}
