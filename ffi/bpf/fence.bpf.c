// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The gateway's program that silences the primary: while the fence is up, nothing of a service gets in from the
 * primary's MAC address. What else that host says, its heartbeat for one, passes.
 */
#include "fence_layout.h"

#define CONTROL struct fence_control
#define COUNTERS FENCE_COUNTERS
#include "common.h"
#include "claim.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

static __always_inline int drop(__u32 counter)
{
	count(counter);
	return TC_ACT_SHOT;
}

static __always_inline int pass(void)
{
	count(FENCE_PASSED);
	return PASS;
}

/* Replies and requests alike: neighbours learn from a request's sender, too. */
static __always_inline int fence_arp(struct __sk_buff *skb, __u32 l3)
{
	struct address claimed;
	struct arp_packet arp;

	/* Where it is cut behind its sender, Ethernet pads it. */
	if (bpf_skb_load_bytes(skb, l3, &arp, sizeof(arp))) {
		arp.target = 0;
		if (bpf_skb_load_bytes(skb, l3, &arp, __builtin_offsetof(struct arp_packet, target_mac)))
			return pass();
	}
	/* A probe has no sender: RFC 5227 section 2.1.1. */
	map_ipv4(&claimed, arp.sender ? arp.sender : arp.target);
	return is_service(&claimed, 0) ? drop(FENCE_DROPPED_ARP) : pass();
}

/* Frames that are no IP packets, or no sound ones. */
static __noinline int fence_other(struct __sk_buff *skb)
{
	__u32 l3;
	__be16 protocol = ethertype(skb, &l3);

	if (protocol == bpf_htons(ETH_P_ARP))
		return fence_arp(skb, l3);
	return is_vlan(protocol) || bears_address(skb, protocol, l3) ? drop(FENCE_DROPPED_OTHER) : pass();
}

/* IP packets that are no whole TCP segments. */
static __noinline int fence_packet(struct __sk_buff *skb, const struct packet *p)
{
	bool of_service = is_service(&p->source, 0);
	struct header_walk w;

	walk_headers(skb, p, &w);
	/* More headers than anybody uses, or no end of them. */
	if (is_header(w.protocol))
		return of_service || !w.cut ? drop(FENCE_DROPPED_OTHER) : pass();
	if (p->ipv6 && w.protocol == IPPROTO_ICMPV6 && nd_claims(skb, w.at))
		return drop(FENCE_DROPPED_ND);
	if (!of_service)
		return pass();
	/* Which port a fragment is of, only the first one says. */
	if (w.protocol == IPPROTO_TCP)
		return drop(FENCE_DROPPED_OTHER);
	/* A solicitation from the address makes its sender known as well: RFC 4861 section 7.2.3. */
	if (w.protocol == (p->ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return drop(FENCE_DROPPED_ICMP);
	return pass();
}

SEC("tc")
int fence_ingress(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct fence_control *c = bpf_map_lookup_elem(&control, &zero);
	struct packet p;
	__u8 source[6];

	if (!c || !c->since_ns || bpf_skb_load_bytes(skb, ETH_ALEN, source, sizeof(source)) ||
	    !same_mac(source, c->primary_mac))
		return PASS;
	if (!read_ip(skb, &p))
		return fence_other(skb);
	if (!read_tcp(skb, &p))
		return fence_packet(skb, &p);
	return is_service(&p.source, p.source_port) ? drop(FENCE_DROPPED_TCP) : pass();
}
