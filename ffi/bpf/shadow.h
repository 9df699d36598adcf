/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The shadow programs' maps and events. */
#ifndef T2CP_SHADOW_H
#define T2CP_SHADOW_H

#define CONTROL struct control
#define COUNTERS SHADOW_COUNTERS
#define EVENTS_LOST SHADOW_EVENTS_LOST
#define EVENTS_SIZE (1 << 20)
#include "common.h"

#define MAX_FLOWS 65536
#define MAX_HANDSHAKES 16384
/* A minute's worth of 1,000 connections a second. */
#define MAX_STRANGERS 65536
#define STRANGERS_PER_SECOND 200

/* Flows that have their socket on the replica. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_FLOWS);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

/* Flows before the client's first ACK. LRU and apart from the others, so that a SYN flood pushes out none of them. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_HANDSHAKES);
	__type(key, struct flow_key);
	__type(value, struct flow);
} handshakes SEC(".maps");

/* Late segments of these are nothing new. User space removes what is old. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_STRANGERS);
	__type(key, struct flow_key);
	__type(value, struct stranger);
} strangers SEC(".maps");

/*
 * Gaps once more, for the healer on this host: it must not wait for the shadow and a pipe. Where it does not run, they
 * stay and fill the buffer; what does not fit is not missed.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} gaps SEC(".maps");

/* How many reports of strangers a CPU may still make in the running second. */
struct ration {
	__u64 since_ns;
	__u64 used;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ration);
} rations SEC(".maps");

static __always_inline bool within_ration(void)
{
	__u32 zero = 0;
	struct ration *r = bpf_map_lookup_elem(&rations, &zero);
	__u64 now = bpf_ktime_get_ns();

	if (!r)
		return false;
	if (now - r->since_ns > 1000000000) {
		r->since_ns = now;
		r->used = 0;
	}
	return r->used++ < STRANGERS_PER_SECOND;
}

static __always_inline void report_range(__u32 type, const struct flow_key *key, __u32 from, __u32 to)
{
	struct event *e = new_event(type, REASON_NONE, key);

	if (!e)
		return;
	e->from = from;
	e->to = to;
	bpf_ringbuf_submit(e, 0);
}

static __noinline void report_gap(const struct flow_key *key, __u32 from, __u32 to)
{
	struct event *e = new_event(EVENT_GAP, REASON_NONE, key);
	struct event *again;

	count(SHADOW_GAPS);
	add(SHADOW_GAP_BYTES, to - from);
	if (!e)
		return;
	e->from = from;
	e->to = to;
	again = bpf_ringbuf_reserve(&gaps, sizeof(*again), 0);
	if (again) {
		*again = *e;
		bpf_ringbuf_submit(again, 0);
	}
	bpf_ringbuf_submit(e, 0);
}

static __always_inline void report_lag(const struct flow_key *key, __u32 from, __u32 to)
{
	count(SHADOW_LAGS);
	report_range(EVENT_LAG, key, from, to);
}

static __always_inline void report_unprotected(const struct flow_key *key, __u32 reason, __u32 detail)
{
	count(SHADOW_FLOWS_UNPROTECTED);
	report(EVENT_FLOW_UNPROTECTED, reason, key, detail);
}

/* Now, as struct stranger has it. */
static __always_inline __u32 stamp(void)
{
	return (__u32)(coarse_ns() >> 30) & ~STRANGER_REPORTED;
}

static __always_inline void open_flow(const struct control *c, const struct flow_key *key)
{
	count(SHADOW_FLOWS_OPENED);
	if (c->flags & WANT_FLOW_EVENTS)
		report(EVENT_FLOW_OPEN, REASON_NONE, key, 0);
}

/*
 * Where the replica's RCV.NXT is: less than what the client sent if the tap missed some of it, and more than the replica
 * has acknowledged if it delays that.
 */
static __always_inline __u32 replica_next(const struct flow *f)
{
	return after(f->replica_ack, f->client_next) ? f->replica_ack : f->client_next;
}

static __always_inline void close_flow(const struct control *c, const struct flow_key *key, __u32 reason)
{
	struct flow *f = bpf_map_lookup_elem(&flows, key);
	struct stranger s = { .stamp = stamp() };

	if (!f)
		return;
	s.client_end = replica_next(f);
	/* Before the flow goes: another processor must find its late segments in one of the maps. */
	bpf_map_update_elem(&strangers, key, &s, BPF_ANY);
	if (bpf_map_delete_elem(&flows, key))
		return;
	count(SHADOW_FLOWS_CLOSED);
	if (c->flags & WANT_FLOW_EVENTS)
		report(EVENT_FLOW_CLOSE, reason, key, 0);
}

/* The flow of a segment that one of its two ends has sent; `key` is filled in either case. */
static __always_inline struct flow *find_flow(const struct packet *p, bool by_client, struct flow_key *key)
{
	flow_of(p, by_client, key);
	return bpf_map_lookup_elem(&flows, key);
}

#endif
