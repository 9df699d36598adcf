/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What claims an address of a service, by ARP or neighbour discovery. Whoever includes this has included common.h. */
#ifndef T2CP_CLAIM_H
#define T2CP_CLAIM_H

#include "common.h"

/* ARP for IPv4 over Ethernet, RFC 826. */
struct arp_packet {
	__be16 hardware_type;
	__be16 protocol_type;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__be32 sender;
	__u8 target_mac[6];
	__be32 target;
} __attribute__((packed));

/*
 * Does the packet of a broken header, or of one that is cut short, bear the address? Its source is where it should be, and
 * what it lacks Ethernet may pad.
 */
static __always_inline bool bears_address(struct __sk_buff *skb, __be16 protocol, __u32 l3)
{
	struct address source;
	__be32 ipv4;

	if (protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, l3 + __builtin_offsetof(struct iphdr, saddr), &ipv4, sizeof(ipv4)))
			return false;
		map_ipv4(&source, ipv4);
	} else if (protocol != bpf_htons(ETH_P_IPV6) ||
		   bpf_skb_load_bytes(skb, l3 + __builtin_offsetof(struct ipv6hdr, saddr), &source, sizeof(source))) {
		return false;
	}
	return is_service(&source, 0);
}

/* Headers that may stand before another and tell where that is: RFC 8200 section 4, RFC 4302, 6275, 7401, 5533. */
#define MOBILITY 135
#define HIP 139
#define SHIM6 140
#define MAX_HEADERS 16

static __always_inline bool is_header(__u8 protocol)
{
	return is_extension(protocol) || protocol == IPPROTO_FRAGMENT || protocol == IPPROTO_AH ||
	       protocol == MOBILITY || protocol == HIP || protocol == SHIM6;
}

struct header_walk {
	struct __sk_buff *skb;
	__u32 at;
	__u8 protocol;
	bool cut;
};

/* One header a turn; stops behind the last, or at the frame's end. */
static long walk_header(__u32 turn, struct header_walk *w)
{
	struct ipv6_opt_hdr header;

	if (!is_header(w->protocol))
		return 1;
	w->cut = bpf_skb_load_bytes(w->skb, w->at, &header, sizeof(header));
	if (w->cut)
		return 1;
	w->at += w->protocol == IPPROTO_FRAGMENT ? 8
		 : w->protocol == IPPROTO_AH	 ? (header.hdrlen + 2) * 4
						 : (header.hdrlen + 1) * 8;
	w->protocol = header.nexthdr;
	return 0;
}

/* Goes to what the headers lead to: `protocol` is one of theirs where there are too many, or where the frame ends. */
static __always_inline void walk_headers(struct __sk_buff *skb, const struct packet *p, struct header_walk *w)
{
	w->skb = skb;
	w->at = p->l4;
	w->protocol = p->protocol;
	w->cut = false;
	bpf_loop(MAX_HEADERS, walk_header, w, 0);
}

/* ICMPv6 types, RFC 4861 section 4. */
#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136

/*
 * Does the ICMPv6 message there claim the address? An advertisement claims its target, and so does a solicitation that
 * probes for duplicates (RFC 4861 section 4.3, 4.4). Neither need bear the address as its source.
 */
static __always_inline bool nd_claims(struct __sk_buff *skb, __u32 at)
{
	struct {
		__u8 type;
		__u8 code;
		__be16 checksum;
		__be32 flags;
		struct address target;
	} nd;

	if (bpf_skb_load_bytes(skb, at, &nd, sizeof(nd)))
		return false;
	return (nd.type == ND_SOLICITATION || nd.type == ND_ADVERTISEMENT) && is_service(&nd.target, 0);
}

#endif
