/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the guard's programs and user space share, beside layout.h. lib/guard/layout.ts holds the same offsets; a unit
 * test compares the two.
 */
#ifndef T2CP_GUARD_LAYOUT_H
#define T2CP_GUARD_LAYOUT_H

#include "layout.h"

/* skb->mark of resets that user space sends when it lets a flow go. */
#define MARK_RELEASE 0x74326375

/* The one element of the map `control` of guard.bpf.c. */
struct guard_control {
	__u64 netns_cookie;    /* of the network namespace whose connections are guarded */
	__u64 release_ns;      /* how long a flow is held at most */
	__u8 own_mac[6];       /* of the interface at which other hosts' claims are heard */
	__u16 zero;
};
LAYOUT(guard_control, netns_cookie, 0);
LAYOUT(guard_control, release_ns, 8);
LAYOUT(guard_control, own_mac, 16);
LAYOUT_SIZE(guard_control, 24);

/* Value of the map `services` of guard.bpf.c. Times are CLOCK_MONOTONIC, 0 for never. */
struct guarded {
	__u64 crashed_ns;      /* of a service: since when the crash of a process has left it without listener */
	__u64 moved_ns;        /* of an address: when another host claimed it last */
	__u32 crashed_tgid;    /* that process */
	__u32 zero;
};
LAYOUT(guarded, crashed_ns, 0);
LAYOUT(guarded, moved_ns, 8);
LAYOUT(guarded, crashed_tgid, 16);
LAYOUT_SIZE(guarded, 24);

/* A flow of a crashed process: nothing of it leaves this host. Sequence numbers are in host byte order. */
struct held {
	__u64 since_ns;        /* CLOCK_MONOTONIC */
	__u32 tgid;            /* the process that held it open last */
	__u32 snd_una;         /* RFC 9293 section 3.3.1, when the process died */
	__u32 snd_nxt;
	__u32 rcv_nxt;
	__u32 hidden;          /* segments that did not leave */
	__u32 zero;
};
LAYOUT(held, since_ns, 0);
LAYOUT(held, tgid, 8);
LAYOUT(held, snd_una, 12);
LAYOUT(held, snd_nxt, 16);
LAYOUT(held, rcv_nxt, 20);
LAYOUT(held, hidden, 24);
LAYOUT_SIZE(held, 32);

/* A process that has crashed while it held a guarded flow or listener; the key is its number, by which it was reported. */
struct crash {
	__u64 start_ns;        /* when it had started, since numbers are used again */
	__u64 since_ns;        /* CLOCK_MONOTONIC of its end */
	__u32 exit_code;       /* as wait(2) gives it */
	__u32 flows;           /* that are held for it */
};
LAYOUT(crash, start_ns, 0);
LAYOUT(crash, since_ns, 8);
LAYOUT(crash, exit_code, 16);
LAYOUT(crash, flows, 20);
LAYOUT_SIZE(crash, 24);

enum guard_event_type {
	GUARD_EVENT_CRASH = 1,  /* a process closes guarded flows or a listener, and not by its own will */
	GUARD_EVENT_EXIT = 2,   /* a watched process has ended, in whatever way */
	GUARD_EVENT_LISTEN = 3, /* a process listens for a service */
};

/* A record of the ring buffer `events` of guard.bpf.c. */
struct guard_event {
	__u32 type;
	__u32 tgid;
	__u64 ns;              /* CLOCK_MONOTONIC */
	__u32 exit_code;       /* as wait(2) gives it */
	__u8 name[16];         /* of the process, ends in a zero */
	__u32 zero;
};
LAYOUT(guard_event, type, 0);
LAYOUT(guard_event, tgid, 4);
LAYOUT(guard_event, ns, 8);
LAYOUT(guard_event, exit_code, 16);
LAYOUT(guard_event, name, 20);
LAYOUT_SIZE(guard_event, 40);

/* Indices of the per-CPU map `counters` of guard.bpf.c. */
enum guard_counter {
	GUARD_GUARDED,              /* connections that were accepted under guard */
	GUARD_GUARDED_OLDER,        /* connections and listeners that were older than the guard */
	GUARD_OLDER_REFUSED,        /* of these, those that the kernel did not let it guard */
	GUARD_CRASHES,              /* processes that crashed with a guarded flow or listener */
	GUARD_HELD,                 /* flows of theirs */
	GUARD_ORDERLY,              /* flows that a process closed which ended in order */
	GUARD_HIDDEN_FIN,           /* segments of held flows that did not leave: those with FIN */
	GUARD_HIDDEN_RST,           /* those with RST */
	GUARD_HIDDEN_DATA,          /* others with payload */
	GUARD_HIDDEN_OTHER,         /* the rest */
	GUARD_HIDDEN_UNKNOWN,       /* resets from a service without listener, of no held flow */
	GUARD_EXPIRED,              /* held flows whose time was over before user space let them go */
	GUARD_REPLACED,             /* held flows whose client opened the same addresses and ports anew */
	GUARD_CLAIMS,               /* claims of a service's address that another host made */
	GUARD_TABLE_FULL,           /* flows that could not be held, the table being full */
	GUARD_EVENTS_LOST,
	GUARD_COUNTERS,
};

#endif
