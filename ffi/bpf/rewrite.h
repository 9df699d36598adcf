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

/*
 * Headers are made of whole words, so that the words are summed up as they are made: to read back as a word what was
 * written in parts takes the processor long.
 */
#define TCP_WORDS 5
#define STAMPED_WORDS 8

/* The TCP header of the client's segment that answers one of the service. Returns the number of its words. */
static __always_inline __u32 fill_reply(__be32 *word, const struct packet *p, const struct tcp_options *o,
					const struct reply *r)
{
	bool stamped = o->present & OPTION_TIMESTAMPS;
	__u32 words = stamped ? STAMPED_WORDS : TCP_WORDS;
	/* The pseudo-header of both families: a mapped IPv4 address adds but 0xffff, a zero of such sums. */
	__u64 sum = bpf_htonl(words * 4 + IPPROTO_TCP);

#pragma unroll
	for (int i = 0; i < 4; i++)
		sum += (__u64)p->source.word[i] + p->destination.word[i];
	sum += word[0] = bpf_htonl((__u32)bpf_ntohs(p->destination_port) << 16 | bpf_ntohs(p->source_port));
	sum += word[1] = bpf_htonl(r->seq);
	sum += word[2] = bpf_htonl(r->ack);
	sum += word[3] = bpf_htonl(words << 28 | (__u32)r->flags << 16 | r->window);
	if (stamped) {
		sum += word[5] = TIMESTAMPS_FIRST;
		sum += word[6] = bpf_htonl(o->tsecr);
		sum += word[7] = bpf_htonl(o->tsval);
	}
	word[4] = bpf_htonl((__u32)bpf_ntohs(~fold(sum)) << 16);
	return words;
}

/* What stands in front of the packet, unless there are tags; begun so that the packet is aligned. */
struct link {
	__u16 unused;
	__u16 macs[6];
	__be16 type;
};

static __always_inline bool swap_macs(struct __sk_buff *skb, struct link *link)
{
	__u16 *frame = linear(skb, 0, ETH_HLEN);

	if (!frame)
		return false;
#pragma unroll
	for (int i = 0; i < 6; i++)
		link->macs[i] = frame[(i + 3) % 6];
	link->type = frame[6];
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
		__be32 ip[5];
		__be32 tcp[STAMPED_WORDS];
	} s;
	__u32 words = fill_reply(s.tcp, p, o, r);
	__u64 sum;

	/* Acknowledgements carry no ECT, RFC 3168 section 6.1.4. */
	sum = s.ip[0] = bpf_htonl(0x45000000 | (sizeof(s.ip) + words * 4));
	sum += s.ip[1] = bpf_htonl(0x4000); /* DF */
	sum += bpf_htonl(64 << 24 | IPPROTO_TCP << 16);
	sum += s.ip[3] = p->destination.word[3];
	sum += s.ip[4] = p->source.word[3];
	s.ip[2] = bpf_htonl(64 << 24 | IPPROTO_TCP << 16 | bpf_ntohs(~fold(sum)));
	return words == STAMPED_WORDS ? store(skb, p, &s.link, sizeof(s.ip) + STAMPED_WORDS * 4)
				      : store(skb, p, &s.link, sizeof(s.ip) + TCP_WORDS * 4);
}

static __noinline bool turn_ipv6(struct __sk_buff *skb, const struct packet *p, const struct tcp_options *o,
				 const struct reply *r)
{
	struct {
		struct link link;
		__be32 ip[2];
		struct address source;
		struct address destination;
		__be32 tcp[STAMPED_WORDS];
	} s;
	__u32 words = fill_reply(s.tcp, p, o, r);

	s.ip[0] = bpf_htonl(0x60000000);
	s.ip[1] = bpf_htonl(words * 4 << 16 | IPPROTO_TCP << 8 | 64);
	s.source = p->destination;
	s.destination = p->source;
	return words == STAMPED_WORDS ? store(skb, p, &s.link, sizeof(struct ipv6hdr) + STAMPED_WORDS * 4)
				      : store(skb, p, &s.link, sizeof(struct ipv6hdr) + TCP_WORDS * 4);
}

/*
 * Turns a segment of the service into a segment of its client without payload: the bytes of the payload stay behind it
 * as padding, which every receiver cuts off. To cut them here would first copy them into one piece, which takes 10 us and
 * 64 KiB of memory for a segment that offload is to divide. The timestamps change places: TSval is the segment's TSecr,
 * for a newer one of the client's would fail PAWS at the replica (RFC 7323 section 5).
 * Returns false where the frame has a form that is not handled; it must be dropped then.
 */
static __noinline bool turn_around(struct __sk_buff *skb, const struct packet *p, const struct reply *r)
{
	struct tcp_options o;

	if (p->l4 - p->l3 != (p->ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)))
		return false;
	read_timestamps(skb, p, &o);
	return p->ipv6 ? turn_ipv6(skb, p, &o, r) : turn_ipv4(skb, p, &o, r);
}

#endif
