/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the backup's and the gateway's programs have alike: settings, services, counters, events and the clock. Whoever
 * includes this says before what differs: CONTROL, the structure of the settings; COUNTERS, how many counters there are;
 * SERVICE, what is known of a service, where that is more than a number; where there are events, EVENTS_SIZE, the bytes
 * of the ring buffer, and EVENTS_LOST, the counter of those that found it full.
 */
#ifndef T2CP_COMMON_H
#define T2CP_COMMON_H

#include "packet.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, CONTROL);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SERVICES);
	__type(key, struct service_key);
#ifdef SERVICE
	__type(value, SERVICE);
#else
	__type(value, __u32);
#endif
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

#ifdef EVENTS_SIZE
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_SIZE);
} events SEC(".maps");

/* What the coarse clock says during a tick. */
struct tick {
	__u64 jiffies;
	__u64 ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tick);
} ticks SEC(".maps");

/*
 * CLOCK_MONOTONIC_COARSE in nanoseconds, a tick late at most. It stands still between ticks, so that it is asked once a
 * tick: the call costs a good part of all that a packet does, and jiffies are no call.
 */
static __always_inline __u64 coarse_ns(void)
{
	__u32 zero = 0;
	struct tick *tick = bpf_map_lookup_elem(&ticks, &zero);
	__u64 jiffies = bpf_jiffies64();

	if (!tick)
		return bpf_ktime_get_coarse_ns();
	if (tick->jiffies != jiffies) {
		tick->ns = bpf_ktime_get_coarse_ns();
		tick->jiffies = jiffies;
	}
	return tick->ns;
}
#endif

static __always_inline void add(__u32 counter, __u64 amount)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		*value += amount;
}

static __always_inline void count(__u32 counter)
{
	add(counter, 1);
}

#ifdef EVENTS_SIZE
static __always_inline struct event *new_event(__u32 type, __u32 reason, const struct flow_key *key)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		count(EVENTS_LOST);
		return NULL;
	}
	e->type = type;
	e->reason = reason;
	e->ns = bpf_ktime_get_ns();
	e->key = *key;
	e->detail = 0;
	e->from = 0;
	e->to = 0;
	return e;
}

static __always_inline void report(__u32 type, __u32 reason, const struct flow_key *key, __u32 detail)
{
	struct event *e = new_event(type, reason, key);

	if (!e)
		return;
	e->detail = detail;
	bpf_ringbuf_submit(e, 0);
}
#endif

#ifndef SERVICE
/* What is known of a service, or 0 where it is none. */
static __always_inline __u32 service_value(const struct address *address, __be16 port)
{
	struct service_key key = { .address = *address, .port = port };
	__u32 *value = bpf_map_lookup_elem(&services, &key);

	return value ? *value : 0;
}

static __always_inline bool is_service(const struct address *address, __be16 port)
{
	return service_value(address, port) != 0;
}
#endif

static __always_inline bool same_mac(const __u8 *a, const __u8 *b)
{
	for (int i = 0; i < 6; i++)
		if (a[i] != b[i])
			return false;
	return true;
}

/* The flow of a segment that one of its two ends has sent. */
static __always_inline void flow_of(const struct packet *p, bool by_client, struct flow_key *key)
{
	if (by_client) {
		key->client = p->source;
		key->server = p->destination;
		key->client_port = p->source_port;
		key->server_port = p->destination_port;
	} else {
		key->client = p->destination;
		key->server = p->source;
		key->client_port = p->destination_port;
		key->server_port = p->source_port;
	}
}

#endif
