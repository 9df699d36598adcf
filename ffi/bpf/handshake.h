/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* From the handshake to the replica's socket. */
#ifndef T2CP_HANDSHAKE_H
#define T2CP_HANDSHAKE_H

#include "hold.h"
#include "rewrite.h"

#define STATE_LISTEN 10
#define EEXIST 17

/* Kernel types: the first only by its name, the second as in include/net/tcp.h. */
struct sock {
	int opaque;
};
struct bpf_tcp_req_attrs {
	__u32 rcv_tsval;
	__u32 rcv_tsecr;
	__u16 mss;
	__u8 rcv_wscale;
	__u8 snd_wscale;
	__u8 ecn_ok;
	__u8 wscale_ok;
	__u8 sack_ok;
	__u8 tstamp_ok;
	__u8 usec_ts_ok;
	__u8 reserved[3];
};

extern int bpf_sk_assign_tcp_reqsk(struct __sk_buff *skb, struct sock *sk, struct bpf_tcp_req_attrs *attrs,
				   int attrs__sz) __ksym;

/*
 * A segment of the primary says that the replica's socket must go. It is made the client's reset of that socket;
 * RFC 5961 wants its sequence number exact.
 */
static __always_inline int reset_socket(struct __sk_buff *skb, const struct packet *p, __u32 seq)
{
	struct reply r = { .seq = seq, .flags = TCP_RST };

	if (!turn_around(skb, p, &r))
		return TC_ACT_STOLEN;
	bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	return PASS;
}

static __always_inline int reset_replica(struct __sk_buff *skb, const struct packet *p, const struct flow *f)
{
	return reset_socket(skb, p, replica_next(f));
}

/* The primary has taken another connection of the same addresses and ports: the old one's replica must go. */
static __noinline int replace(struct __sk_buff *skb, const struct control *c, const struct packet *p,
			      const struct flow_key *key, const struct flow *old)
{
	int verdict = reset_replica(skb, p, old);

	close_flow(c, key, REASON_REPLACED);
	return verdict;
}

/* RFC 3168 section 6.1.1: both flags in the SYN, one in the SYN/ACK. Others there mean more accurate feedback (RFC 9768). */
static __always_inline bool offers_ecn(const struct packet *syn)
{
	return (syn->flags & (TCP_ECE | TCP_CWR)) == (TCP_ECE | TCP_CWR);
}

static __always_inline bool agrees_to_ecn(const struct packet *synack)
{
	return (synack->flags & (TCP_ECE | TCP_CWR)) == TCP_ECE && !(synack->offset & TCP_AE);
}

static __always_inline int primary_synack(struct __sk_buff *skb, const struct control *c, const struct packet *p,
					  const struct flow_key *key)
{
	struct flow *f = bpf_map_lookup_elem(&handshakes, key), *old;
	struct tcp_options o;
	__u32 stale;

	if (!f || p->ack != f->irs + 1) {
		/* The tap missed the SYN of a new incarnation; the old one is over all the same. */
		old = bpf_map_lookup_elem(&flows, key);
		return old && old->iss != p->seq ? replace(skb, c, p, key, old) : TC_ACT_STOLEN;
	}
	if (f->synack_seen && f->iss == p->seq)
		return TC_ACT_STOLEN;
	read_options(skb, p, &o);
	stale = f->synack_seen ? 0 : f->replica_ack;
	f->iss = p->seq;
	f->client_ack = f->primary_end = f->replica_end = p->seq + 1;
	f->primary_ack = f->replica_ack = f->client_next = p->ack;
	f->primary_right = p->ack + p->window; /* never scaled in a SYN, RFC 7323 section 2.2 */
	f->primary_wscale = o.wscale;
	f->options &= o.present | (agrees_to_ecn(p) ? OPTION_ECN : 0);
	if (!(f->options & OPTION_WSCALE))
		f->client_wscale = f->primary_wscale = 0;
	f->synack_tsval = o.tsval;
	f->synack_ns = bpf_ktime_get_ns();
	f->seen_ns = f->primary_ns = coarse_ns();
	f->synack_seen = 1;
	/* Only now is it sure that the primary took the new incarnation: a SYN alone may be forged. */
	old = bpf_map_lookup_elem(&flows, key);
	if (old)
		return replace(skb, c, p, key, old);
	return stale ? reset_socket(skb, p, stale) : TC_ACT_STOLEN;
}

/* The smallest that any path carries: what the client can take is not known (RFC 8200 section 5, less headers). */
#define JOIN_MSS 1220

/*
 * A segment of a connection that began before the shadow. It shows what a SYN/ACK does: where both directions stand, and
 * the primary's timestamp clock. A client segment that fits it exactly, with nothing on its way in either direction,
 * can then create the replica's socket like a first ACK. Whether the server can start in the middle is the admin's word.
 */
static __noinline int offer_join(struct __sk_buff *skb, const struct packet *p, const struct flow_key *key,
				 __u32 service)
{
	__u32 *known = bpf_map_lookup_elem(&strangers, key);
	struct tcp_options o;
	struct flow f;

	if ((p->flags & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK)) != TCP_ACK)
		return TC_ACT_STOLEN;
	if (known && !(*known & STRANGER_REPORTED)) /* late segments of a flow that has ended begin none */
		return TC_ACT_STOLEN;
	__builtin_memset(&f, 0, sizeof(f));
	read_timestamps(skb, p, &o);
	f.irs = p->ack - 1;
	f.iss = sequence_end(p) - 1;
	f.client_end = f.client_next = f.primary_ack = f.replica_ack = p->ack;
	f.client_ack = f.primary_end = f.replica_end = f.iss + 1;
	f.primary_wscale = f.client_wscale = (service >> SERVICE_WSCALE) & 15;
	f.primary_right = p->ack + ((__u32)p->window << f.primary_wscale);
	f.options = (o.present & OPTION_TIMESTAMPS) | OPTION_WSCALE;
	f.mss = JOIN_MSS;
	f.synack_tsval = o.tsval;
	f.synack_ns = bpf_ktime_get_ns();
	f.seen_ns = f.primary_ns = coarse_ns();
	f.synack_seen = JOINING;
	bpf_map_update_elem(&handshakes, key, &f, BPF_ANY);
	return TC_ACT_STOLEN;
}

static __noinline int client_syn(struct __sk_buff *skb, const struct packet *p, const struct flow_key *key)
{
	struct flow *known = bpf_map_lookup_elem(&handshakes, key);
	struct stranger *ended = bpf_map_lookup_elem(&strangers, key);
	struct flow f;
	struct tcp_options o;

	if (known && known->irs == p->seq)
		return TC_ACT_STOLEN;
	__builtin_memset(&f, 0, sizeof(f));
	/*
	 * Until the SYN/ACK: where an earlier replica of these addresses and ports stood. Its socket may be in TIME_WAIT
	 * still: a reset that comes while a process is at the socket's last ACK is lost.
	 */
	f.replica_ack = ended ? ended->client_end : known && !known->synack_seen ? known->replica_ack : 0;
	bpf_map_delete_elem(&strangers, key);
	read_options(skb, p, &o);
	f.irs = p->seq;
	f.client_end = p->seq + 1;
	f.mss = o.mss ? o.mss : p->ipv6 ? 1220 : 536; /* RFC 9293 section 3.7.1 */
	f.client_wscale = o.wscale;
	f.options = o.present | (offers_ecn(p) ? OPTION_ECN : 0);
	f.client_tsval = o.tsval;
	f.client_window = p->window;
	f.seen_ns = coarse_ns();
	bpf_map_update_elem(&handshakes, key, &f, BPF_ANY);
	return TC_ACT_STOLEN;
}

/* The least that bpf_sk_assign_tcp_reqsk() takes; all that runs over IPv6 can take as much (RFC 8200 section 5). */
#define LEAST_MSS_IPV4 536
#define LEAST_MSS_IPV6 1220

/*
 * Creates the replica's socket out of the client's first acknowledgement: its sequence and acknowledgement numbers,
 * less one, become IRS and ISS. Returns 0, or the reason why there is none.
 */
static __noinline __u32 create_socket(struct __sk_buff *skb, const struct packet *p, const struct flow *f,
					   const struct tcp_options *o, int *error)
{
	struct bpf_tcp_req_attrs attrs = {};
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *found;
	struct sock *listener;
	__u32 reason = REASON_NONE;

	if (!p->ipv6 && f->mss < LEAST_MSS_IPV4)
		return REASON_SMALL_MSS;
	if (p->ipv6) {
		__builtin_memcpy(tuple.ipv6.saddr, &p->source, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, &p->destination, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.sport = p->source_port;
		tuple.ipv6.dport = p->destination_port;
		found = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	} else {
		tuple.ipv4.saddr = p->source.word[3];
		tuple.ipv4.daddr = p->destination.word[3];
		tuple.ipv4.sport = p->source_port;
		tuple.ipv4.dport = p->destination_port;
		found = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	if (!found)
		return REASON_NO_LISTENER;
	if (found->state != STATE_LISTEN) {
		reason = REASON_STALE_SOCKET;
		goto release;
	}
	listener = (struct sock *)bpf_skc_to_tcp_sock(found);
	if (!listener) {
		reason = REASON_NO_LISTENER;
		goto release;
	}
	attrs.mss = p->ipv6 && f->mss < LEAST_MSS_IPV6 ? LEAST_MSS_IPV6 : f->mss;
	attrs.rcv_wscale = f->primary_wscale;
	attrs.snd_wscale = f->client_wscale;
	attrs.wscale_ok = !!(f->options & OPTION_WSCALE);
	attrs.sack_ok = !!(f->options & OPTION_SACK);
	attrs.tstamp_ok = !!(f->options & OPTION_TIMESTAMPS);
	attrs.ecn_ok = !!(f->options & OPTION_ECN);
	attrs.rcv_tsval = o->tsval;
	/* The primary's timestamp clock by now, so that the replica's continues it. */
	attrs.rcv_tsecr = f->synack_tsval + (__u32)((bpf_ktime_get_ns() - f->synack_ns) / 1000000);
	*error = -bpf_sk_assign_tcp_reqsk(skb, listener, &attrs, sizeof(attrs));
	if (*error)
		reason = REASON_REFUSED;
release:
	bpf_sk_release(found);
	return reason;
}

/* A client segment of no flow that we replicate. After takeover the stack decides; until then it must not. */
static __always_inline int ignore(const struct control *c)
{
	if (c->mode != MODE_SHADOW)
		return PASS;
	count(SHADOW_UNKNOWN_FLOW);
	return TC_ACT_STOLEN;
}

/* Reports a flow without a replica, once. Anyone can make up segments of such, so the reports of them are rationed. */
static __noinline int report_stranger(const struct flow_key *key)
{
	struct stranger new = { .stamp = stamp() | STRANGER_REPORTED }, *known;

	known = bpf_map_lookup_elem(&strangers, key);
	if (known)
		known->stamp = new.stamp & (known->stamp | ~STRANGER_REPORTED);
	else if (within_ration() && !bpf_map_update_elem(&strangers, key, &new, BPF_NOEXIST))
		report_unprotected(key, REASON_NO_HANDSHAKE, 0);
	return 0;
}

static __always_inline int stranger(const struct control *c, const struct flow_key *key)
{
	if (c->mode == MODE_SHADOW)
		report_stranger(key);
	return ignore(c);
}

/*
 * A segment of the primary, whose direction is in order: if it belongs to the handshake at hand, the tap has missed the
 * SYN/ACK. A late one of an earlier connection acknowledges other numbers.
 */
static __always_inline int missed_synack(const struct packet *p, const struct flow_key *key, const struct flow *f)
{
	if ((p->flags & (TCP_ACK | TCP_RST)) == TCP_ACK && !after(f->irs + 1, p->ack))
		report_stranger(key);
	return TC_ACT_STOLEN;
}

/*
 * Sends the same segment once more behind itself, with a window of zero: the hold begins before the server speaks. A
 * window that shrinks to zero is taken from the same sequence number (tcp_may_update_window).
 */
static __always_inline void hold_from_start(struct __sk_buff *skb, const struct packet *p, __u16 window)
{
	__be16 open = bpf_htons(window), closed = 0;
	__u32 mark = skb->mark;

	bpf_l4_csum_replace(skb, p->l4 + OFFSET_CHECKSUM, open, closed, sizeof(closed));
	bpf_skb_store_bytes(skb, p->l4 + OFFSET_WINDOW, &closed, sizeof(closed), 0);
	skb->mark = MARK_INJECTED;
	bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
	skb->mark = mark;
	bpf_l4_csum_replace(skb, p->l4 + OFFSET_CHECKSUM, closed, open, sizeof(open));
	bpf_skb_store_bytes(skb, p->l4 + OFFSET_WINDOW, &open, sizeof(open), 0);
}

/* The client's first segment after the SYN/ACK: from here on the flow has its replica. */
static __always_inline int first_ack(struct __sk_buff *skb, const struct control *c, const struct packet *p,
				     const struct flow_key *key, struct flow *f)
{
	struct tcp_options o;
	__u32 reason, iss_next = f->iss + 1;
	__u16 window;
	int error = 0;

	/* Another sequence number means that segments before it were missed, or that it is forged. */
	if (p->seq != f->irs + 1 || after(iss_next, p->ack))
		return stranger(c, key);
	/* The other direction may come by another processor, and later. */
	if (after(p->ack, f->primary_end))
		return ignore(c);
	read_timestamps(skb, p, &o);
	f->client_end = f->client_next = sequence_end(p);
	f->client_ack = p->ack;
	f->client_window = p->window;
	f->client_tsval = o.tsval;
	f->client_tsecr = o.tsecr;
	f->client_fin = !!(p->flags & TCP_FIN);
	bpf_skb_load_bytes(skb, 0, f->local_mac, 6);
	bpf_skb_load_bytes(skb, 6, f->remote_mac, 6);
	/* Another processor may handle a copy of the same segment: a switch floods what it does not know. */
	switch (bpf_map_update_elem(&flows, key, f, BPF_NOEXIST)) {
	case 0:
		break;
	case -EEXIST:
		return TC_ACT_STOLEN;
	default:
		bpf_map_delete_elem(&handshakes, key);
		report_unprotected(key, REASON_TABLE_FULL, 0);
		return TC_ACT_STOLEN;
	}
	/* This one segment keeps its real window, by which the socket sizes its segments and buffers. */
	window = real_window(f, p, iss_next);
	set_ack_and_window(skb, p, iss_next, window);
	reason = create_socket(skb, p, f, &o, &error);
	bpf_map_delete_elem(&handshakes, key);
	if (reason) {
		bpf_map_delete_elem(&flows, key);
		report_unprotected(key, reason, error);
		return TC_ACT_STOLEN;
	}
	if (c->mode == MODE_SHADOW && !p->payload)
		hold_from_start(skb, p, window);
	open_flow(c, key);
	return PASS;
}

#endif
