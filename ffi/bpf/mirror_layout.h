/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the mirror's program and user space share, beside layout.h. lib/mirror/layout.ts holds the same offsets; a unit
 * test compares the two.
 */
#ifndef T2CP_MIRROR_LAYOUT_H
#define T2CP_MIRROR_LAYOUT_H

#include "layout.h"

/* skb->mark of resets of the primary that were held back, on their way again. */
#define MARK_RESET 0x74326373

/* The one element of the map `control` of mirror.bpf.c. */
struct mirror_control {
	__u8 primary_mac[6];
	__u8 backup_mac[6];
	__u8 own_mac[6];
	__u16 zero;
	__u32 flags;
	__u32 commit_timeout;   /* milliseconds */
	__u32 hold_resets;      /* milliseconds for which the primary's resets are held back; 0 for not at all */
};
#define MIRROR_PAYLOAD 2   /* copy the primary's segments whole, not just their headers */
#define MIRROR_COMMIT 4    /* tell the client only what both servers have acknowledged */
#define MIRROR_ANSWERS 8   /* look for clients that the primary does not answer */
LAYOUT(mirror_control, primary_mac, 0);
LAYOUT(mirror_control, backup_mac, 6);
LAYOUT(mirror_control, own_mac, 12);
LAYOUT(mirror_control, flags, 20);
LAYOUT(mirror_control, commit_timeout, 24);
LAYOUT(mirror_control, hold_resets, 28);
LAYOUT_SIZE(mirror_control, 32);

/* What has become of a reset of the primary. */
enum reset_state {
	RESET_HELD = 0,
	/* It was sent on its way, and so are those that follow. */
	RESET_PASSED = 1,
	/* The service had moved. */
	RESET_DROPPED = 2,
};

/* The resets of a flow that were held back: the one with the highest number, for it says what the client has got. */
struct reset {
	__u64 since_ns;        /* CLOCK_MONOTONIC of the first */
	__u32 seq;
	__u32 ack;
	__u8 flags;            /* control bits */
	__u8 state;            /* enum reset_state */
	__u16 zero;
	__u32 more_zero;
};
LAYOUT(reset, since_ns, 0);
LAYOUT(reset, seq, 8);
LAYOUT(reset, ack, 12);
LAYOUT(reset, flags, 16);
LAYOUT(reset, state, 17);
LAYOUT_SIZE(reset, 24);

/* The one element of the map `signals` of mirror.bpf.c, which user space looks at every few milliseconds. */
struct signals {
	__u64 resets_noted;    /* flows of which a reset was held back */
	__u64 resets[64];      /* MAX_SERVICES; resets of the primary, also those that refuse a connection */
};
LAYOUT(signals, resets_noted, 0);
LAYOUT(signals, resets, 8);
LAYOUT_SIZE(signals, 520);

/* A flow whose client waits for an answer, in the map `waiting` of mirror.bpf.c. */
#define MAX_WAITING 256
struct waiting {
	__u64 since_ns;        /* CLOCK_MONOTONIC; 0 where none waits */
	__u32 hash;            /* of the flow */
	struct flow_key key;
	__u64 zero[2];         /* a cache line */
};
LAYOUT(waiting, since_ns, 0);
LAYOUT(waiting, hash, 8);
LAYOUT(waiting, key, 12);
LAYOUT_SIZE(waiting, 64);

/*
 * Output commit: what both servers have acknowledged of a flow, and what its client knows of it. Sequence numbers are
 * in host byte order; a right edge is an acknowledgement and the window behind it.
 */
struct commit {
	__u32 iss;             /* the primary's initial sequence number */
	__u32 primary_ack;     /* the primary's RCV.NXT, as far as it acknowledged */
	__u32 primary_right;
	__u32 primary_end;     /* the primary's SND.NXT */
	__u32 primary_tsval;   /* its newest */
	__u32 replica_ack;
	__u32 replica_right;
	__u32 told_ack;        /* the highest acknowledgement that went to the client */
	__u32 told_right;
	__u32 replica_tsecr;   /* what its newest segment echoes */
	__u64 waiting_ns;      /* CLOCK_MONOTONIC since when the replica keeps the client waiting; 0 if it does not */
	__u32 client_end;      /* behind the client's FIN, once client_fin is set */
	__u32 lifted;          /* 1: the client hears the primary alone */
	__u32 order;           /* what the barriers are done on */
	__u8 wscale;           /* the servers' */
	__u8 options;          /* OPTION_… of the SYN/ACK */
	__u8 client_fin;
	__u8 primary_fin;
};
LAYOUT(commit, iss, 0);
LAYOUT(commit, primary_ack, 4);
LAYOUT(commit, primary_right, 8);
LAYOUT(commit, primary_end, 12);
LAYOUT(commit, primary_tsval, 16);
LAYOUT(commit, replica_ack, 20);
LAYOUT(commit, replica_right, 24);
LAYOUT(commit, told_ack, 28);
LAYOUT(commit, told_right, 32);
LAYOUT(commit, replica_tsecr, 36);
LAYOUT(commit, waiting_ns, 40);
LAYOUT(commit, client_end, 48);
LAYOUT(commit, lifted, 52);
LAYOUT(commit, wscale, 60);
LAYOUT(commit, options, 61);
LAYOUT(commit, client_fin, 62);
LAYOUT(commit, primary_fin, 63);
LAYOUT_SIZE(commit, 64);

/* The one element of the map `hearing` of mirror.bpf.c. */
struct hearing {
	__u64 heard_ns;        /* CLOCK_MONOTONIC of the last commit frame; 0 for never */
	__u32 silent;          /* 1: flows wait for the backup only shortly */
	__u32 zero;
};
LAYOUT(hearing, heard_ns, 0);
LAYOUT(hearing, silent, 8);
LAYOUT_SIZE(hearing, 16);

/* Indices of the per-CPU map `counters` of mirror.bpf.c. */
enum mirror_counter {
	MIRROR_TO_PRIMARY,          /* client segments copied */
	MIRROR_TO_PRIMARY_BYTES,
	MIRROR_FROM_PRIMARY,        /* the primary's segments copied */
	MIRROR_FROM_PRIMARY_BYTES,
	MIRROR_FAILED,              /* copies that the interface did not take */
	MIRROR_EVENTS_LOST,
	MIRROR_COMMIT_FRAMES,       /* replicas' acknowledgements from the backup */
	MIRROR_COMMIT_IGNORED,      /* of these, those of flows that are not known, and broken ones */
	MIRROR_LIMITED,             /* the primary's segments whose acknowledgement or window was lowered */
	MIRROR_WITHHELD,            /* the primary's acknowledgements that told the client nothing new then */
	MIRROR_COMMITTED,           /* commit frames that became the client's acknowledgement */
	MIRROR_FLOWS_UNPROTECTED,   /* flows whose client hears the primary alone */
	MIRROR_RESETS,              /* resets of the primary */
	MIRROR_RESETS_HELD,         /* of these, those that were held back */
	MIRROR_RESETS_PASSED,       /* flows of which one went on after the bound */
	MIRROR_RESETS_DROPPED,      /* resets that did not, since the service had moved */
	MIRROR_RESETS_NOT_HELD,     /* resets that passed at once, since too many were held back */
	MIRROR_COUNTERS,
};

#endif
