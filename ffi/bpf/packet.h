/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Reading TCP segments out of frames. */
#ifndef T2CP_PACKET_H
#define T2CP_PACKET_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "layout.h"

/* Control bits, RFC 9293 section 3.1. */
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_ECE 0x40
#define TCP_CWR 0x80
#define TCP_AE 0x01 /* in the byte of the data offset, RFC 9768 section 3.1 */

/* Not our business: the next filter decides. TC_ACT_OK would skip the filters of others. */
#define PASS TC_ACT_UNSPEC

#define TCP_HEADER 20
#define TIMESTAMPS_LENGTH 12 /* padded by two NOPs */

/* The TCP header's fixed part; uapi's bit-fields are awkward for a byte of flags. */
struct tcp_header {
	__be16 source;
	__be16 destination;
	__be32 seq;
	__be32 ack;
	__u8 offset;
	__u8 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

/* A segment's fields in host byte order, addresses and ports as on the wire. */
struct packet {
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u32 l3;               /* offset of the IP header */
	__u32 l3_length;        /* length of the IP packet */
	__u32 l4;               /* offset of the TCP header */
	__u32 header;           /* length of the TCP header with its options */
	__u32 payload;
	__u32 seq;
	__u32 ack;
	__u16 window;
	__u8 offset;            /* the byte with the data offset, as on the wire */
	__u8 flags;
	__u8 protocol;
	bool ipv6;
	bool usual;             /* read_usual() has read it, with the TCP header and stamps */
	bool fragment;
	bool truncated;         /* the frame ends before the segment does */
	__be32 stamps[3];       /* the words behind the TCP header, where the frame has as many */
};

/* What TCP options say; absent ones are zero. */
struct tcp_options {
	__u32 tsval;
	__u32 tsecr;
	__u16 mss;
	__u8 wscale;
	__u8 present;           /* OPTION_… */
};

/* Is sequence number a later than b? RFC 9293 section 3.4. */
static __always_inline bool after(__u32 a, __u32 b)
{
	return (__s32)(b - a) < 0;
}

static __always_inline __u32 earlier(__u32 a, __u32 b)
{
	return after(a, b) ? b : a;
}

/* The sequence number behind the segment: SYN and FIN count as one each. */
static __always_inline __u32 sequence_end(const struct packet *p)
{
	return p->seq + p->payload + !!(p->flags & TCP_SYN) + !!(p->flags & TCP_FIN);
}

static __always_inline void map_ipv4(struct address *a, __be32 ipv4)
{
	a->word[0] = 0;
	a->word[1] = 0;
	a->word[2] = bpf_htonl(0xffff);
	a->word[3] = ipv4;
}

struct vlan_tag {
	__be16 tci;
	__be16 protocol;
};

static __always_inline bool is_vlan(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

/* More tags than this are not understood; the kernel's own limit (VLAN_MAX_DEPTH). */
#define MAX_TAGS 8

/*
 * The EtherType behind the tags that stand in the frame itself, and in the upper half the offset behind it; 0 where the
 * frame ends before. A global function, which the verifier looks at once: else it would follow the program through for
 * each number of tags.
 */
__noinline __u32 behind_tags(struct __sk_buff *skb)
{
	__be16 protocol = skb->protocol;
	__u32 l3 = ETH_HLEN;
	struct vlan_tag tag;

	for (int i = 0; i < MAX_TAGS && is_vlan(protocol); i++) {
		if (bpf_skb_load_bytes(skb, l3, &tag, sizeof(tag)))
			return 0;
		protocol = tag.protocol;
		l3 += sizeof(tag);
	}
	return l3 << 16 | protocol;
}

static __always_inline __be16 ethertype(struct __sk_buff *skb, __u32 *l3)
{
	__u32 found = behind_tags(skb);

	*l3 = found >> 16;
	return (__be16)found;
}

static __always_inline void take_header(struct packet *p, const struct tcp_header *tcp)
{
	p->source_port = tcp->source;
	p->destination_port = tcp->destination;
	p->seq = bpf_ntohl(tcp->seq);
	p->ack = bpf_ntohl(tcp->ack);
	p->window = bpf_ntohs(tcp->window);
	p->offset = tcp->offset;
	p->flags = tcp->flags;
	p->header = (tcp->offset >> 4) * 4;
}

/*
 * The usual segment: no tag, no IP options or extension headers, no fragment, headers in the linear part. It is read in
 * place, without a call; what is not usual is left to the readers below. Their checks of lengths are for both.
 */
static __always_inline bool read_usual(struct __sk_buff *skb, struct packet *p)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	void *l3 = data + ETH_HLEN, *l4;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = l3;

		l4 = ip + 1;
		if (l4 + TCP_HEADER > end || *(__u8 *)ip != 0x45 || ip->protocol != IPPROTO_TCP ||
		    ip->frag_off & bpf_htons(0x3fff) || !ip->tot_len)
			return false;
		map_ipv4(&p->source, ip->saddr);
		map_ipv4(&p->destination, ip->daddr);
		p->ipv6 = false;
		p->l4 = ETH_HLEN + sizeof(*ip);
		p->l3_length = bpf_ntohs(ip->tot_len);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = l3;

		l4 = ip + 1;
		if (l4 + TCP_HEADER > end || *(__u8 *)ip >> 4 != 6 || ip->nexthdr != IPPROTO_TCP || !ip->payload_len)
			return false;
		__builtin_memcpy(&p->source, &ip->saddr, sizeof(p->source));
		__builtin_memcpy(&p->destination, &ip->daddr, sizeof(p->destination));
		p->ipv6 = true;
		p->l4 = ETH_HLEN + sizeof(*ip);
		p->l3_length = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	} else {
		return false;
	}
	take_header(p, l4);
	p->stamps[0] = 0;
	if (l4 + TCP_HEADER + sizeof(p->stamps) <= end) {
		const __be32 *words = l4 + TCP_HEADER;

		p->stamps[0] = words[0];
		p->stamps[1] = words[1];
		p->stamps[2] = words[2];
	}
	p->l3 = ETH_HLEN;
	p->protocol = IPPROTO_TCP;
	p->fragment = false;
	return true;
}

static __always_inline bool read_ipv4(struct __sk_buff *skb, struct packet *p)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return false;
	map_ipv4(&p->source, ip.saddr);
	map_ipv4(&p->destination, ip.daddr);
	p->ipv6 = false;
	p->protocol = ip.protocol;
	/* More fragments, or an offset: the transport header may be elsewhere. */
	p->fragment = ip.frag_off & bpf_htons(0x3fff);
	p->l4 = p->l3 + ip.ihl * 4;
	/* A total length of 0 is a segment beyond 64 KiB that offload will cut (BIG TCP). */
	p->l3_length = ip.tot_len ? bpf_ntohs(ip.tot_len) : skb->len - p->l3;
	return true;
}

/* More extension headers than this are not understood. */
#define MAX_EXTENSIONS 4

/* The extension headers that have the common form (RFC 8200 section 4) and may stand before TCP. */
static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_DSTOPTS;
}

static __always_inline bool read_ipv6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6_opt_hdr extension;
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)) || ip.version != 6)
		return false;
	__builtin_memcpy(&p->source, &ip.saddr, sizeof(p->source));
	__builtin_memcpy(&p->destination, &ip.daddr, sizeof(p->destination));
	p->ipv6 = true;
	p->protocol = ip.nexthdr;
	p->l4 = p->l3 + sizeof(ip);
	/* A payload length of 0 is a jumbogram, or a segment that offload will cut. */
	p->l3_length = ip.payload_len ? sizeof(ip) + bpf_ntohs(ip.payload_len) : skb->len - p->l3;
	for (int i = 0; i < MAX_EXTENSIONS && is_extension(p->protocol); i++) {
		if (bpf_skb_load_bytes(skb, p->l4, &extension, sizeof(extension)))
			return true; /* its addresses are known, its protocol is an extension: no TCP */
		p->protocol = extension.nexthdr;
		p->l4 += (extension.hdrlen + 1) * 8;
	}
	p->fragment = p->protocol == IPPROTO_FRAGMENT;
	return true;
}

/* Reads the IP header. False for everything that is not IP, or says so and is not. */
static __always_inline bool read_ip(struct __sk_buff *skb, struct packet *p)
{
	__be16 protocol;

	p->usual = read_usual(skb, p);
	if (p->usual)
		return true;
	protocol = ethertype(skb, &p->l3);
	if (protocol == bpf_htons(ETH_P_IP))
		return read_ipv4(skb, p);
	return protocol == bpf_htons(ETH_P_IPV6) && read_ipv6(skb, p);
}

/* Reads the TCP header behind it. False for anything else, and for lengths that contradict each other. */
static __always_inline bool read_tcp(struct __sk_buff *skb, struct packet *p)
{
	struct tcp_header tcp;
	__u32 headers;

	if (p->protocol != IPPROTO_TCP || p->fragment)
		return false;
	if (!p->usual) {
		if (bpf_skb_load_bytes(skb, p->l4, &tcp, sizeof(tcp)))
			return false;
		take_header(p, &tcp);
	}
	headers = p->l4 - p->l3 + p->header;
	if (p->header < TCP_HEADER || headers > p->l3_length)
		return false;
	p->payload = p->l3_length - headers;
	p->truncated = p->l3 + p->l3_length > skb->len;
	return true;
}

#define MAX_OPTIONS 40

/* clang drops a plain mask that it can prove needless, and the verifier then loses the bound. */
#define INDEX(i) ({ __u64 _i = (i); asm volatile("%0 &= 63" : "+r"(_i)); _i; })

struct option_walk {
	__u8 bytes[64];
	__u32 at;
	__u32 end;
	struct tcp_options found;
};

static __always_inline __u32 read_be32(const __u8 *bytes, __u32 at)
{
	return (__u32)bytes[INDEX(at)] << 24 | bytes[INDEX(at + 1)] << 16 | bytes[INDEX(at + 2)] << 8 |
	       bytes[INDEX(at + 3)];
}

/* One option a turn; the verifier cannot follow an open-coded loop of twenty turns. */
static long walk_option(__u32 turn, struct option_walk *w)
{
	__u32 at = w->at;
	__u8 kind, length;

	if (at >= w->end || at >= MAX_OPTIONS)
		return 1;
	kind = w->bytes[INDEX(at)];
	if (kind == 0)
		return 1;
	if (kind == 1) {
		w->at = at + 1;
		return 0;
	}
	length = w->bytes[INDEX(at + 1)];
	if (length < 2 || at + length > w->end)
		return 1;
	if (kind == 2 && length == 4) {
		w->found.mss = w->bytes[INDEX(at + 2)] << 8 | w->bytes[INDEX(at + 3)];
	} else if (kind == 3 && length == 3) {
		/* RFC 7323 section 2.3: a shift above 14 counts as 14. */
		w->found.wscale = w->bytes[INDEX(at + 2)] > 14 ? 14 : w->bytes[INDEX(at + 2)];
		w->found.present |= OPTION_WSCALE;
	} else if (kind == 4 && length == 2) {
		w->found.present |= OPTION_SACK;
	} else if (kind == 8 && length == 10) {
		w->found.tsval = read_be32(w->bytes, at + 2);
		w->found.tsecr = read_be32(w->bytes, at + 6);
		w->found.present |= OPTION_TIMESTAMPS;
	}
	w->at = at + length;
	return 0;
}

/* Reads the options. What is malformed ends the walk, as in the kernel's tcp_parse_options. */
static __noinline void read_options(struct __sk_buff *skb, const struct packet *p, struct tcp_options *o)
{
	struct option_walk w;
	__u32 length = p->header - TCP_HEADER;

	__builtin_memset(o, 0, sizeof(*o));
	if (length < 2 || length > MAX_OPTIONS)
		return;
	__builtin_memset(&w, 0, sizeof(w));
	if (bpf_skb_load_bytes(skb, p->l4 + TCP_HEADER, w.bytes, length))
		return;
	w.end = length;
	bpf_loop(MAX_OPTIONS, walk_option, &w, 0);
	*o = w.found;
}

#define TIMESTAMPS_FIRST bpf_htonl(0x0101080a)

/* Reads the timestamps alone, which nearly always come first and aligned (RFC 7323 appendix A). */
static __always_inline void read_timestamps(struct __sk_buff *skb, const struct packet *p, struct tcp_options *o)
{
	__be32 words[3] = {};

	if (p->usual)
		__builtin_memcpy(words, p->stamps, sizeof(words));
	else
		bpf_skb_load_bytes(skb, p->l4 + TCP_HEADER, words, sizeof(words));
	if (p->header >= TCP_HEADER + TIMESTAMPS_LENGTH && words[0] == TIMESTAMPS_FIRST) {
		__builtin_memset(o, 0, sizeof(*o));
		o->tsval = bpf_ntohl(words[1]);
		o->tsecr = bpf_ntohl(words[2]);
		o->present = OPTION_TIMESTAMPS;
		return;
	}
	read_options(skb, p, o);
}

#endif
