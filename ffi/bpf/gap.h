/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Client bytes that the copied traffic lacks. A hole upstream of the gateway is mended by the client, which sends the
 * bytes again. What the primary acknowledges is never sent again: there a hole is a loss of the tap. The tap is in
 * order, so a hole shows at once, as a jump of the sequence numbers, and the decision needs no timer.
 */
#ifndef T2CP_GAP_H
#define T2CP_GAP_H

#include "shadow.h"

/* A replica that acknowledges less than the primary for this long is reported. */
#define LAG_NS 200000000

/* Puts a hole, if it is one, behind `used` others, and returns their number. Where all are used, the last grows over it. */
static __always_inline __u32 put_hole(struct flow *f, __u32 used, __u32 from, __u32 to)
{
	__u64 at = used;

	if (!after(to, from))
		return used;
	asm volatile("" : "+r"(at)); /* one register for the bound and for the index, as the verifier wants it */
	if (at >= HOLES) {
		f->holes[HOLES - 1].to = to;
		return HOLES;
	}
	f->holes[at].from = from;
	f->holes[at].to = to;
	return at + 1;
}

/* Takes what is between `seq` and `end` out of the holes, and returns how many there are then: each may become two. */
static __noinline __u32 fill_holes(struct flow *f, __u32 seq, __u32 end)
{
	struct hole old[HOLES];
	__u32 used = 0;

	__builtin_memcpy(old, f->holes, sizeof(old));
	for (__u32 i = 0; i < HOLES && i < f->holes_used; i++) {
		used = put_hole(f, used, old[i].from, earlier(old[i].to, seq));
		used = put_hole(f, used, after(end, old[i].from) ? end : old[i].from, old[i].to);
	}
	return used;
}

/* Notes which bytes of the client the tap has shown. */
static __always_inline void follow_holes(struct flow *f, __u32 seq, __u32 end)
{
	if (after(seq, f->client_end))
		f->holes_used = put_hole(f, f->holes_used, f->client_end, seq);
	else if (f->holes_used && seq != end)
		f->holes_used = fill_holes(f, seq, end);
	if (after(end, f->client_end))
		f->client_end = end;
	if (after(f->replica_ack, f->client_next))
		f->client_next = f->replica_ack;
	if (!after(seq, f->client_next) && after(end, f->client_next))
		f->client_next = end;
}

/* Reports the holes that the primary's acknowledgement has passed. */
static __always_inline void look_for_gap(const struct flow_key *key, struct flow *f)
{
	__u32 acknowledged = f->primary_ack;

	if (f->holes_used) {
		for (__u32 i = 0; i < HOLES && i < f->holes_used; i++)
			if (after(acknowledged, f->holes[i].from))
				report_gap(key, f->holes[i].from, earlier(f->holes[i].to, acknowledged));
		f->holes_used = fill_holes(f, f->holes[0].from, acknowledged);
	}
	/* The last segments before a pause may be missing too; nothing after them shows it. */
	if (after(acknowledged, f->client_end)) {
		report_gap(key, f->client_end, acknowledged);
		f->client_end = acknowledged;
	}
}

static __always_inline void look_for_lag(const struct flow_key *key, struct flow *f)
{
	__u64 now = f->seen_ns;

	if (!after(f->primary_ack, f->replica_ack)) {
		f->lag_ns = 0;
	} else if (!f->lag_ns) {
		f->lag_ns = now;
	} else if (now - f->lag_ns > LAG_NS) {
		f->lag_ns = now; /* again only after as long */
		report_lag(key, f->replica_ack, f->primary_ack);
	}
}

#endif
