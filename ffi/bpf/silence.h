/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Keeping the backup from claiming the service's address by ARP or neighbour discovery. */
#ifndef T2CP_SILENCE_H
#define T2CP_SILENCE_H

#include "shadow.h"
#include "claim.h"

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
	struct arp_packet arp;
	struct address sender;
	bool whole = !bpf_skb_load_bytes(skb, l3, &arp, sizeof(arp));

	/* Where it is cut behind its sender, Ethernet pads it. */
	if (!whole) {
		arp.target = 0;
		if (bpf_skb_load_bytes(skb, l3, &arp, __builtin_offsetof(struct arp_packet, target_mac)))
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

/* Frames that are no IP packets, or no sound ones. What stands behind too many tags cannot be read, and is held. */
static __noinline int silence_other(struct __sk_buff *skb, const struct control *c)
{
	__u32 l3;
	__be16 protocol = ethertype(skb, &l3);

	if (protocol == bpf_htons(ETH_P_ARP))
		return silence_arp(skb, c, l3);
	return is_vlan(protocol) || bears_address(skb, protocol, l3) ? silence() : PASS;
}

/*
 * Neighbour discovery behind whatever headers. Receivers discard it in fragments (RFC 6980), but not all do. What is
 * behind more headers than anybody uses counts as a claim.
 */
static __noinline bool claims_by_nd(struct __sk_buff *skb, const struct packet *p)
{
	struct header_walk w;

	walk_headers(skb, p, &w);
	if (is_header(w.protocol))
		return !w.cut;
	return w.protocol == IPPROTO_ICMPV6 && nd_claims(skb, w.at);
}

#endif
