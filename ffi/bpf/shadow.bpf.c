// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The backup's programs: they give each flow an exact replica, keep it in step with the primary's socket, and keep it
 * silent until takeover.
 *
 * Ingress reads the copied traffic. From the handshake it learns both initial sequence numbers and all options, so
 * that the client's first ACK can create the replica's socket in the primary's state. Later client segments go to
 * that socket with two fields changed: the acknowledgement never exceeds what the replica has sent, and the window
 * ends at the client's acknowledgement (the hold). So the replica has nothing in flight, ever, and takeover costs no
 * retransmission timeout.
 *
 * Egress lets nothing of the service's address out. A segment that the client has acknowledged to the primary already
 * comes back to the replica as that acknowledgement. With output commit the replica's own acknowledgements go to the
 * gateway, as frames of a type that no client understands.
 */
#include "shadow.h"
#include "hold.h"
#include "rewrite.h"
#include "gap.h"
#include "handshake.h"
#include "silence.h"
#include "commit_frame.h"
#include "freeze.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* A flow whose replica has gone ends when both sides have closed it. */
static __always_inline int without_replica(const struct control *c, const struct flow_key *key, const struct flow *f)
{
	if (f->client_fin && f->primary_fin && f->client_ack == f->primary_end && f->primary_ack == f->client_end)
		close_flow(c, key, REASON_FIN);
	return TC_ACT_STOLEN;
}

static __always_inline int from_primary(struct __sk_buff *skb, const struct control *c, const struct packet *p,
					const struct flow_key *key, struct flow *f, __u32 service)
{
	__u32 end = sequence_end(p);
	bool created = f != NULL;

	/* A primary that comes back has no say any more; but what it sent, its client may get and acknowledge. */
	if (c->mode != MODE_SHADOW) {
		if (created && after(end, f->primary_end))
			f->primary_end = end;
		return TC_ACT_STOLEN;
	}
	if ((p->flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK))
		return primary_synack(skb, c, p, key);
	if (!created) {
		f = bpf_map_lookup_elem(&handshakes, key);
		if (service & SERVICE_JOIN && (!f || f->synack_seen == JOINING))
			return offer_join(skb, p, key, service);
		if (!f)
			return TC_ACT_STOLEN;
		if (!f->synack_seen)
			return missed_synack(p, key, f);
	} else if (p->flags & TCP_RST) {
		int verdict = reset_replica(skb, p, f);

		close_flow(c, key, REASON_RESET_BY_PRIMARY);
		return verdict;
	}
	count(SHADOW_PRIMARY_SEGMENTS);
	f->seen_ns = f->primary_ns = coarse_ns();
	if (after(end, f->primary_end))
		f->primary_end = end;
	if (p->flags & TCP_FIN)
		f->primary_fin = 1;
	if (p->flags & TCP_ACK) {
		__u32 right = p->ack + ((__u32)p->window << (f->primary_wscale & 15));

		if (after(p->ack, f->primary_ack))
			f->primary_ack = p->ack;
		if (after(right, f->primary_right))
			f->primary_right = right;
		if (created && !f->replica_reset) {
			look_for_gap(key, f);
			look_for_lag(key, f);
		}
	}
	return f->replica_reset ? without_replica(c, key, f) : TC_ACT_STOLEN;
}

static __always_inline void follow_client(struct __sk_buff *skb, const struct control *c, struct flow *f,
					  const struct packet *p, __u32 end)
{
	struct tcp_options o;
	/* What the client acknowledges, somebody has sent; beyond it there is only forgery, or a loss on the tap. */
	__u32 ack = earlier(p->ack, sent_end(c, f));

	follow_holes(f, p->seq, end);
	if (p->flags & TCP_FIN)
		f->client_fin = 1;
	if (!after(f->client_ack, ack))
		f->client_window = p->window;
	if (after(ack, f->client_ack))
		f->client_ack = ack;
	if (f->options & OPTION_TIMESTAMPS) {
		read_timestamps(skb, p, &o);
		if (after(o.tsval, f->client_tsval)) {
			f->client_tsval = o.tsval;
			f->client_tsecr = o.tsecr;
		}
	}
}

static __always_inline int client_reset(const struct control *c, const struct packet *p, const struct flow_key *key,
					const struct flow *f)
{
	/* The stack judges it by itself; only an exact one ends the flow for sure (RFC 5961 section 3). */
	if (p->seq == f->client_end || p->seq == f->primary_ack || p->seq == f->replica_ack)
		close_flow(c, key, REASON_RESET_BY_CLIENT);
	return PASS;
}

/* Sends a reset of the client's behind this segment: see answer_and_end. */
static __always_inline void end_time_wait(struct __sk_buff *skb, const struct packet *p)
{
	__u32 mark = skb->mark;

	set_flags(skb, p, p->flags, TCP_RST, p->offset);
	skb->mark = MARK_INJECTED;
	bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
	skb->mark = mark;
	set_flags(skb, p, TCP_RST, p->flags, p->offset);
}

static __always_inline int in_handshake(struct __sk_buff *skb, const struct control *c, const struct packet *p,
					const struct flow_key *key, struct flow *f)
{
	if (!(p->flags & TCP_ACK) || (p->flags & TCP_RST))
		return TC_ACT_STOLEN;
	/* The SYN/ACK may come by another processor, and later: what the primary says next shows if it is missing. */
	if (!f->synack_seen)
		return ignore(c);
	bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	return first_ack(skb, c, p, key, f);
}

static __always_inline int from_client(struct __sk_buff *skb, const struct control *c, const struct packet *p,
				       const struct flow_key *key, struct flow *f)
{
	__u32 end = sequence_end(p), ack;
	__u16 window;
	bool fresh;

	if ((p->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		if (c->mode == MODE_SHADOW)
			return client_syn(skb, p, key);
		/* The stack opens it by itself; what was known of an earlier one must not touch it. */
		bpf_map_delete_elem(&handshakes, key);
		bpf_map_delete_elem(&flows, key);
		return PASS;
	}
	if (p->truncated) {
		count(SHADOW_TRUNCATED);
		return TC_ACT_STOLEN;
	}
	if (!f) {
		f = bpf_map_lookup_elem(&handshakes, key);
		if (f)
			return in_handshake(skb, c, p, key, f);
		/* Another processor may have made a flow of the handshake between the two looks. */
		f = bpf_map_lookup_elem(&flows, key);
		if (!f)
			return stranger(c, key);
	}
	if (f->replica_reset && c->mode != MODE_SHADOW)
		return PASS;
	count(SHADOW_CLIENT_SEGMENTS);
	f->seen_ns = coarse_ns();
	if (skb->pkt_type != 0)
		bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	if (p->flags & TCP_RST)
		return client_reset(c, p, key, f);
	if (!(p->flags & TCP_ACK))
		return TC_ACT_STOLEN;
	if (!acceptable_ack(c, f, p)) {
		count(SHADOW_IMPLAUSIBLE);
		return TC_ACT_STOLEN;
	}
	fresh = after(end, f->client_end);
	if (c->mode != MODE_SHADOW || acceptable(f, p, end))
		follow_client(skb, c, f, p, end);
	if (f->replica_reset)
		return without_replica(c, key, f);
	order(f); /* client_ack is written, now replica_end may be read; egress does it the other way round */
	ack = earlier(p->ack, f->replica_end);
	window = c->mode == MODE_SHADOW ? hold_window(f, ack) : settling_window(f, p->ack, p->window, ack);
	if (!set_ack_and_window(skb, p, ack, window))
		return TC_ACT_STOLEN;
	if (both_closed(f, ack)) {
		if (c->mode == MODE_SHADOW && p->seq == f->client_end)
			end_time_wait(skb, p);
		close_flow(c, key, REASON_FIN);
	} else if (c->mode == MODE_SETTLING && in_step(f)) {
		bpf_map_delete_elem(&flows, key); /* in step with its client: the stack needs no help any more */
	} else if (wants_answer(f, p, end, fresh) && frozen_flow(c, key)) {
		return answer_client(skb, p, end);
	}
	return PASS;
}

SEC("tc")
int shadow_ingress(struct __sk_buff *skb)
{
	__u32 zero = 0, service = SERVICE_KNOWN;
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	struct flow *f = NULL;
	struct flow_key key;
	struct packet p;
	bool tcp, by_client = false;

	if (!c || c->mode == MODE_ACTIVE)
		return PASS;
	if (skb->mark == MARK_INJECTED) { /* ours, whatever MAC address the client's frames bear */
		bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
		return PASS;
	}
	if (!read_ip(skb, &p))
		return PASS;
	tcp = read_tcp(skb, &p);
	if (tcp) {
		/* Look-ups cost most, so the likely one comes first: servers have the lower port. */
		by_client = bpf_ntohs(p.destination_port) < bpf_ntohs(p.source_port);
		f = find_flow(&p, by_client, &key);
	}
	if (!f) {
		bool to_service = is_service(&p.destination, 0);

		if (tcp && to_service && is_service(&p.destination, p.destination_port)) {
			f = find_flow(&p, by_client = true, &key);
		} else if (tcp && (service = service_value(&p.source, p.source_port))) {
			f = find_flow(&p, by_client = false, &key);
		} else if (c->mode == MODE_SHADOW && to_service) {
			/* Everything else for the address is the primary's too. */
			count(tcp || p.protocol != IPPROTO_TCP ? SHADOW_SILENCED : SHADOW_MALFORMED);
			return TC_ACT_STOLEN;
		} else {
			return PASS;
		}
	}
	if (!by_client)
		return from_primary(skb, c, &p, &key, f, service);
	return c->flags & DRAINING ? TC_ACT_STOLEN : from_client(skb, c, &p, &key, f);
}

/* Gives the replica a segment of its client instead of letting its own out. */
static __always_inline int answer(struct __sk_buff *skb, const struct packet *p, const struct reply *r)
{
	if (!turn_around(skb, p, r))
		return TC_ACT_STOLEN;
	count(SHADOW_SELF_ACKNOWLEDGED);
	skb->mark = MARK_INJECTED;
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

/*
 * The last acknowledgement of a flow, and a reset behind it: where both sides closed at once, the first makes the
 * socket a TIME_WAIT that would swallow the next flow of the same addresses and ports, and the second ends that.
 */
static __always_inline int answer_and_end(struct __sk_buff *skb, const struct packet *p, const struct reply *r)
{
	__u8 offset;

	if (!turn_around(skb, p, r) || bpf_skb_load_bytes(skb, p->l4 + OFFSET_FLAGS, &offset, sizeof(offset)))
		return TC_ACT_STOLEN;
	count(SHADOW_SELF_ACKNOWLEDGED);
	skb->mark = MARK_INJECTED;
	bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
	set_flags(skb, p, TCP_ACK, TCP_RST, offset);
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

/*
 * The primary may be about to reset the flow, too: both servers do the same, and one is the first. So this is no more
 * than a reason to look: user space reports the flow, and counts it, if it is there still after a while.
 */
static __always_inline int replica_reset(const struct control *c, const struct flow_key *key, struct flow *f)
{
	if (c->mode != MODE_SHADOW)
		return PASS;
	if (f->client_fin && f->primary_fin) {
		close_flow(c, key, REASON_FIN);
	} else if (!f->replica_reset) {
		f->replica_reset = f->unprotected = 1;
		report(EVENT_FLOW_UNPROTECTED, REASON_REPLICA_RESET, key, 0);
	}
	return TC_ACT_STOLEN;
}

/*
 * Does the primary still hold the flow? Whenever the replica has a reason to probe, the primary has it too and sends
 * at least every two minutes (TCP_RTO_MAX). A replica whose primary has given up may give up as well.
 */
#define PRIMARY_SILENCE_NS (300ll * 1000000000)

static __always_inline bool primary_cares(const struct flow *f)
{
	return (__s64)(coarse_ns() - f->primary_ns) < PRIMARY_SILENCE_NS;
}

static __always_inline int from_replica(struct __sk_buff *skb, const struct control *c, const struct packet *p,
					const struct flow_key *key, struct flow *f)
{
	int verdict = c->mode == MODE_SHADOW ? TC_ACT_STOLEN : PASS;
	struct reply r = { .seq = p->ack, .flags = TCP_ACK };
	__u32 end = sequence_end(p);
	bool probe, known, tell, more;

	count(SHADOW_REPLICA_SEGMENTS);
	if (p->flags & TCP_RST) {
		verdict = replica_reset(c, key, f);
		return commits(c) ? to_gateway(skb, p) : verdict;
	}
	if (frozen_flow(c, key)) {
		/* The gateway would tell the client of a window. */
		tell = false;
		more = p->flags & TCP_ACK && after(p->ack, f->replica_ack);
	} else {
		tell = worth_telling(c, f, p, end);
		more = false;
	}
	/* Probes of a zero window and keep-alives repeat an old number, so that the other end answers. */
	probe = end == p->seq && after(f->replica_end, p->seq);
	if (after(end, f->replica_end))
		f->replica_end = end;
	if (p->flags & TCP_ACK)
		f->replica_ack = p->ack;
	f->replica_window = p->window;
	if (p->flags & TCP_FIN)
		f->replica_fin = 1;
	order(f); /* replica_end is written, now client_ack may be read; ingress does it the other way round */
	if (more)
		show_client(skb);
	if (c->mode == MODE_SHADOW && end == p->seq && both_closed(f, earlier(f->client_ack, f->replica_end))) {
		/* It has closed first and goes to TIME_WAIT, which is the primary's to keep: reset it. */
		r.flags = TCP_RST;
		close_flow(c, key, REASON_FIN);
		if (tell)
			tell_gateway(skb);
		return answer(skb, p, &r);
	}
	known = end != p->seq && !after(end, f->client_ack);
	if (!known && !(probe && c->mode == MODE_SHADOW && primary_cares(f)))
		return tell ? to_gateway(skb, p) : verdict;
	if (tell)
		tell_gateway(skb);
	r.ack = known ? end : earlier(f->client_ack, f->replica_end);
	r.window = c->mode == MODE_SHADOW ? hold_window(f, r.ack)
					: settling_window(f, f->client_ack, f->client_window, r.ack);
	if (!both_closed(f, r.ack))
		return answer(skb, p, &r);
	close_flow(c, key, REASON_FIN);
	return c->mode == MODE_SHADOW ? answer_and_end(skb, p, &r) : answer(skb, p, &r);
}

SEC("tc")
int shadow_egress(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	struct flow_key key;
	struct flow *f;
	struct packet p;

	if (!c)
		return PASS;
	if (skb->mark == MARK_INJECTED)
		return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
	if (skb->mark == MARK_COMMIT)
		return marked_for_gateway(skb);
	if (skb->mark == MARK_FROZEN)
		return marked_for_client(skb, c, &p, &key);
	if (c->mode == MODE_ACTIVE)
		return PASS;
	if (!read_ip(skb, &p))
		return c->mode == MODE_SHADOW ? silence_other(skb, c) : PASS;
	if (read_tcp(skb, &p) && (f = find_flow(&p, false, &key)))
		return from_replica(skb, c, &p, &key, f);
	if (c->mode != MODE_SHADOW)
		return PASS;
	/* Whatever else bears the address, fragments and ICMP errors too, is the primary's to send. */
	if (is_service(&p.source, 0))
		return silence();
	return p.ipv6 && p.protocol != IPPROTO_TCP && claims_by_nd(skb, &p) ? silence() : PASS;
}
