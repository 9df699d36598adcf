/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Changing segments in place: new acknowledgement and window, or the whole segment turned around. */
#ifndef T2CP_REWRITE_H
#define T2CP_REWRITE_H

#include <bpf/bpf_core_read.h>
#include "packet.h"

#define OFFSET_WINDOW 14
#define OFFSET_CHECKSUM 16

/* As in the kernel's include/linux/skbuff.h, as far as it matters here; libbpf finds the place. */
#define CHECKSUM_PARTIAL 3
struct sk_buff {
	__u8 ip_summed : 2;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *skb) __ksym;

/* The bytes of the frame from `at` on, if the linear part has them. */
static __always_inline void *linear(struct __sk_buff *skb, __u32 at, __u32 size)
{
	void *end = (void *)(long)skb->data_end, *bytes;
	__u64 offset = at;

	asm volatile("" : "+r"(offset)); /* what is compared is what is added: the verifier needs the bound */
	if (offset > 0x3fff)
		return NULL;
	bytes = (void *)(long)skb->data + offset;
	return bytes + size > end ? NULL : bytes;
}

/* Takes in the carries of a one's complement sum (RFC 1071). */
static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/*
 * Writes a new acknowledgement and window into the segment and mends its checksum (RFC 1624). This is done in place: the
 * sum over the whole does not change, so what the interface computed of it (CHECKSUM_COMPLETE) stays right. A checksum
 * that is left to the interface (CHECKSUM_PARTIAL) covers the addresses alone. Returns false where memory is short.
 */
static __always_inline bool set_ack_and_window(struct __sk_buff *skb, const struct packet *p, __u32 ack, __u16 window)
{
	struct sk_buff *kernel = bpf_cast_to_kern_ctx(skb);
	__be32 new_ack = bpf_htonl(ack);
	__be16 new_window = bpf_htons(window);
	struct tcp_header *tcp;

	if (ack == p->ack && window == p->window)
		return true;
	tcp = linear(skb, p->l4, sizeof(*tcp));
	if (!tcp) {
		if (bpf_skb_pull_data(skb, p->l4 + p->header))
			return false;
		tcp = linear(skb, p->l4, sizeof(*tcp));
		if (!tcp)
			return false;
	}
	if (BPF_CORE_READ_BITFIELD(kernel, ip_summed) != CHECKSUM_PARTIAL)
		tcp->checksum = ~fold((__u64)(__u16)~tcp->checksum + ~tcp->ack + new_ack +
				      (__u16)~tcp->window + new_window);
	tcp->ack = new_ack;
	tcp->window = new_window;
	return true;
}

#define OFFSET_FLAGS 12 /* with the data offset, a word for the checksum */

static __always_inline void set_flags(struct __sk_buff *skb, const struct packet *p, __u8 old, __u8 new,
				      __u8 offset)
{
	__be16 before = bpf_htons(offset << 8 | old), after = bpf_htons(offset << 8 | new);

	bpf_l4_csum_replace(skb, p->l4 + OFFSET_CHECKSUM, before, after, sizeof(after));
	bpf_skb_store_bytes(skb, p->l4 + OFFSET_FLAGS, &after, sizeof(after), 0);
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
	__be32 timestamps; /* two NOPs, kind and length */
	__be32 tsval;
	__be32 tsecr;
};

static __always_inline __u64 sum_up(__u64 sum, const void *from, __u32 length)
{
	const __u32 *words = from;

#pragma unroll
	for (__u32 i = 0; i < length / 4; i++)
		sum += words[i];
	return sum;
}

/* The segment of the client's that answers a segment of the service. */
static __always_inline __u32 fill_reply(struct tcp_segment *tcp, const struct packet *p, const struct tcp_options *o,
					const struct reply *r)
{
	__u32 length = o->present & OPTION_TIMESTAMPS ? sizeof(*tcp) : sizeof(tcp->header);
	/* The pseudo-header of both families: a mapped IPv4 address adds but 0xffff, a zero of such sums. */
	__u64 sum = bpf_htonl(length + IPPROTO_TCP);

	sum = sum_up(sum, &p->source, sizeof(p->source));
	sum = sum_up(sum, &p->destination, sizeof(p->destination));
	tcp->header.source = p->destination_port;
	tcp->header.destination = p->source_port;
	tcp->header.seq = bpf_htonl(r->seq);
	tcp->header.ack = bpf_htonl(r->ack);
	tcp->header.offset = (length / 4) << 4;
	tcp->header.flags = r->flags;
	tcp->header.window = bpf_htons(r->window);
	tcp->header.checksum = 0;
	tcp->header.urgent = 0;
	tcp->timestamps = TIMESTAMPS_FIRST;
	tcp->tsval = bpf_htonl(o->tsecr);
	tcp->tsecr = bpf_htonl(o->tsval);
	sum = sum_up(sum, &tcp->header, sizeof(tcp->header));
	if (length == sizeof(*tcp))
		sum = sum_up(sum, &tcp->timestamps, TIMESTAMPS_LENGTH);
	tcp->header.checksum = ~fold(sum);
	return length;
}

/* What stands in front of the packet, unless there are tags; begun so that the packet is aligned. */
struct link {
	__u16 unused;
	__u8 macs[12];
	__be16 type;
};

static __always_inline bool swap_macs(struct __sk_buff *skb, struct link *link)
{
	__u8 *macs = linear(skb, 0, ETH_HLEN);

	if (!macs)
		return false;
	__builtin_memcpy(link->macs, macs + 6, 6);
	__builtin_memcpy(link->macs + 6, macs, 6);
	link->type = *(__be16 *)(macs + 12);
	return true;
}

/* Writes the turned packet, of `length` bytes behind `link`. One call where it can be, since calls cost most. */
static __always_inline bool store(struct __sk_buff *skb, const struct packet *p, struct link *link, __u32 length)
{
	if (!swap_macs(skb, link))
		return false;
	if (p->l3 == ETH_HLEN)
		return !bpf_skb_store_bytes(skb, 0, link->macs, ETH_HLEN + length, BPF_F_RECOMPUTE_CSUM);
	return !bpf_skb_store_bytes(skb, 0, link->macs, sizeof(link->macs), 0) &&
	       !bpf_skb_store_bytes(skb, p->l3, link + 1, length, BPF_F_RECOMPUTE_CSUM);
}

static __noinline bool turn_ipv4(struct __sk_buff *skb, const struct packet *p, const struct tcp_options *o,
				 const struct reply *r)
{
	struct {
		struct link link;
		struct iphdr ip;
		struct tcp_segment tcp;
	} s = {};
	__u32 length = fill_reply(&s.tcp, p, o, r);

	/* Acknowledgements carry no ECT, RFC 3168 section 6.1.4. */
	*(__be32 *)&s.ip = bpf_htonl(0x45000000 | (sizeof(s.ip) + length));
	s.ip.frag_off = bpf_htons(0x4000);
	s.ip.ttl = 64;
	s.ip.protocol = IPPROTO_TCP;
	s.ip.saddr = p->destination.word[3];
	s.ip.daddr = p->source.word[3];
	s.ip.check = ~fold(sum_up(0, &s.ip, sizeof(s.ip)));
	return length == sizeof(s.tcp) ? store(skb, p, &s.link, sizeof(s.ip) + sizeof(s.tcp))
				       : store(skb, p, &s.link, sizeof(s.ip) + sizeof(s.tcp.header));
}

static __noinline bool turn_ipv6(struct __sk_buff *skb, const struct packet *p, const struct tcp_options *o,
				 const struct reply *r)
{
	struct {
		struct link link;
		struct ipv6hdr ip;
		struct tcp_segment tcp;
	} s = {};
	__u32 length = fill_reply(&s.tcp, p, o, r);

	*(__be32 *)&s.ip = bpf_htonl(0x60000000);
	s.ip.payload_len = bpf_htons(length);
	s.ip.nexthdr = IPPROTO_TCP;
	s.ip.hop_limit = 64;
	__builtin_memcpy(&s.ip.saddr, &p->destination, sizeof(s.ip.saddr));
	__builtin_memcpy(&s.ip.daddr, &p->source, sizeof(s.ip.daddr));
	return length == sizeof(s.tcp) ? store(skb, p, &s.link, sizeof(s.ip) + sizeof(s.tcp))
				       : store(skb, p, &s.link, sizeof(s.ip) + sizeof(s.tcp.header));
}

/*
 * Turns a segment of the service into a segment of its client without payload: the bytes of the payload stay behind it
 * as padding, which every receiver cuts off. The timestamps change places: TSval is the segment's TSecr, for a newer one
 * of the client's would fail PAWS at the replica (RFC 7323 section 5).
 * Returns false where the frame has a form that is not handled; it must be dropped then.
 */
static __noinline bool turn_around(struct __sk_buff *skb, const struct packet *p, const struct reply *r)
{
	struct tcp_options o;

	if (p->l4 - p->l3 != (p->ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)))
		return false;
	read_timestamps(skb, p, &o);
	/* One segment can be no longer than what offload would make of many. */
	if (skb->gso_size && bpf_skb_change_tail(skb, p->l4 + p->header, 0))
		return false;
	return p->ipv6 ? turn_ipv6(skb, p, &o, r) : turn_ipv4(skb, p, &o, r);
}

#endif
