/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The mirror programs' maps. */
#ifndef T2CP_MIRROR_H
#define T2CP_MIRROR_H

#include "mirror_layout.h"

#define CONTROL struct mirror_control
#define COUNTERS MIRROR_COUNTERS
#define EVENTS_LOST MIRROR_EVENTS_LOST
#define EVENTS_SIZE (1 << 18)
#include "common.h"

#define MAX_MIRROR_FLOWS 65536

/* Which sides of a flow have closed; filled only where flow events are wanted. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_MIRROR_FLOWS);
	__type(key, struct flow_key);
	__type(value, __u32);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct signals);
} signals SEC(".maps");

#endif
