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
 * comes back to the replica as that acknowledgement.
 */
#include "shadow.h"
#include "rewrite.h"
#include "gap.h"

#define STATE_LISTEN 10
#define EEXIST 17

/* ICMPv6 types, RFC 4861 section 4. */
#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136

char LICENSE[] SEC("license") = "Dual MIT/GPL";

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

/* A full barrier between what was written before and what is read after, on every CPU. */
static __always_inline void order(struct flow *f)
{
	volatile __u32 previous = __sync_fetch_and_add(&f->order, 1);

	(void)previous;
}

/* The client's window in the unit of its window field, rounded down; more does not fit the field. */
static __always_inline __u16 scale_window(const struct flow *f, __u32 bytes)
{
	bytes >>= f->client_wscale & 15;
	return bytes > 0xffff ? 0xffff : bytes;
}

/*
 * The hold: what the replica may send beyond `ack` is what the client has acknowledged to the primary. Rounding up
 * would leave a fraction of a unit in flight, and its timer would back off. Once the client has the primary's FIN the
 * window opens, so that the replica can close too.
 */
static __always_inline __u16 hold_window(const struct flow *f, __u32 ack)
{
	__u32 bytes = after(f->client_ack, ack) ? f->client_ack - ack : 0;

	if (f->primary_fin && f->client_ack == f->primary_end)
		bytes += 0x10000;
	return scale_window(f, bytes);
}

/* The client's right edge as it stands, seen from a lower acknowledgement. */
static __always_inline __u16 real_window(const struct flow *f, const struct packet *p, __u32 ack)
{
	return scale_window(f, ((__u32)p->window << (f->client_wscale & 15)) + (p->ack - ack));
}

/* Both sides have closed and the replica's socket is done, or will be with the segment at hand. */
static __always_inline bool both_closed(const struct flow *f, __u32 acknowledged_by_client)
{
	return f->client_fin && f->replica_fin && f->replica_ack == f->client_end &&
	       acknowledged_by_client == f->replica_end;
}

/*
 * A segment of the primary says that the replica's socket must go. It is made the client's reset of that socket;
 * RFC 5961 wants its sequence number exact.
 */
static __always_inline int reset_replica(struct __sk_buff *skb, const struct packet *p, const struct flow *f)
{
	struct reply r = { .seq = f->client_end, .flags = TCP_RST };

	if (!turn_around(skb, p, &r))
		return TC_ACT_STOLEN;
	bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	return PASS;
}

static __always_inline int primary_synack(struct __sk_buff *skb, const struct control *c, const struct packet *p,
					  const struct flow_key *key)
{
	struct flow *f = bpf_map_lookup_elem(&handshakes, key), *old;
	struct tcp_options o;
	int verdict = TC_ACT_STOLEN;

	if (!f || p->ack != f->irs + 1)
		return TC_ACT_STOLEN;
	if (f->synack_seen && f->iss == p->seq)
		return TC_ACT_STOLEN;
	read_options(skb, p, &o);
	f->iss = p->seq;
	f->client_ack = f->primary_end = f->replica_end = p->seq + 1;
	f->primary_ack = f->replica_ack = f->client_next = p->ack;
	f->primary_right = p->ack + p->window; /* never scaled in a SYN, RFC 7323 section 2.2 */
	f->primary_wscale = o.wscale;
	f->options &= o.present | (p->flags & TCP_ECE ? OPTION_ECN : 0);
	if (!(f->options & OPTION_WSCALE))
		f->client_wscale = f->primary_wscale = 0;
	f->synack_tsval = o.tsval;
	f->synack_ns = bpf_ktime_get_ns();
	f->seen_ns = f->primary_ns = f->synack_ns;
	f->synack_seen = 1;
	/* Only now is it sure that the primary took the new incarnation: a SYN alone may be forged. */
	old = bpf_map_lookup_elem(&flows, key);
	if (old) {
		verdict = reset_replica(skb, p, old);
		close_flow(c, key, REASON_REPLACED);
	}
	return verdict;
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
	struct tcp_options o;
	struct flow f;

	if ((p->flags & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK)) != TCP_ACK)
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
	f.seen_ns = f.primary_ns = f.synack_ns;
	f.synack_seen = JOINING;
	bpf_map_update_elem(&handshakes, key, &f, BPF_ANY);
	return TC_ACT_STOLEN;
}

static __always_inline int from_primary(struct __sk_buff *skb, const struct control *c, const struct packet *p,
					__u32 service)
{
	struct flow_key key;
	struct flow *f;
	__u32 end = sequence_end(p);
	bool created;

	/* A primary that comes back has no say any more. */
	if (c->mode != MODE_SHADOW)
		return TC_ACT_STOLEN;
	service_to_client(p, &key);
	if ((p->flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK))
		return primary_synack(skb, c, p, &key);
	f = bpf_map_lookup_elem(&flows, &key);
	created = f != NULL;
	if (!created) {
		f = bpf_map_lookup_elem(&handshakes, &key);
		if (service & SERVICE_JOIN && (!f || f->synack_seen == JOINING))
			return offer_join(skb, p, &key, service);
		if (!f || !f->synack_seen)
			return TC_ACT_STOLEN;
	} else if (p->flags & TCP_RST) {
		int verdict = reset_replica(skb, p, f);

		close_flow(c, &key, REASON_RESET_BY_PRIMARY);
		return verdict;
	}
	count(SHADOW_PRIMARY_SEGMENTS);
	f->seen_ns = f->primary_ns = bpf_ktime_get_coarse_ns();
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
		if (created) {
			look_for_gap(&key, f);
			look_for_lag(&key, f);
		}
	}
	return TC_ACT_STOLEN;
}

static __noinline int client_syn(struct __sk_buff *skb, const struct packet *p, const struct flow_key *key)
{
	struct flow *known = bpf_map_lookup_elem(&handshakes, key);
	struct flow f;
	struct tcp_options o;

	bpf_map_delete_elem(&strangers, key);
	if (known && known->irs == p->seq)
		return TC_ACT_STOLEN;
	__builtin_memset(&f, 0, sizeof(f));
	read_options(skb, p, &o);
	f.irs = p->seq;
	f.client_end = p->seq + 1;
	f.mss = o.mss ? o.mss : 536; /* RFC 9293 section 3.7.1 */
	f.client_wscale = o.wscale;
	f.options = o.present | (p->flags & TCP_ECE ? OPTION_ECN : 0);
	f.client_tsval = o.tsval;
	f.client_window = p->window;
	f.seen_ns = bpf_ktime_get_coarse_ns();
	bpf_map_update_elem(&handshakes, key, &f, BPF_ANY);
	return TC_ACT_STOLEN;
}

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
	attrs.mss = f->mss;
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

/*
 * A client segment of no flow that we replicate. After takeover the stack decides; until then it must not. Anyone can
 * make up such segments, so the reports of them are rationed.
 */
static __always_inline int stranger(const struct control *c, const struct flow_key *key)
{
	__u32 one = 1;

	if (c->mode != MODE_SHADOW)
		return PASS;
	count(SHADOW_UNKNOWN_FLOW);
	if (!bpf_map_lookup_elem(&strangers, key) && within_ration() &&
	    !bpf_map_update_elem(&strangers, key, &one, BPF_NOEXIST))
		report_unprotected(key, REASON_NO_HANDSHAKE, 0);
	return TC_ACT_STOLEN;
}

/* The client's first segment after the SYN/ACK: from here on the flow has its replica. */
static __always_inline int first_ack(struct __sk_buff *skb, const struct control *c, const struct packet *p,
				     const struct flow_key *key, struct flow *f)
{
	struct tcp_options o;
	__u32 reason, iss_next = f->iss + 1;
	int error = 0;

	/* Another sequence number means that segments before it were missed, or that it is forged. */
	if (p->seq != f->irs + 1 || after(iss_next, p->ack) || after(p->ack, f->primary_end))
		return stranger(c, key);
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
	/* This one segment keeps its real window, by which the socket sizes its buffers. */
	set_ack_and_window(skb, p, iss_next, real_window(f, p, iss_next));
	reason = create_socket(skb, p, f, &o, &error);
	bpf_map_delete_elem(&handshakes, key);
	if (reason) {
		bpf_map_delete_elem(&flows, key);
		report_unprotected(key, reason, error);
		return TC_ACT_STOLEN;
	}
	open_flow(c, key);
	return PASS;
}

/*
 * RFC 9293 section 3.10.7.4: does the segment touch the primary's receive window? Old ones are common: retransmissions
 * and keep-alives. The stack answers them, and they tell nothing new.
 */
static __always_inline bool acceptable(const struct flow *f, const struct packet *p, __u32 end)
{
	if (after(p->seq, f->primary_right)) {
		count(SHADOW_IMPLAUSIBLE);
		return false;
	}
	return !after(f->primary_ack, end);
}

/* The end of what the client can have got: from the primary, and after takeover from the replica. */
static __always_inline __u32 sent_end(const struct control *c, const struct flow *f)
{
	if (c->mode != MODE_SHADOW && after(f->replica_end, f->primary_end))
		return f->replica_end;
	return f->primary_end;
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

/*
 * RFC 5961 section 5: is the acknowledgement one that the primary may have got? The clamp below would make any number
 * good for the replica, so it is checked here. The tap may have missed what the primary sent within the window.
 */
static __always_inline bool acceptable_ack(const struct control *c, const struct flow *f, const struct packet *p)
{
	__u32 window = (__u32)f->client_window << (f->client_wscale & 15);
	__u32 highest = f->client_ack + window;

	if (after(sent_end(c, f), highest))
		highest = sent_end(c, f);
	return !after(p->ack, highest) && !after(f->client_ack - (0xffffu << (f->client_wscale & 15)), p->ack);
}

/* The replica has all that the primary had, and has sent all that the client has. */
static __always_inline bool in_step(const struct flow *f)
{
	return !after(f->client_ack, f->replica_end) && !after(f->primary_ack, f->replica_ack);
}

static __always_inline int from_client(struct __sk_buff *skb, const struct control *c, const struct packet *p)
{
	struct flow_key key;
	struct flow *f;
	__u32 end = sequence_end(p), ack;
	__u16 window;

	client_to_service(p, &key);
	if ((p->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		if (c->mode == MODE_SHADOW)
			return client_syn(skb, p, &key);
		/* The stack opens it by itself; what was known of an earlier one must not touch it. */
		bpf_map_delete_elem(&handshakes, &key);
		bpf_map_delete_elem(&flows, &key);
		return PASS;
	}
	if (p->truncated) {
		count(SHADOW_TRUNCATED);
		return TC_ACT_STOLEN;
	}
	f = bpf_map_lookup_elem(&flows, &key);
	if (!f) {
		f = bpf_map_lookup_elem(&handshakes, &key);
		if (!f)
			return stranger(c, &key);
		if (!(p->flags & TCP_ACK) || (p->flags & TCP_RST))
			return TC_ACT_STOLEN;
		if (!f->synack_seen)
			return stranger(c, &key);
		bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
		return first_ack(skb, c, p, &key, f);
	}
	if (f->replica_reset)
		return c->mode == MODE_SHADOW ? TC_ACT_STOLEN : PASS;
	count(SHADOW_CLIENT_SEGMENTS);
	f->seen_ns = bpf_ktime_get_coarse_ns();
	if (skb->pkt_type != 0)
		bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	if (p->flags & TCP_RST)
		return client_reset(c, p, &key, f);
	if (!(p->flags & TCP_ACK))
		return TC_ACT_STOLEN;
	if (!acceptable_ack(c, f, p)) {
		count(SHADOW_IMPLAUSIBLE);
		return TC_ACT_STOLEN;
	}
	if (c->mode != MODE_SHADOW || acceptable(f, p, end))
		follow_client(skb, c, f, p, end);
	order(f); /* client_ack is written, now replica_end may be read; egress does it the other way round */
	ack = earlier(p->ack, f->replica_end);
	window = c->mode == MODE_SHADOW ? hold_window(f, ack) : real_window(f, p, ack);
	set_ack_and_window(skb, p, ack, window);
	if (both_closed(f, ack))
		close_flow(c, &key, REASON_FIN);
	else if (c->mode == MODE_SETTLING && in_step(f))
		bpf_map_delete_elem(&flows, &key); /* in step with its client: the stack needs no help any more */
	return PASS;
}

SEC("tc")
int shadow_ingress(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	struct packet p;
	__u32 service;
	bool tcp;

	if (!c || c->mode == MODE_ACTIVE)
		return PASS;
	if (skb->mark == MARK_INJECTED) { /* ours, whatever MAC address the client's frames bear */
		bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
		return PASS;
	}
	if (!read_ip(skb, &p))
		return PASS;
	tcp = read_tcp(skb, &p);
	/* The common cases first: a look-up costs. */
	if (tcp && is_service(&p.destination, p.destination_port))
		return c->flags & DRAINING ? TC_ACT_STOLEN : from_client(skb, c, &p);
	service = tcp ? service_value(&p.source, p.source_port) : 0;
	if (service)
		return from_primary(skb, c, &p, service);
	if (c->mode != MODE_SHADOW || !is_service(&p.destination, 0))
		return PASS;
	/* Everything else for the address is the primary's too. */
	count(tcp || p.protocol != IPPROTO_TCP ? SHADOW_SILENCED : SHADOW_MALFORMED);
	return TC_ACT_STOLEN;
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

static __always_inline int replica_reset(const struct control *c, const struct flow_key *key, struct flow *f)
{
	if (c->mode != MODE_SHADOW)
		return PASS;
	if (f->client_fin || f->primary_fin) {
		close_flow(c, key, REASON_FIN);
	} else if (!f->replica_reset) {
		f->replica_reset = f->unprotected = 1;
		report_unprotected(key, REASON_REPLICA_RESET, 0);
	}
	return TC_ACT_STOLEN;
}

/*
 * Does the primary still hold the flow? Whenever the replica has a reason to probe, the primary has it too and sends
 * at least every two minutes (TCP_RTO_MAX). A replica whose primary has given up may give up as well.
 */
#define PRIMARY_SILENCE_NS (300ull * 1000000000)

static __always_inline bool primary_cares(const struct flow *f)
{
	return bpf_ktime_get_coarse_ns() - f->primary_ns < PRIMARY_SILENCE_NS;
}

static __always_inline int from_replica(struct __sk_buff *skb, const struct control *c, const struct packet *p)
{
	int verdict = c->mode == MODE_SHADOW ? TC_ACT_STOLEN : PASS;
	struct reply r = { .seq = p->ack, .flags = TCP_ACK };
	__u32 end = sequence_end(p);
	bool probe, known;
	struct flow_key key;
	struct flow *f;

	service_to_client(p, &key);
	f = bpf_map_lookup_elem(&flows, &key);
	if (!f) {
		if (c->mode == MODE_SHADOW)
			count(SHADOW_SILENCED);
		return verdict;
	}
	count(SHADOW_REPLICA_SEGMENTS);
	if (p->flags & TCP_RST)
		return replica_reset(c, &key, f);
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
	if (c->mode == MODE_SHADOW && end == p->seq && both_closed(f, earlier(f->client_ack, f->replica_end))) {
		/* It has closed first and goes to TIME_WAIT, which is the primary's to keep: reset it. */
		r.flags = TCP_RST;
		close_flow(c, &key, REASON_FIN);
		return answer(skb, p, &r);
	}
	known = end != p->seq && !after(end, f->client_ack);
	if (!known && !(probe && c->mode == MODE_SHADOW && primary_cares(f)))
		return verdict;
	r.ack = known ? end : earlier(f->client_ack, f->replica_end);
	r.window = c->mode == MODE_SHADOW ? hold_window(f, r.ack) : f->client_window;
	if (both_closed(f, r.ack))
		close_flow(c, &key, REASON_FIN);
	return answer(skb, p, &r);
}

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

SEC("tc")
int shadow_egress(struct __sk_buff *skb)
{
	__u32 zero = 0, l3;
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	struct packet p;

	if (!c)
		return PASS;
	if (skb->mark == MARK_INJECTED)
		return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
	if (c->mode == MODE_ACTIVE)
		return PASS;
	if (ethertype(skb, &l3) == bpf_htons(ETH_P_ARP))
		return c->mode == MODE_SHADOW ? silence_arp(skb, c, l3) : PASS;
	if (!read_ip(skb, &p))
		return PASS;
	if (read_tcp(skb, &p) && is_service(&p.source, p.source_port))
		return from_replica(skb, c, &p);
	if (c->mode != MODE_SHADOW || !(is_service(&p.source, 0) || claims_by_nd(skb, &p)))
		return PASS;
	/* Whatever else bears the address, fragments and ICMP errors too, is the primary's to send. */
	count(SHADOW_SILENCED);
	return TC_ACT_STOLEN;
}
