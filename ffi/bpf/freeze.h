/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Freezing: the clients of frozen flows are told, in the primary's name, that its window is closed, until the backup has
 * taken over. A client in front of a closed window waits and probes, and an open one starts it at once.
 *
 * User space says which flows, and for how long: a lease that it puts off while it lives. Here is decided what the
 * segments say, and that none leaves without a lease.
 */
#ifndef T2CP_FREEZE_H
#define T2CP_FREEZE_H

#include "hold.h"
#include "rewrite.h"
#include "freeze_layout.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_FLOWS);
	__type(key, struct flow_key);
	__type(value, struct frozen);
} frozen SEC(".maps");

/* The flow's entry, where it is frozen now. Costs next to nothing while nobody freezes. */
static __always_inline const struct frozen *frozen_flow(const struct control *c, const struct flow_key *key)
{
	if (c->mode != MODE_SHADOW || !c->frozen_until_ns || (__s64)(c->frozen_until_ns - bpf_ktime_get_ns()) <= 0)
		return NULL;
	return bpf_map_lookup_elem(&frozen, key);
}

/*
 * RFC 9293 section 3.10.7.4: behind a closed window no segment is acceptable that repeats old numbers or brings data, and
 * each is answered: keep-alives, probes, retransmissions. What is `fresh` the replica acknowledges by itself.
 */
static __always_inline bool wants_answer(const struct flow *f, const struct packet *p, __u32 end, bool fresh)
{
	return !fresh && (end != p->seq || after(f->replica_ack, p->seq));
}

/* Gives the replica the client's segment, and makes of the segment itself the answer to the client. */
static __always_inline int answer_client(struct __sk_buff *skb, const struct packet *p, __u32 end)
{
	struct reply r = { .seq = p->ack, .ack = end, .flags = TCP_ACK };

	skb->mark = MARK_INJECTED;
	bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
	if (!turn_around(skb, p, &r))
		return TC_ACT_STOLEN;
	skb->mark = MARK_FROZEN;
	return bpf_redirect(skb->ifindex, 0);
}

/* The replica has acknowledged more: its client is told, by a copy of the segment. */
static __always_inline void show_client(struct __sk_buff *skb)
{
	__u32 mark = skb->mark;

	skb->mark = MARK_FROZEN;
	bpf_clone_redirect(skb, skb->ifindex, 0);
	skb->mark = mark;
}

/* The primary's window as it stood, seen from `ack`. */
static __always_inline __u16 primary_window(const struct flow *f, __u32 ack)
{
	__u32 bytes = after(f->primary_right, ack) ? f->primary_right - ack : 0;

	bytes >>= f->primary_wscale & 15;
	return bytes > 0xffff ? 0xffff : bytes;
}

/*
 * What the client is to be told: never an acknowledgement of what the replica lacks. The sequence number is the highest
 * that there can be, SND.NXT of the primary: some stacks, Linux before 6.6 among them, take a smaller window only from a
 * segment that advances one of the two numbers.
 */
static __always_inline struct reply advertisement(const struct flow *f, const struct frozen *z)
{
	struct reply r = { .seq = f->primary_end, .ack = f->replica_ack, .flags = TCP_ACK };

	if (z->flags & FROZEN_REVOCABLE)
		r.ack = earlier(r.ack, f->primary_ack);
	if (z->flags & FROZEN_THAWING)
		r.window = primary_window(f, r.ack);
	return r;
}

/* The primary's timestamp clock by now, and not behind what the client has echoed: it would drop that (RFC 7323, PAWS). */
static __always_inline __u32 primary_clock(const struct flow *f)
{
	__u32 now = f->synack_tsval + (__u32)((bpf_ktime_get_ns() - f->synack_ns) / 1000000);

	return after(f->client_tsecr, now) ? f->client_tsecr : now;
}

/* Of a checksum that is left to the interface, the segment holds the part of the addresses; `length` is TCP's. */
static __always_inline bool leave_checksum(struct __sk_buff *skb, const struct packet *p, __u32 length)
{
	struct sk_buff *kernel = bpf_cast_to_kern_ctx(skb);
	__u64 sum = bpf_htonl(length + IPPROTO_TCP);
	__u16 partial;

	if (BPF_CORE_READ_BITFIELD(kernel, ip_summed) != CHECKSUM_PARTIAL)
		return true;
#pragma unroll
	for (int i = 0; i < 4; i++)
		sum += (__u64)p->source.word[i] + p->destination.word[i];
	partial = fold(sum);
	return !bpf_skb_store_bytes(skb, p->l4 + OFFSET_CHECKSUM, &partial, sizeof(partial), 0);
}

/* The segment's ends change places. */
static __always_inline void swap_ends(struct packet *p)
{
	struct address source = p->source;
	__be16 port = p->source_port;

	p->source = p->destination;
	p->destination = source;
	p->source_port = p->destination_port;
	p->destination_port = port;
}

/* Makes the segment of the service's, whatever it says, the flow's advertisement, and lets it out. */
static __noinline int advertise(struct __sk_buff *skb, struct packet *p, const struct flow *f, const struct frozen *z)
{
	struct reply r = advertisement(f, z);
	struct tcp_options o = {
		.tsval = f->client_tsval,
		.tsecr = primary_clock(f),
		.present = f->options & OPTION_TIMESTAMPS,
	};
	__u32 length = (o.present ? STAMPED_WORDS : TCP_WORDS) * 4;
	__u8 macs[12];

	if (p->l4 - p->l3 != (p->ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) ||
	    bpf_skb_change_tail(skb, p->l4 + length, 0))
		return TC_ACT_STOLEN;
	/* As if it were the client's, which is turned around. */
	swap_ends(p);
	if (!(p->ipv6 ? turn_ipv6(skb, p, &o, &r) : turn_ipv4(skb, p, &o, &r)) || !leave_checksum(skb, p, length))
		return TC_ACT_STOLEN;
	__builtin_memcpy(macs, f->remote_mac, 6);
	__builtin_memcpy(macs + 6, z->own_mac, 6);
	if (bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0))
		return TC_ACT_STOLEN;
	count(z->flags & FROZEN_THAWING ? SHADOW_THAWS : SHADOW_ZERO_WINDOWS);
	skb->mark = 0;
	return PASS;
}

/* A segment that says of which flow it is, and no more. */
static __always_inline int marked_for_client(struct __sk_buff *skb, const struct control *c, struct packet *p,
					     struct flow_key *key)
{
	const struct frozen *z;
	struct flow *f;

	if (!read_ip(skb, p) || !read_tcp(skb, p))
		return TC_ACT_STOLEN;
	f = find_flow(p, false, key);
	z = frozen_flow(c, key);
	return f && z ? advertise(skb, p, f, z) : TC_ACT_STOLEN;
}

#endif
