/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Output commit on the backup: the replica's acknowledgements go to the gateway, as frames that no client understands.
 * Whatever happens here, a segment either becomes such a frame or does not leave.
 */
#ifndef T2CP_COMMIT_FRAME_H
#define T2CP_COMMIT_FRAME_H

#include "hold.h"

static __always_inline bool commits(const struct control *c)
{
	return c->mode == MODE_SHADOW && c->flags & TELL_GATEWAY;
}

/* The right edge of the replica's window: its scale is the primary's. */
static __always_inline __u32 right_edge(const struct flow *f, __u32 ack, __u16 window)
{
	return ack + ((__u32)window << (f->primary_wscale & 15));
}

/*
 * Does the segment tell the gateway something? Every pure acknowledgement does, if only that an earlier one may have
 * been lost. To be asked before the flow learns of the segment.
 */
static __always_inline bool worth_telling(const struct control *c, const struct flow *f, const struct packet *p,
					  __u32 end)
{
	if (!commits(c) || !(p->flags & TCP_ACK))
		return false;
	return end == p->seq || after(p->ack, f->replica_ack) ||
	       after(right_edge(f, p->ack, p->window), right_edge(f, f->replica_ack, f->replica_window));
}

/* Makes the segment a commit frame: its headers behind another EtherType. It goes where the segment would have gone. */
static __always_inline int to_gateway(struct __sk_buff *skb, const struct packet *p)
{
	__be16 type = bpf_htons(ETH_P_COMMIT);

	/* Also where nothing is cut: it takes the marks of segmentation offload away. */
	if (bpf_skb_change_tail(skb, p->l4 + p->header, 0) ||
	    bpf_skb_store_bytes(skb, p->l3 - sizeof(type), &type, sizeof(type), 0))
		return TC_ACT_STOLEN;
	skb->mark = 0;
	return PASS;
}

/* A copy made by tell_gateway. It is read anew, since nothing but the mark came with it. */
static __noinline int marked_for_gateway(struct __sk_buff *skb)
{
	struct packet p;

	if (!read_ip(skb, &p) || !read_tcp(skb, &p))
		return TC_ACT_STOLEN;
	return to_gateway(skb, &p);
}

/* Sends a copy of a segment that will be turned around. */
static __always_inline void tell_gateway(struct __sk_buff *skb)
{
	__u32 mark = skb->mark;

	skb->mark = MARK_COMMIT;
	bpf_clone_redirect(skb, skb->ifindex, 0);
	skb->mark = mark;
}

#endif
