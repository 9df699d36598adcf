/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Keeping the backup from claiming the service's address by ARP or neighbour discovery. */
#ifndef T2CP_SILENCE_H
#define T2CP_SILENCE_H

#include "shadow.h"

/* ICMPv6 types, RFC 4861 section 4. */
#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136

/*
 * ARP would betray the backup: a reply claims the address, and so does the sender field of a request. Requests ask on
 * behalf of the interface's own address instead.
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

	if (bpf_skb_load_bytes(skb, l3, &arp, sizeof(arp)))
		return PASS;
	map_ipv4(&sender, arp.sender);
	if (!is_service(&sender, 0))
		return PASS;
	if (arp.operation != bpf_htons(1) || arp.target == arp.sender || !c->own_ipv4) {
		count(SHADOW_SILENCED);
		return TC_ACT_STOLEN;
	}
	arp.sender = c->own_ipv4;
	return bpf_skb_store_bytes(skb, l3, &arp, sizeof(arp), 0) ? TC_ACT_STOLEN : PASS;
}

/*
 * Neighbour discovery would betray it too: an advertisement claims its target, and so does a solicitation that probes
 * for duplicates (RFC 4861 section 4.3, 4.4). Neither need bear the address as its source.
 */
static __always_inline bool claims_by_nd(struct __sk_buff *skb, const struct packet *p)
{
	struct {
		__u8 type;
		__u8 code;
		__be16 checksum;
		__be32 flags;
		struct address target;
	} nd;

	if (!p->ipv6 || p->protocol != IPPROTO_ICMPV6 || bpf_skb_load_bytes(skb, p->l4, &nd, sizeof(nd)))
		return false;
	return (nd.type == ND_SOLICITATION || nd.type == ND_ADVERTISEMENT) && is_service(&nd.target, 0);
}

#endif
