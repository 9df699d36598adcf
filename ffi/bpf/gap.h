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

static __always_inline bool is_hole(const struct hole *h)
{
	return h->from != h->to;
}

/* Remembers a hole; where there is no room for it, the last one grows over it. */
static __always_inline void add_hole(struct flow *f, __u32 from, __u32 to)
{
	for (int i = 0; i < HOLES; i++) {
		if (is_hole(&f->holes[i]))
			continue;
		f->holes[i].from = from;
		f->holes[i].to = to;
		f->holes_used = 1;
		return;
	}
	f->holes[HOLES - 1].to = to;
}

/* Takes what a segment fills out of the holes; one that it splits keeps its later part open, too. */
static __always_inline void fill_holes(struct flow *f, __u32 seq, __u32 end)
{
	bool used = false;

	for (int i = 0; i < HOLES; i++) {
		struct hole *h = &f->holes[i];

		if (!is_hole(h))
			continue;
		if (!after(seq, h->from) && after(end, h->from))
			h->from = earlier(end, h->to);
		else if (after(h->to, seq) && !after(h->to, end))
			h->to = seq;
		used |= is_hole(h);
	}
	f->holes_used = used;
}

/* Notes which bytes of the client the tap has shown. */
static __always_inline void follow_holes(struct flow *f, __u32 seq, __u32 end)
{
	if (after(seq, f->client_end))
		add_hole(f, f->client_end, seq);
	else if (f->holes_used)
		fill_holes(f, seq, end);
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
		for (int i = 0; i < HOLES; i++) {
			struct hole *h = &f->holes[i];
			__u32 to = earlier(h->to, acknowledged);

			if (!is_hole(h) || !after(acknowledged, h->from))
				continue;
			report_gap(key, h->from, to);
			h->from = to;
		}
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
