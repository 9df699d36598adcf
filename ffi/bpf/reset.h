/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Resets of the primary, held back. When a process dies, its kernel resets connections long before anybody can take them
 * over: a client that hears of it is lost, and so is a replica. A living server's reset is late, and does no harm then.
 *
 * User space sends a reset on its way again after the bound. Without it, the flow's next reset passes by itself then:
 * whoever still talks to a connection that is gone gets one for each segment.
 */
#ifndef T2CP_RESET_H
#define T2CP_RESET_H

#include "mirror.h"

/* A flow each; as many as there are flows, since a crash resets all of them. */
#define MAX_RESETS 65536

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_RESETS);
	__type(key, struct flow_key);
	__type(value, struct reset);
} resets SEC(".maps");

#define AF_INET 2
#define AF_INET6 10

/*
 * Does the gateway send the clients' segments to another host by now? That is asked of its routes and neighbours, and
 * not of its traffic: the client may be idle. `p` is a segment of the service's.
 */
static __noinline bool has_moved(struct __sk_buff *skb, const struct mirror_control *c, const struct packet *p)
{
	struct bpf_fib_lookup route = { .l4_protocol = IPPROTO_TCP, .ifindex = skb->ifindex };

	route.sport = p->destination_port;
	route.dport = p->source_port;
	if (p->ipv6) {
		route.family = AF_INET6;
		__builtin_memcpy(route.ipv6_src, &p->destination, sizeof(route.ipv6_src));
		__builtin_memcpy(route.ipv6_dst, &p->source, sizeof(route.ipv6_dst));
	} else {
		route.family = AF_INET;
		route.ipv4_src = p->destination.word[3];
		route.ipv4_dst = p->source.word[3];
	}
	/* Where there is no neighbour, nobody has taken over. */
	return bpf_fib_lookup(skb, &route, sizeof(route), 0) == BPF_FIB_LKUP_RET_SUCCESS &&
	       !same_mac(route.dmac, c->primary_mac);
}

/* The answer to a SYN, which no flow has had yet (RFC 9293 section 3.10.7.1). */
static __always_inline bool is_refusal(const struct packet *p)
{
	return p->flags & TCP_ACK && !p->seq;
}

static __always_inline void count_reset(__u32 service)
{
	__u32 zero = 0;
	struct signals *s = bpf_map_lookup_elem(&signals, &zero);

	count(MIRROR_RESETS);
	if (s)
		__sync_fetch_and_add(&s->resets[service >> SERVICE_PLACE & (MAX_SERVICES - 1)], 1);
}

/* Notes a reset. False where there is no room. */
static __always_inline bool note_reset(const struct packet *p, const struct flow_key *key, __u64 now)
{
	struct reset new = { .since_ns = now, .seq = p->seq, .ack = p->ack, .flags = p->flags };
	__u32 zero = 0;
	struct signals *s = bpf_map_lookup_elem(&signals, &zero);

	/* Noted by another processor meanwhile: as good. */
	if (bpf_map_update_elem(&resets, key, &new, BPF_NOEXIST) && !bpf_map_lookup_elem(&resets, key))
		return false;
	if (s)
		__sync_fetch_and_add(&s->resets_noted, 1);
	return true;
}

/* Is it one that user space sends on its way, which it does once the bound is over, or at its own end? */
static __always_inline bool is_due(const struct __sk_buff *skb, const struct mirror_control *c, const struct reset *r,
				   __u64 now)
{
	return skb->mark == MARK_RESET || r->state != RESET_HELD ||
	       (__s64)(now - r->since_ns) >= (__s64)c->hold_resets * 1000000;
}

/* True where a reset of the primary must not go on now. */
static __always_inline bool hold_reset(struct __sk_buff *skb, const struct mirror_control *c, const struct packet *p,
				       const struct flow_key *key)
{
	struct reset *r = bpf_map_lookup_elem(&resets, key);
	__u64 now = bpf_ktime_get_ns();

	if (!r && skb->mark == MARK_RESET) /* a new connection has made it void on its way */
		return true;
	if (is_refusal(p) || (!r && !c->hold_resets))
		return false;
	if (has_moved(skb, c, p)) {
		if (r)
			r->state = RESET_DROPPED;
		count(MIRROR_RESETS_DROPPED);
		return true;
	}
	if (!r) {
		bool noted = note_reset(p, key, now);

		count(noted ? MIRROR_RESETS_HELD : MIRROR_RESETS_NOT_HELD);
		return noted;
	}
	if (is_due(skb, c, r, now)) {
		if (r->state == RESET_HELD)
			count(MIRROR_RESETS_PASSED);
		r->state = RESET_PASSED;
		return false;
	}
	count(MIRROR_RESETS_HELD);
	if (!after(r->seq, p->seq)) {
		r->seq = p->seq;
		r->ack = p->ack;
		r->flags = p->flags;
	}
	return true;
}

/*
 * A segment of the primary that begins or ends a flow: true where it must not go on now. A new connection makes the reset
 * of the one before void. Other segments do not: they may have overtaken it, and where the client has got data since, the
 * reset's number says that it is old.
 */
static __noinline bool hold_back(struct __sk_buff *skb, const struct mirror_control *c, const struct packet *p,
				 const struct flow_key *key, __u32 service)
{
	bool held = false;

	if (p->flags & TCP_RST) {
		if (skb->mark != MARK_RESET)
			count_reset(service);
		held = hold_reset(skb, c, p, key);
	} else if (p->flags & TCP_ACK) {
		bpf_map_delete_elem(&resets, key);
	}
	skb->mark = skb->mark == MARK_RESET ? 0 : skb->mark;
	return held;
}

#endif
