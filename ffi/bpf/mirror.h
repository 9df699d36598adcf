/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The mirror programs' maps, counters and events. */
#ifndef T2CP_MIRROR_H
#define T2CP_MIRROR_H

#include "packet.h"

#define MAX_SERVICES 64
#define MAX_MIRROR_FLOWS 65536

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mirror_control);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SERVICES);
	__type(key, struct service_key);
	__type(value, __u32);
} services SEC(".maps");

/* Which sides of a flow have closed; filled only where flow events are wanted. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_MIRROR_FLOWS);
	__type(key, struct flow_key);
	__type(value, __u32);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MIRROR_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} events SEC(".maps");

static __always_inline void add(__u32 counter, __u64 amount)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		*value += amount;
}

static __always_inline void report(__u32 type, __u32 reason, const struct flow_key *key)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		add(MIRROR_EVENTS_LOST, 1);
		return;
	}
	e->type = type;
	e->reason = reason;
	e->ns = bpf_ktime_get_ns();
	e->key = *key;
	e->detail = 0;
	e->from = 0;
	e->to = 0;
	bpf_ringbuf_submit(e, 0);
}

static __always_inline bool is_service(const struct address *address, __be16 port)
{
	struct service_key key = { .address = *address, .port = port };

	return bpf_map_lookup_elem(&services, &key) != NULL;
}

#endif
