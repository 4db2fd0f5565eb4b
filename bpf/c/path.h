/* Functions without `static` are verified once, by themselves, instead of once per call: kernel pointers reach
 * them as plain numbers. */

/* From a file to the hash of its path. Paths are hashed name by name from the root down, so that the
 * hash of every directory on the way is at hand for the patterns of a profile. */
#pragma once
#include "state.h"

/* A pointer that the verifier knows, as a number: it refuses to pass the former to a function of its own. */
static __always_inline u64 number_of(void *pointer) {
	u64 n = 0;
	bpf_probe_read_kernel(&n, sizeof n, &pointer);
	return n;
}

#define DEPTH 28 /* names in a path; a deeper file matches no pattern and is outside the profile */

struct chain {
	u64 dentry[DEPTH];
	u32 n;
	u32 deep;
	u64 hash; /* of the whole path, once match_chain or hash_chain has run */
	u32 index;
	u32 pad;
};

/* Chains are too large for the 512 bytes of stack that kernels before 6.13 give to all calls together. They are
 * lent from a few of the processor's: a program of a security module can be interrupted by another on the same
 * processor, so one is not enough. With none left (NULL) a file has no path, which is in no profile. */
#define CHAINS 16
struct chains { u64 taken; struct chain chain[CHAINS]; };
MAP(lent, BPF_MAP_TYPE_PERCPU_ARRAY, 1, u32, struct chains, 0);

static __always_inline struct chain *chain_take(void) {
	u32 zero = 0;
	struct chains *all = bpf_map_lookup_elem(&lent, &zero);
	if (!all)
		return NULL;
	for (u32 i = 0; i < CHAINS; i++) {
		if (__sync_fetch_and_or(&all->taken, 1ULL << i) >> i & 1)
			continue;
		struct chain *c = &all->chain[i];
		c->index = i;
		c->n = 0;
		c->deep = 0;
		c->hash = 0;
		return c;
	}
	return NULL;
}

static __always_inline void chain_give(struct chain *c) {
	u32 zero = 0;
	struct chains *all = bpf_map_lookup_elem(&lent, &zero);
	if (all)
		__sync_fetch_and_and(&all->taken, ~(1ULL << (c->index & (CHAINS - 1))));
}

static __always_inline u64 mix(u64 h, u64 word) {
	h ^= word;
	h *= 0x9e3779b97f4a7c15ULL;
	return h ^ (h >> 29);
}

/* Continue hash h with one name of a path: its length, then its bytes, padded with zeros to 32. */
__noinline u64 hash_name(u64 h, u64 name, u32 len) {
	h = mix(h, 0x2f00 + len);
	for (u32 off = 0; off < NAME_ROOM; off += 32) {
		if (off >= len)
			break;
		u64 word[4] = {};
		u32 n = len - off;
		if (n > 32)
			n = 32;
		bpf_probe_read_kernel(word, n, (void *)(name + off));
		h = mix(mix(mix(mix(h, word[0]), word[1]), word[2]), word[3]);
	}
	return h;
}

/* The dentry a person would name a file by. Overlayfs gives mappings a file of the layer below ("backing
 * file") that still knows what was opened. */
static __always_inline struct path shown(struct file *f) {
	struct path p;
	struct settings *s = settings_get();
	if (s && s->backing_bit && (SEE(struct file, f, f_mode) & s->backing_bit) && bpf_core_field_exists(struct backing_file, user_path)) {
		struct backing_file *b = (void *)f - bpf_core_field_offset(struct backing_file, file);
		bpf_core_read(&p, sizeof p, &b->user_path);
		return p;
	}
	bpf_core_read(&p, sizeof p, &f->f_path);
	return p;
}

/* Names from the file up to the root of its file system (image = true: the path in the image, whatever is
 * mounted where), or up to the root of the mount namespace (the path in the container). */
struct climbing { struct chain *c; struct dentry *d; struct mount *m; u32 image; };
static long climb_step(u32 i, struct climbing *s) {
	struct mount *m = s->m;
	struct dentry *d = s->d, *up = BPF_CORE_READ(d, d_parent);
	bool top = d == up || (!s->image && d == BPF_CORE_READ(m, mnt.mnt_root));
	if (top) {
		struct mount *over = s->image ? m : BPF_CORE_READ(m, mnt_parent);
		if (over == m) {
			s->c->deep = 0;
			return 1;
		}
		s->d = BPF_CORE_READ(m, mnt_mountpoint);
		s->m = over;
		return 0;
	}
	u32 n = s->c->n;
	if (n >= DEPTH)
		return 1;
	s->c->dentry[n] = (u64)d;
	s->c->n = n + 1;
	s->d = up;
	return 0;
}
__noinline int climb(struct chain *c, u64 dentry, u64 vfsmount, u32 image) {
	if (!c)
		return 0;
	struct climbing s = {.c = c, .d = (void *)dentry, .m = (void *)vfsmount - bpf_core_field_offset(struct mount, mnt), .image = image};
	c->n = 0;
	c->deep = 1;
	bpf_loop(DEPTH + 8, climb_step, &s, 0);
	return 0;
}

static __always_inline u64 hash_dentry(u64 h, struct dentry *d) {
	struct qstr q;
	bpf_core_read(&q.hash_len, sizeof q.hash_len, &d->d_name.hash_len);
	bpf_core_read(&q.name, sizeof q.name, &d->d_name.name);
	return hash_name(h, (u64)q.name, q.len & (NAME_ROOM - 1));
}

/* Hash of the whole path. 0 when it is too deep. */
struct hashing { struct chain *c; u64 h; };
static long hash_step(u32 i, struct hashing *s) {
	u32 at = s->c->n - 1 - i;
	if (at >= DEPTH)
		return 1;
	s->h = hash_dentry(s->h, (struct dentry *)s->c->dentry[at]);
	return 0;
}
__noinline u64 hash_chain(struct chain *c) {
	struct settings *s = settings_get();
	if (!c || !s || c->deep)
		return 0;
	struct hashing state = {.c = c, .h = s->seed};
	bpf_loop(DEPTH, hash_step, &state, 0);
	c->hash = state.h;
	return state.h;
}

/* Write the path as text; its length. */
struct spelling { struct chain *c; char *to; u32 off; };
static long spell_step(u32 i, struct spelling *s) {
	u32 at = s->c->n - 1 - i, off = s->off;
	if (at >= DEPTH)
		return 1;
	struct dentry *d = (struct dentry *)s->c->dentry[at];
	u32 len = BPF_CORE_READ(d, d_name.len) & (NAME_ROOM - 1);
	const unsigned char *name = BPF_CORE_READ(d, d_name.name);
	if (off + len + 1 >= PATH_ROOM || off >= PATH_ROOM)
		return 1;
	s->to[off & (PATH_ROOM - 1)] = '/';
	off++;
	bpf_probe_read_kernel(s->to + (off & (PATH_ROOM - 1)), len, name);
	s->off = off + len;
	return 0;
}
__noinline u32 spell(struct chain *c, struct event *e) {
	if (!c || !e)
		return 0;
	struct spelling s = {.c = c, .to = e->path};
	bpf_loop(DEPTH, spell_step, &s, 0);
	return s.off;
}

/* One past the last occurrence of a character in 64 bytes; 0 when there is none. */
struct last_of { char *text; u32 at; char what; };
static long last_step(u32 i, struct last_of *l) {
	if (l->text[i & 63] == l->what)
		l->at = i + 1;
	return 0;
}

/* Hash of what follows the last dot of a name (at most 15 bytes of it); 0 when there is no dot. */
__noinline u64 hash_suffix(u64 dentry) {
	struct dentry *d = (void *)dentry;
	u32 len = BPF_CORE_READ(d, d_name.len) & (NAME_ROOM - 1);
	u64 name = (u64)BPF_CORE_READ(d, d_name.name);
	u32 n = len < 16 ? len : 16;
	char tail[64] = {};
	bpf_probe_read_kernel(tail, n, (void *)(name + (len - n)));
	struct last_of dot = {.text = tail, .what = '.'};
	bpf_loop(16, last_step, &dot, 0);
	if (!dot.at)
		return 0;
	return hash_name(0, name + (len - n) + dot.at, n - dot.at);
}

/* Is the path under one of the profile's patterns of this kind? Returns the entry's flags, 0 for none.
 * A pattern is a directory (its direct children, or all below it), perhaps only files of one suffix, or one file. */
struct matching { struct chain *c; u64 h, suffix; u32 profile, kind, found; };
static long match_step(u32 i, struct matching *m) {
	u32 at = m->c->n - 1 - i;
	if (at >= DEPTH)
		return 1;
	m->h = hash_dentry(m->h, (struct dentry *)m->c->dentry[at]);
	if (m->found)
		return 0;
	u32 *entry;
	if (m->profile == GLOBAL) { /* names that are sensitive wherever they are: ".ssh", ".git-credentials" */
		entry = policy_find(GLOBAL, POLICY_NAME, hash_dentry(m->kind, (struct dentry *)m->c->dentry[at]));
		if (entry && (*entry & (at ? ENTRY_DEEP : ENTRY_EXACT))) {
			m->found = *entry;
			return 0;
		}
	}
	entry = policy_find(m->profile, m->kind, m->h);
	if (!entry)
		return 0;
	u32 want = at == 0 ? ENTRY_EXACT : at == 1 ? ENTRY_CHILD | ENTRY_DEEP : ENTRY_DEEP;
	if (*entry & want) {
		m->found = *entry;
		return 0;
	}
	if (at == 0 || !(*entry & ENTRY_SUFFIX))
		return 0;
	if (!m->suffix)
		m->suffix = hash_suffix(m->c->dentry[0]);
	entry = policy_find(m->profile, m->kind, mix(m->h, m->suffix));
	if (m->suffix && entry && (*entry & want))
		m->found = *entry;
	return 0;
}
__noinline u32 match_chain(struct chain *c, u32 profile, u32 kind) {
	struct settings *s = settings_get();
	if (!c || !s || c->deep || !c->n)
		return 0;
	struct matching m = {.c = c, .h = s->seed, .profile = profile, .kind = kind};
	bpf_loop(DEPTH, match_step, &m, 0);
	c->hash = m.h;
	return m.found;
}
