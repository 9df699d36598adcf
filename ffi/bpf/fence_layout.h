/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the fence's program and user space share, beside layout.h. lib/fence/layout.ts holds the same offsets; a unit
 * test compares the two.
 */
#ifndef T2CP_FENCE_LAYOUT_H
#define T2CP_FENCE_LAYOUT_H

#include "layout.h"

/* The one element of the map `control` of fence.bpf.c. */
struct fence_control {
	__u64 since_ns;        /* CLOCK_MONOTONIC since when the fence is up, 0 while it is down; written in one go */
	__u8 primary_mac[6];
	__u16 zero;
};
LAYOUT(fence_control, since_ns, 0);
LAYOUT(fence_control, primary_mac, 8);
LAYOUT_SIZE(fence_control, 16);

/* Indices of the per-CPU map `counters` of fence.bpf.c. They count frames of the primary's while the fence is up. */
enum fence_counter {
	FENCE_DROPPED_TCP,          /* segments of a service */
	FENCE_DROPPED_ARP,          /* ARP that claims an address of a service */
	FENCE_DROPPED_ND,           /* neighbour discovery that does */
	FENCE_DROPPED_ICMP,         /* other ICMP from such an address */
	FENCE_DROPPED_OTHER,        /* fragments of TCP from such an address, and frames that cannot be read */
	FENCE_PASSED,               /* all others */
	FENCE_COUNTERS,
};

#endif
