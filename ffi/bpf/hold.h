/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What a flow's numbers say: the window of the hold, and which segments may be believed. */
#ifndef T2CP_HOLD_H
#define T2CP_HOLD_H

#include "shadow.h"

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
 * What a replica that has fallen behind may send at once. Its congestion window grows to twice of what it has sent at
 * once (tcp_is_cwnd_limited), and after takeover that much leaves in one burst, for which the queues on the way need
 * room.
 */
#define MOST_AT_ONCE 0x10000

/*
 * The hold: what the replica may send beyond `ack` is what the client has acknowledged to the primary. Rounding up
 * would leave a fraction of a unit in flight, and its timer would back off. Once the client has the primary's FIN the
 * window opens, so that the replica can close too.
 */
static __always_inline __u16 hold_window(const struct flow *f, __u32 ack)
{
	__u32 bytes = after(f->client_ack, ack) ? f->client_ack - ack : 0;

	if (bytes > MOST_AT_ONCE)
		bytes = MOST_AT_ONCE;
	if (f->primary_fin && f->client_ack == f->primary_end)
		bytes += 0x10000;
	return scale_window(f, bytes);
}

/* The client's right edge as it stands, seen from a lower acknowledgement. */
static __always_inline __u16 real_window(const struct flow *f, const struct packet *p, __u32 ack)
{
	return scale_window(f, ((__u32)p->window << (f->client_wscale & 15)) + (p->ack - ack));
}

/*
 * The window after takeover, seen from `ack`, where the client says `window` at `client_ack`. What the primary had in
 * flight may still fill the queues, and what the client says of it the replica takes for news of its own segments: it
 * begins a recovery and undoes it (tcp_try_undo_partial), forgets which segments it had found lost, and goes on only by
 * its retransmission timeout. So until the client has acknowledged all of that, it is as after a loss: half of what was
 * in flight (RFC 5681 section 3.1). FlowSegments.wake has the same.
 */
static __always_inline __u16 settling_window(const struct flow *f, __u32 client_ack, __u16 window, __u32 ack)
{
	__u32 bytes = (__u32)window << (f->client_wscale & 15), most;

	if (after(f->primary_end, f->client_ack)) {
		most = (f->primary_end - f->client_ack) / 2;
		if (most < MOST_AT_ONCE)
			most = MOST_AT_ONCE;
		if (bytes > most)
			bytes = most;
	}
	return scale_window(f, bytes + (client_ack - ack));
}

/* Both sides have closed and the replica's socket is done, or will be with the segment at hand. */
static __always_inline bool both_closed(const struct flow *f, __u32 acknowledged_by_client)
{
	return f->client_fin && f->replica_fin && f->replica_ack == f->client_end &&
	       acknowledged_by_client == f->replica_end;
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

/*
 * The replica has all that the primary had, and has sent all that the client has; and the client has all that the primary
 * had sent. Behind a hole there may be more that the primary had: its acknowledgement may have been lost along with the
 * bytes.
 */
static __always_inline bool in_step(const struct flow *f)
{
	return !after(f->client_ack, f->replica_end) && !after(f->primary_ack, f->replica_ack) &&
	       !after(f->client_end, f->client_next) && !after(f->primary_end, f->client_ack);
}

#endif
