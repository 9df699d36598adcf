/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Keeping the backup from claiming the service's address by ARP or neighbour discovery. */
#ifndef T2CP_SILENCE_H
#define T2CP_SILENCE_H

#include "shadow.h"

static __always_inline int silence(void)
{
	count(SHADOW_SILENCED);
	return TC_ACT_STOLEN;
}

/*
 * ARP would betray the backup: a reply claims the address, and so does the sender field of a request. Requests ask on
 * behalf of the interface's own address instead. A probe (RFC 5227 section 2.1.1) has no sender; the primary would defend
 * the address against it, and who probes would give the address up.
 */
static __always_inline int silence_arp(struct __sk_buff *skb, const struct control *c, __u32 l3)
{
	struct {
		__be16 hardware_type;
		__be16 protocol_type;
		__u8 hardware_length;
		__u8 protocol_length;
		__be16 operation;
		__u8 sender_mac[6];
		__be32 sender;
		__u8 target_mac[6];
		__be32 target;
	} __attribute__((packed)) arp;
	struct address sender;
	bool whole = !bpf_skb_load_bytes(skb, l3, &arp, sizeof(arp));

	/* Where it is cut behind its sender, Ethernet pads it. */
	if (!whole) {
		arp.target = 0;
		if (bpf_skb_load_bytes(skb, l3, &arp, __builtin_offsetof(typeof(arp), target_mac)))
			return PASS;
	}
	map_ipv4(&sender, arp.sender ? arp.sender : arp.target);
	if (!is_service(&sender, 0))
		return PASS;
	if (!whole || arp.operation != bpf_htons(1) || arp.target == arp.sender || !arp.sender || !c->own_ipv4)
		return silence();
	arp.sender = c->own_ipv4;
	return bpf_skb_store_bytes(skb, l3, &arp, sizeof(arp), 0) ? TC_ACT_STOLEN : PASS;
}

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

/* Frames that are no IP packets, or no sound ones. What stands behind too many tags cannot be read, and is held. */
static __noinline int silence_other(struct __sk_buff *skb, const struct control *c)
{
	__u32 l3;
	__be16 protocol = ethertype(skb, &l3);

	if (protocol == bpf_htons(ETH_P_ARP))
		return silence_arp(skb, c, l3);
	return is_vlan(protocol) || bears_address(skb, protocol, l3) ? silence() : PASS;
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

/* ICMPv6 types, RFC 4861 section 4. */
#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136

/*
 * Neighbour discovery would betray it too: an advertisement claims its target, and so does a solicitation that probes
 * for duplicates (RFC 4861 section 4.3, 4.4). Neither need bear the address as its source. Receivers discard it in
 * fragments (RFC 6980), but not all do. What is behind more headers than anybody uses is held.
 */
static __noinline bool claims_by_nd(struct __sk_buff *skb, const struct packet *p)
{
	struct header_walk w = { .skb = skb, .at = p->l4, .protocol = p->protocol };
	struct {
		__u8 type;
		__u8 code;
		__be16 checksum;
		__be32 flags;
		struct address target;
	} nd;

	bpf_loop(MAX_HEADERS, walk_header, &w, 0);
	if (is_header(w.protocol))
		return !w.cut;
	if (w.protocol != IPPROTO_ICMPV6 || bpf_skb_load_bytes(skb, w.at, &nd, sizeof(nd)))
		return false;
	return (nd.type == ND_SOLICITATION || nd.type == ND_ADVERTISEMENT) && is_service(&nd.target, 0);
}

#endif
