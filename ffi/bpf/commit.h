/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Output commit at the gateway. The backup's commit frames say what each replica has acknowledged. What the primary
 * tells the client is lowered to that: so the client keeps every byte until both servers have it, and sends no faster
 * than the slower of them takes. Where the primary was first, the replica's commit frame itself becomes the client's
 * acknowledgement.
 *
 * A backup that falls silent must not stop the service: a client that waits for it too long hears the primary alone
 * from then on. Only a segment of the primary's decides that. A primary that has failed too must not have the last word:
 * its client would forget bytes that nobody has.
 */
#ifndef T2CP_COMMIT_H
#define T2CP_COMMIT_H

#include "mirror.h"

#define MAX_COMMITS 65536
#define MAX_OPENINGS 16384

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_COMMITS);
	__type(key, struct flow_key);
	__type(value, struct commit);
} commits SEC(".maps");

/*
 * Flows before their first segment with data or acknowledgement, and flows that have ended lately. Apart from the
 * others, so that a SYN flood pushes out none of them.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_OPENINGS);
	__type(key, struct flow_key);
	__type(value, struct commit);
} openings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hearing);
} hearing SEC(".maps");

/* A window smaller than this is closed: a sender waits for more (RFC 9293 section 3.8.6.2.1). */
#define USABLE_WINDOW 2048
/* A closed window may stay so this many times as long as an acknowledgement may be missing: servers pause. */
#define CLOSED_PATIENCE 10
/* While the backup is silent the timeout is shorter by this shift: a flow may find it back, but few wait for that. */
#define SILENT_SHIFT 4

/* A full barrier between what one side's segment wrote and what it reads of the other side. */
static __always_inline void commit_order(struct commit *f)
{
	volatile __u32 previous = __sync_fetch_and_add(&f->order, 1);

	(void)previous;
}

static __always_inline __u32 later(__u32 a, __u32 b)
{
	return after(a, b) ? a : b;
}

/* The SYN/ACK shows where the flow starts, and the scale of the window. It passes as it is. */
static __noinline int open_commit(struct __sk_buff *skb, const struct packet *p, const struct flow_key *key)
{
	struct commit *old = bpf_map_lookup_elem(&commits, key);
	struct tcp_options o;
	struct commit f;

	if (old && old->iss == p->seq)
		return PASS;
	__builtin_memset(&f, 0, sizeof(f));
	read_options(skb, p, &o);
	f.iss = p->seq;
	f.primary_end = p->seq + 1;
	f.primary_ack = f.replica_ack = f.told_ack = p->ack;
	/* Never scaled in a SYN, RFC 7323 section 2.2. The replica says nothing before it gets data. */
	f.primary_right = f.replica_right = f.told_right = p->ack + p->window;
	f.primary_tsval = o.tsval;
	f.replica_tsecr = o.tsecr;
	f.wscale = o.wscale;
	f.options = o.present;
	bpf_map_update_elem(&openings, key, &f, BPF_ANY);
	if (old)
		bpf_map_delete_elem(&commits, key);
	return PASS;
}

/* Nothing waits any more: late segments of the flow pass as they are. */
static __always_inline void end_commit(const struct flow_key *key, struct commit *f)
{
	f->lifted = 1;
	bpf_map_update_elem(&openings, key, f, BPF_ANY);
	bpf_map_delete_elem(&commits, key);
}

/*
 * The flow of a segment, where it is limited or may be. For a segment of the primary, one whose handshake was not seen
 * is noted as unprotected, for the scale of its window is not known.
 */
static __noinline struct commit *find_commit(const struct flow_key *key, bool of_primary)
{
	struct commit *f = bpf_map_lookup_elem(&commits, key), *opening, new;

	if (f)
		return f;
	opening = bpf_map_lookup_elem(&openings, key);
	if (opening) {
		if (opening->lifted)
			return NULL;
		new = *opening;
	} else {
		if (!of_primary)
			return NULL;
		__builtin_memset(&new, 0, sizeof(new));
		new.lifted = 1;
	}
	if (!bpf_map_update_elem(&commits, key, &new, BPF_NOEXIST)) {
		if (opening) {
			bpf_map_delete_elem(&openings, key);
		} else {
			count(MIRROR_FLOWS_UNPROTECTED);
			report(EVENT_FLOW_UNPROTECTED, REASON_NO_HANDSHAKE, key, 0);
		}
	}
	return bpf_map_lookup_elem(&commits, key);
}

/* Lets the client hear the primary alone from now on. */
static __noinline void lift(const struct flow_key *key, struct commit *f, __u32 reason)
{
	if (__sync_val_compare_and_swap(&f->lifted, 0, 1))
		return;
	f->waiting_ns = 0;
	/* A replica may be gone before it has acknowledged the FIN; with all data there nothing is lost. */
	if (f->client_fin && f->client_end == f->primary_ack && f->client_end == f->replica_ack + 1)
		return;
	count(MIRROR_FLOWS_UNPROTECTED);
	report(EVENT_FLOW_UNPROTECTED, reason, key, 0);
}

/* Why the client has waited long enough, or REASON_NONE. The first call starts the wait. */
static __noinline __u32 overdue(const struct mirror_control *c, struct commit *f, bool closed)
{
	__s64 now = coarse_ns(), timeout = (__s64)c->commit_timeout * 1000000, patience = timeout;
	__u32 zero = 0;
	struct hearing *h = bpf_map_lookup_elem(&hearing, &zero);

	if (!h)
		return REASON_NONE;
	if (!f->waiting_ns) {
		f->waiting_ns = now;
		return REASON_NONE;
	}
	if (h->silent)
		patience = timeout >> SILENT_SHIFT;
	else if (closed)
		patience = timeout * CLOSED_PATIENCE;
	/* Signed, since another processor may have written a moment that is later than `now`. */
	if (now - (__s64)f->waiting_ns <= patience)
		return REASON_NONE;
	if (now - (__s64)h->heard_ns > timeout && !closed) {
		h->silent = 1;
		return REASON_BACKUP_SILENT;
	}
	return closed ? REASON_REPLICA_FULL : REASON_NOT_COMMITTED;
}

/* Has the replica acknowledged all that the primary has, but keeps its window closed? */
static __always_inline bool is_closed(const struct commit *f)
{
	return !after(f->primary_ack, f->replica_ack) && after(f->primary_right, f->replica_right) &&
	       f->replica_right - earlier(f->primary_ack, f->replica_ack) < USABLE_WINDOW;
}

static __always_inline bool is_waiting(const struct commit *f)
{
	return after(f->primary_ack, f->replica_ack) || is_closed(f);
}

/* The window field that leads to the right edge, rounded down. */
static __always_inline __u16 window_to(const struct commit *f, __u32 ack, __u32 right)
{
	__u32 window = (right - ack) >> (f->wscale & 15);

	return window > 0xffff ? 0xffff : window;
}

/* The client is being told. Where that ends the flow, it is forgotten. */
static __always_inline void tell_client(const struct flow_key *key, struct commit *f, __u32 ack, __u16 window)
{
	f->told_ack = later(ack, f->told_ack);
	f->told_right = later(ack + ((__u32)window << (f->wscale & 15)), f->told_right);
	if (f->client_fin && f->primary_fin && f->told_ack == f->client_end)
		end_commit(key, f);
}

static __always_inline void follow_primary(struct __sk_buff *skb, const struct packet *p, struct commit *f, __u32 right)
{
	struct tcp_options o;

	f->primary_end = later(sequence_end(p), f->primary_end);
	f->primary_ack = later(p->ack, f->primary_ack);
	f->primary_right = later(right, f->primary_right);
	if (p->flags & TCP_FIN)
		f->primary_fin = 1;
	if (!(f->options & OPTION_TIMESTAMPS))
		return;
	read_timestamps(skb, p, &o);
	if (after(f->primary_tsval, o.tsval))
		return;
	f->primary_tsval = o.tsval;
}

/* The length of a TCP header of the flow that has no other options. */
static __always_inline __u32 header_length(const struct commit *f)
{
	return TCP_HEADER + (f->options & OPTION_TIMESTAMPS ? TIMESTAMPS_LENGTH : 0);
}

/* Does the segment say nothing but what its acknowledgement and window do? */
static __always_inline bool is_plain(const struct packet *p, const struct commit *f)
{
	return p->flags == TCP_ACK && !p->payload && p->seq == f->primary_end;
}

#define OFFSET_ACK 8
#define OFFSET_CHECKSUM 16
#define OFFSET_TSECR 8 /* in the options, behind NOPs, kind, length and TSval */

/* Two NOPs and the kind, as all stacks write selective acknowledgements (RFC 2018 section 3); the length follows. */
#define SACK_HEAD 0x01010500
#define MAX_OPTION_WORDS 10

/*
 * Makes NOPs of the segment's selective acknowledgements. With a lowered acknowledgement they would lie: a duplicate that
 * the primary reports (RFC 2883) would look like bytes that both servers have.
 */
static __noinline int hide_sack(struct __sk_buff *skb, const struct packet *p, const struct commit *f)
{
	__u32 at = p->l4 + header_length(f), end = p->l4 + p->header;
	__be32 nops = bpf_htonl(0x01010101), word;
	__s64 change = 0;

	if (at >= end || bpf_skb_load_bytes(skb, at, &word, sizeof(word)) ||
	    (word & bpf_htonl(0xffffff00)) != bpf_htonl(SACK_HEAD))
		return 0;
	for (int i = 0; i < MAX_OPTION_WORDS && at < end; i++, at += sizeof(word)) {
		if (bpf_skb_load_bytes(skb, at, &word, sizeof(word)))
			break;
		change = bpf_csum_diff(&word, sizeof(word), &nops, sizeof(nops), change);
		bpf_skb_store_bytes(skb, at, &nops, sizeof(nops), 0);
	}
	bpf_l4_csum_replace(skb, p->l4 + OFFSET_CHECKSUM, 0, (__u32)change, 0);
	return 0;
}

/* The part of the TCP header from the acknowledgement to the window, and where it stands. */
struct lowered {
	__be32 ack;
	__u8 offset;
	__u8 flags;
	__be16 window;
};

/*
 * Writes another acknowledgement and window. A lowered acknowledgement is the replica's, and so is what it echoes: the
 * primary's echo would tell the client that the first copy of a segment arrived, which the replica lacked, and that
 * sending it again was a mistake (RFC 3522, the Eifel detection).
 *
 * By helpers alone, unlike the backup's programs: they know what is to be done with each kind of checksum, and a gateway
 * may have an older kernel.
 */
static __always_inline void lower(struct __sk_buff *skb, const struct packet *p, const struct commit *f, __u32 ack,
				  __u16 window)
{
	struct lowered old = {
		.ack = bpf_htonl(p->ack),
		.offset = p->offset,
		.flags = p->flags,
		.window = bpf_htons(p->window),
	};
	__be32 echo = bpf_htonl(f->replica_tsecr), old_echo;
	__u32 at = p->l4 + TCP_HEADER + OFFSET_TSECR;
	struct lowered new = old;
	struct tcp_options o;
	__s64 change;

	new.ack = bpf_htonl(ack);
	new.window = bpf_htons(window);
	change = bpf_csum_diff(&old.ack, sizeof(old), &new.ack, sizeof(new), 0);
	bpf_skb_store_bytes(skb, p->l4 + OFFSET_ACK, &new, sizeof(new), 0);
	if (ack != p->ack && p->header >= TCP_HEADER + TIMESTAMPS_LENGTH &&
	    !bpf_skb_load_bytes(skb, at, &old_echo, sizeof(old_echo))) {
		read_timestamps(skb, p, &o);
		/* Elsewhere than all stacks put them they stay as they are. */
		if (o.present & OPTION_TIMESTAMPS && o.tsecr == bpf_ntohl(old_echo)) {
			change = bpf_csum_diff(&old_echo, sizeof(old_echo), &echo, sizeof(echo), change);
			bpf_skb_store_bytes(skb, at, &echo, sizeof(echo), 0);
		}
	}
	bpf_l4_csum_replace(skb, p->l4 + OFFSET_CHECKSUM, 0, (__u32)change, 0);
}

/* A segment of the primary on its way to the client. */
static __noinline int limit_primary(struct __sk_buff *skb, const struct mirror_control *c, const struct packet *p,
				    const struct flow_key *key)
{
	struct commit *f;
	__u32 ack, right, reason;
	__u16 window;

	if (p->flags & TCP_SYN)
		return p->flags & TCP_ACK ? open_commit(skb, p, key) : PASS;
	if (p->flags & TCP_RST) {
		f = bpf_map_lookup_elem(&commits, key);
		if (f)
			end_commit(key, f);
		return PASS;
	}
	f = p->flags & TCP_ACK ? find_commit(key, true) : NULL;
	if (!f)
		return PASS;
	right = p->ack + ((__u32)p->window << (f->wscale & 15));
	follow_primary(skb, p, f, right);
	commit_order(f); /* the primary's numbers are written, now the replica's may be read */
	if (f->lifted)
		return PASS;
	if (!is_waiting(f)) {
		f->waiting_ns = 0;
	} else {
		reason = overdue(c, f, is_closed(f));
		if (reason) {
			lift(key, f, reason);
			return PASS;
		}
	}
	ack = earlier(p->ack, f->replica_ack);
	window = window_to(f, ack, earlier(right, f->replica_right));
	if (ack == p->ack && window >= p->window) {
		tell_client(key, f, ack, p->window);
		return PASS;
	}
	if (ack != p->ack && is_plain(p, f) && !after(ack, f->told_ack) &&
	    !after(ack + ((__u32)window << (f->wscale & 15)), f->told_right)) {
		/* A duplicate of an acknowledgement would mean a loss; the commit frame brings what is new. */
		count(MIRROR_WITHHELD);
		return TC_ACT_STOLEN;
	}
	count(MIRROR_LIMITED);
	if (ack != p->ack && p->header != header_length(f))
		hide_sack(skb, p, f);
	lower(skb, p, f, ack, window);
	tell_client(key, f, ack, window);
	return PASS;
}

/* Notes the client's FIN: when it is acknowledged too, the flow has ended. */
static __always_inline void follow_client_fin(const struct packet *p, const struct flow_key *key)
{
	struct commit *f = find_commit(key, false);

	if (!f)
		return;
	f->client_end = sequence_end(p);
	f->client_fin = 1;
}

#endif
