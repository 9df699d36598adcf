/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Clients that wait for an answer of the primary. To know each flow would cost every packet a look-up, so that a few are
 * looked at: the first that asks for something takes the free slot of its hash, and gives it back when the primary sends
 * it anything at all. User space looks for slots that are taken for long.
 *
 * What takes up sequence numbers asks for an acknowledgement (RFC 9293 section 3.4): data, SYN and FIN, but no
 * acknowledgement, window update, zero-window probe or keep-alive without data.
 */
#ifndef T2CP_ANSWER_H
#define T2CP_ANSWER_H

#include "mirror.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_WAITING);
	__type(key, __u32);
	__type(value, struct waiting);
} waiting SEC(".maps");

static __always_inline __u32 flow_hash(const struct address *client, __be16 port, const struct address *server)
{
	__u32 hash = client->word[0] ^ client->word[1] ^ client->word[2] ^ client->word[3] ^ server->word[3];

	hash = (hash ^ (__u32)port << 16) * 0x9e3779b1; /* 2^32 divided by the golden ratio */
	hash = (hash ^ hash >> 15) * 0x85ebca6b;
	return hash ^ hash >> 13;
}

static __always_inline struct waiting *slot_of(__u32 hash)
{
	__u32 index = hash % MAX_WAITING;

	return bpf_map_lookup_elem(&waiting, &index);
}

static __always_inline void stop_waiting(__u32 hash)
{
	struct waiting *w = slot_of(hash);

	if (w && w->since_ns && w->hash == hash)
		w->since_ns = 0;
}

/* A segment of the client's. */
static __always_inline void await_answer(const struct packet *p)
{
	__u32 hash = flow_hash(&p->source, p->source_port, &p->destination);
	struct waiting *w;

	if (p->flags & TCP_RST) {
		stop_waiting(hash);
		return;
	}
	if (sequence_end(p) == p->seq)
		return;
	w = slot_of(hash);
	if (!w || w->since_ns || __sync_val_compare_and_swap(&w->since_ns, 0, coarse_ns()))
		return;
	/* Before the segment leaves, and so before its answer comes. */
	w->hash = hash;
	flow_of(p, true, &w->key);
}

/* A segment of the primary's. */
static __always_inline void note_answer(const struct packet *p)
{
	stop_waiting(flow_hash(&p->destination, p->destination_port, &p->source));
}

#endif
