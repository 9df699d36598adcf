/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What the freezing of flows shares with user space; lib/freeze/layout.ts holds the same for TypeScript. */
#ifndef T2CP_FREEZE_LAYOUT_H
#define T2CP_FREEZE_LAYOUT_H

#include "layout.h"

/* skb->mark of segments that become an advertisement to the client, whatever they say: user space's, and our own. */
#define MARK_FROZEN 0x74326374

/* The client is told no acknowledgement that the primary has not given: it could go on. */
#define FROZEN_REVOCABLE 1
/* The client is told the primary's window. */
#define FROZEN_THAWING 2

/* A frozen flow, in the map `frozen` of shadow.bpf.c. User space alone writes it. */
struct frozen {
	__u8 own_mac[6];       /* the interface's; that of a copied frame may be the primary's */
	__u8 flags;
	__u8 zero;
};
LAYOUT(frozen, own_mac, 0);
LAYOUT(frozen, flags, 6);
LAYOUT_SIZE(frozen, 8);

#endif
