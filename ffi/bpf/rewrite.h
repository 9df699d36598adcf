/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Changing segments in place: new acknowledgement and window, or the whole segment turned around. */
#ifndef T2CP_REWRITE_H
#define T2CP_REWRITE_H

#include "packet.h"

/* The part of the TCP header from the acknowledgement to the window, and where it stands. */
struct ack_to_window {
	__be32 ack;
	__u8 offset;
	__u8 flags;
	__be16 window;
};
#define OFFSET_ACK 8
#define OFFSET_WINDOW 14
#define OFFSET_CHECKSUM 16

/* What a 16-bit word's change adds to the one's complement sum (RFC 1624). */
static __always_inline __u32 word_change(__be16 old, __be16 new)
{
	return (__u16)~old + new;
}

/* Writes a new acknowledgement and window into the segment and mends its checksum. */
static __always_inline void set_ack_and_window(struct __sk_buff *skb, const struct packet *p, __u32 ack, __u16 window)
{
	struct ack_to_window new = {
		.ack = bpf_htonl(ack),
		.offset = p->offset,
		.flags = p->flags,
		.window = bpf_htons(window),
	};
	__be32 old_ack = bpf_htonl(p->ack);
	__u32 change;

	if (ack == p->ack && window == p->window)
		return;
	change = word_change(old_ack, new.ack) + word_change(old_ack >> 16, new.ack >> 16) +
		 word_change(bpf_htons(p->window), new.window);
	bpf_l4_csum_replace(skb, p->l4 + OFFSET_CHECKSUM, 0, change, 0);
	bpf_skb_store_bytes(skb, p->l4 + OFFSET_ACK, &new, sizeof(new), 0);
}

#define OFFSET_FLAGS 12 /* with the data offset, a word for the checksum */

static __always_inline void set_flags(struct __sk_buff *skb, const struct packet *p, __u8 old, __u8 new,
				      __u8 offset)
{
	__be16 before = bpf_htons(offset << 8 | old), after = bpf_htons(offset << 8 | new);

	bpf_l4_csum_replace(skb, p->l4 + OFFSET_CHECKSUM, before, after, sizeof(after));
	bpf_skb_store_bytes(skb, p->l4 + OFFSET_FLAGS, &after, sizeof(after), 0);
}

static __always_inline __sum16 fold(__s64 sum)
{
	__u32 s = (__u32)sum;

	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return ~s;
}

/* What a segment that was turned around says. */
struct reply {
	__u32 seq;
	__u32 ack;
	__u16 window;
	__u8 flags;
};

struct tcp_segment {
	struct tcp_header header;
	__u8 nop[2];
	__u8 kind;
	__u8 length;
	__be32 tsval;
	__be32 tsecr;
};

/* What both families put before the TCP segment when they sum it up (RFC 9293 section 3.1, RFC 8200 section 8.1). */
struct pseudo_header {
	struct address source;
	struct address destination;
	__be32 length;
	__be32 protocol;
};

/* The segment of the client's that answers a segment of the service. */
static __always_inline __u32 fill_reply(struct tcp_segment *tcp, const struct packet *p, const struct tcp_options *o,
					const struct reply *r)
{
	__u32 length = o->present & OPTION_TIMESTAMPS ? sizeof(*tcp) : sizeof(tcp->header);
	struct pseudo_header pseudo = {
		.source = p->destination,
		.destination = p->source,
		.length = bpf_htonl(length),
		.protocol = bpf_htonl(IPPROTO_TCP),
	};
	__s64 sum;

	tcp->header.source = p->destination_port;
	tcp->header.destination = p->source_port;
	tcp->header.seq = bpf_htonl(r->seq);
	tcp->header.ack = bpf_htonl(r->ack);
	tcp->header.offset = (length / 4) << 4;
	tcp->header.flags = r->flags;
	tcp->header.window = bpf_htons(r->window);
	tcp->nop[0] = 1;
	tcp->nop[1] = 1;
	tcp->kind = 8;
	tcp->length = 10;
	tcp->tsval = bpf_htonl(o->tsecr);
	tcp->tsecr = bpf_htonl(o->tsval);
	if (!p->ipv6) /* without the mapped prefix, which IPv4's sum does not have */
		pseudo.source.word[2] = pseudo.destination.word[2] = 0;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&pseudo, sizeof(pseudo), 0);
	if (length == sizeof(*tcp))
		sum = bpf_csum_diff(NULL, 0, (__be32 *)tcp, sizeof(*tcp), sum);
	else
		sum = bpf_csum_diff(NULL, 0, (__be32 *)tcp, sizeof(tcp->header), sum);
	tcp->header.checksum = fold(sum);
	return length;
}

static __always_inline bool turn_ipv4(struct __sk_buff *skb, const struct packet *p, __u32 length)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)))
		return false;
	ip.saddr = p->destination.word[3];
	ip.daddr = p->source.word[3];
	ip.tos = 0; /* acknowledgements carry no ECT, RFC 3168 section 6.1.4 */
	ip.tot_len = bpf_htons(sizeof(ip) + length);
	ip.frag_off = bpf_htons(0x4000);
	ip.check = 0;
	ip.check = fold(bpf_csum_diff(NULL, 0, (__be32 *)&ip, sizeof(ip), 0));
	return !bpf_skb_store_bytes(skb, p->l3, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
}

static __always_inline bool turn_ipv6(struct __sk_buff *skb, const struct packet *p, __u32 length)
{
	struct ipv6hdr ip = {};

	ip.version = 6;
	ip.payload_len = bpf_htons(length);
	ip.nexthdr = IPPROTO_TCP;
	ip.hop_limit = 64;
	__builtin_memcpy(&ip.saddr, &p->destination, sizeof(ip.saddr));
	__builtin_memcpy(&ip.daddr, &p->source, sizeof(ip.daddr));
	return !bpf_skb_store_bytes(skb, p->l3, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
}

/*
 * Turns a segment of the service into a segment of its client without payload. The timestamps change places: TSval
 * is the segment's TSecr, for a newer one of the client's would fail PAWS at the replica (RFC 7323 section 5).
 * Returns false where the frame has a form that is not handled; it must be dropped then.
 */
static __noinline bool turn_around(struct __sk_buff *skb, const struct packet *p, const struct reply *r)
{
	struct tcp_segment tcp = {};
	struct tcp_options o;
	__u8 macs[12], swapped[12];
	__u32 length;

	if (p->l4 - p->l3 != (p->ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)))
		return false;
	read_timestamps(skb, p, &o);
	length = fill_reply(&tcp, p, &o, r);
	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)) || bpf_skb_change_tail(skb, p->l4 + length, 0))
		return false;
	__builtin_memcpy(swapped, macs + 6, 6);
	__builtin_memcpy(swapped + 6, macs, 6);
	if (bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0) ||
	    !(p->ipv6 ? turn_ipv6(skb, p, length) : turn_ipv4(skb, p, length)))
		return false;
	if (length == sizeof(tcp))
		return !bpf_skb_store_bytes(skb, p->l4, &tcp, sizeof(tcp), BPF_F_RECOMPUTE_CSUM);
	return !bpf_skb_store_bytes(skb, p->l4, &tcp, sizeof(tcp.header), BPF_F_RECOMPUTE_CSUM);
}

#endif
