// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The gateway's programs: they send the backup a copy of what passes between the clients and the primary.
 *
 * The rule asks for the primary's MAC address, not just for the service: as soon as the service's address moves to
 * another host, the copying stops by itself.
 *
 * Resets of the primary they hold back for a while, so that there is time for a takeover. With output commit they also
 * lower what the primary tells the client to what the replica has acknowledged too.
 */
#include "mirror.h"
#include "commit.h"
#include "commit_reply.h"
#include "reset.h"
#include "answer.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define FIN_OF_CLIENT 1
#define FIN_OF_PRIMARY 2

/* Reports a flow when the primary accepts it and when both sides, or a reset, have ended it. */
static __always_inline void follow_flow(const struct packet *p, const struct flow_key *key, __u32 fin)
{
	__u32 none = 0, *closed;

	if ((p->flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK)) {
		if (!bpf_map_update_elem(&flows, key, &none, BPF_NOEXIST))
			report(EVENT_FLOW_OPEN, REASON_NONE, key, 0);
		return;
	}
	if (!(p->flags & (TCP_FIN | TCP_RST)))
		return;
	closed = bpf_map_lookup_elem(&flows, key);
	if (!closed)
		return;
	if (p->flags & TCP_FIN)
		*closed |= fin;
	if (p->flags & TCP_RST || *closed == (FIN_OF_CLIENT | FIN_OF_PRIMARY)) {
		__u32 reason = p->flags & TCP_FIN	 ? REASON_FIN
			       : fin == FIN_OF_CLIENT ? REASON_RESET_BY_CLIENT
						      : REASON_RESET_BY_PRIMARY;

		if (!bpf_map_delete_elem(&flows, key))
			report(EVENT_FLOW_CLOSE, reason, key, 0);
	}
}

/* Sends a copy to the backup. The addresses are changed for the copy and restored for the frame itself. */
static __always_inline void copy_to_backup(struct __sk_buff *skb, const struct mirror_control *c, const __u8 *macs,
					   __u32 mark)
{
	__u8 addressed[12];
	__u32 old_mark = skb->mark;

	/* From our own address: from another's, the switch would take this port for the other's. */
	__builtin_memcpy(addressed, c->backup_mac, 6);
	__builtin_memcpy(addressed + 6, c->own_mac, 6);
	bpf_skb_store_bytes(skb, 0, addressed, sizeof(addressed), 0);
	skb->mark = mark;
	if (bpf_clone_redirect(skb, skb->ifindex, 0))
		count(MIRROR_FAILED);
	skb->mark = old_mark;
	bpf_skb_store_bytes(skb, 0, macs, 12, 0);
}

SEC("tc")
int mirror_egress(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct mirror_control *c = bpf_map_lookup_elem(&control, &zero);
	struct flow_key key = {};
	struct packet p;
	__u8 macs[12];

	if (!c)
		return PASS;
	if (skb->mark == MARK_HEADERS) { /* a copy on its way out: the lengths in the headers stay as they were */
		skb->mark = 0;
		if (read_ip(skb, &p) && read_tcp(skb, &p) && skb->len > p.l4 + p.header)
			bpf_skb_change_tail(skb, p.l4 + p.header, 0);
		return PASS;
	}
	if (skb->mark == MARK_COMMIT) { /* a probe of ours: the replica must not get it, too */
		skb->mark = 0;
		return PASS;
	}
	if (skb->mark == MARK_RESET) /* as if the primary had sent it now */
		return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)) || !same_mac(macs, c->primary_mac) || !read_ip(skb, &p) ||
	    !read_tcp(skb, &p) || !is_service(&p.destination, p.destination_port))
		return PASS;
	if (c->flags & WANT_FLOW_EVENTS || p.flags & TCP_FIN) {
		flow_of(&p, true, &key);
		if (c->flags & WANT_FLOW_EVENTS)
			follow_flow(&p, &key, FIN_OF_CLIENT);
		if (c->flags & MIRROR_COMMIT && p.flags & TCP_FIN)
			follow_client_fin(&p, &key);
	}
	if (c->flags & MIRROR_ANSWERS)
		await_answer(&p);
	count(MIRROR_TO_PRIMARY);
	add(MIRROR_TO_PRIMARY_BYTES, skb->len);
	copy_to_backup(skb, c, macs, 0);
	return PASS;
}

/* Apart from the rest, whose memory is another: BPF has little of it. */
static __noinline int from_primary(struct __sk_buff *skb, const struct mirror_control *c, const __u8 *macs)
{
	struct flow_key key;
	struct packet p;
	__u32 service;

	if (!read_ip(skb, &p) || !read_tcp(skb, &p) || !(service = service_value(&p.source, p.source_port)))
		return PASS;
	flow_of(&p, false, &key);
	if (c->flags & MIRROR_ANSWERS)
		note_answer(&p);
	if (p.flags & (TCP_SYN | TCP_RST) && hold_back(skb, c, &p, &key, service))
		return TC_ACT_STOLEN;
	if (c->flags & WANT_FLOW_EVENTS)
		follow_flow(&p, &key, FIN_OF_PRIMARY);
	count(MIRROR_FROM_PRIMARY);
	add(MIRROR_FROM_PRIMARY_BYTES, skb->len);
	copy_to_backup(skb, c, macs, c->flags & MIRROR_PAYLOAD ? 0 : MARK_HEADERS);
	/* Only now: the backup has to know what the primary really said. */
	return c->flags & MIRROR_COMMIT ? limit_primary(skb, c, &p, &key) : PASS;
}

SEC("tc")
int mirror_ingress(struct __sk_buff *skb)
{
	__u32 zero = 0, l3;
	struct mirror_control *c = bpf_map_lookup_elem(&control, &zero);
	__u8 macs[12];

	if (!c || bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return PASS;
	if (skb->mark == MARK_COMMIT) { /* what a commit frame became: on to the client */
		skb->mark = 0;
		return PASS;
	}
	if (same_mac(macs + 6, c->primary_mac))
		return from_primary(skb, c, macs);
	if (same_mac(macs + 6, c->backup_mac) && ethertype(skb, &l3) == bpf_htons(ETH_P_COMMIT))
		return c->flags & MIRROR_COMMIT ? commit_frame(skb, c, l3) : TC_ACT_STOLEN;
	return PASS;
}
