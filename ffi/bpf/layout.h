/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the BPF programs and user space share: map keys and values, modes, counters, events. What only one program has
 * is in a *_layout.h beside it.
 *
 * lib/flow/layout.ts and event.ts hold the same offsets for TypeScript. Each LAYOUT line pins one of them here; a unit
 * test compares the two sides.
 */
#ifndef T2CP_LAYOUT_H
#define T2CP_LAYOUT_H

#include <linux/types.h>

#define LAYOUT(type, field, at) \
	_Static_assert(__builtin_offsetof(struct type, field) == (at), #type "." #field " moved")
#define LAYOUT_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type " changed its size")

/*
 * skb->mark of frames that t2cp itself made: for the replica's own stack, cut down to their headers, or for the output
 * commit: on the backup copies of the replica's segments on their way to the gateway, there what comes of them, and probes
 * of user space for the primary.
 */
#define MARK_INJECTED 0x74326370
#define MARK_HEADERS 0x74326371
#define MARK_COMMIT 0x74326372

/*
 * The EtherType of commit frames, one for local experiments (IEEE 802). Behind it stand the IP and TCP headers of a
 * replica's segment as the replica made them: their lengths may speak of a payload that is not there.
 */
#define ETH_P_COMMIT 0x88b5

/* An address of either family, network byte order; IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2). */
struct address {
	__be32 word[4];
};

/* A service; port 0 stands for the address itself. */
struct service_key {
	struct address address;
	__be16 port;
	__u16 zero;
};
LAYOUT(service_key, port, 16);
LAYOUT_SIZE(service_key, 20);

/* A flow: the client's end point and the service's. */
struct flow_key {
	struct address client;
	struct address server;
	__be16 client_port;
	__be16 server_port;
};
LAYOUT(flow_key, server, 16);
LAYOUT(flow_key, client_port, 32);
LAYOUT(flow_key, server_port, 34);
LAYOUT_SIZE(flow_key, 36);

/*
 * Values of the map `services` of shadow.bpf.c: never 0. Connections that began before the shadow may be joined; the
 * byte from SERVICE_WSCALE on is the window scale that both sides are taken to have then: nothing on the wire shows it.
 */
#define SERVICE_KNOWN 1
#define SERVICE_JOIN 2
#define SERVICE_WSCALE 8
/* Of mirror.bpf.c: from this bit on stands the place of the service in the `resets` of struct signals. */
#define SERVICE_PLACE 8
#define MAX_SERVICES 64

enum mode {
	/* The replica is silent. */
	MODE_SHADOW = 0,
	/* The replica answers; flows that are not yet in step with their client are still looked after. */
	MODE_SETTLING = 1,
	/* The replica answers; no t2cp code handles its packets. */
	MODE_ACTIVE = 2,
};

#define WANT_FLOW_EVENTS 1
/* The shadow is being taken down: nothing of the service reaches the replica any more. */
#define DRAINING 4
/* The gateway is told what the replicas acknowledge. */
#define TELL_GATEWAY 8

/* The one element of the map `control` of shadow.bpf.c. */
struct control {
	__u32 mode;
	__u32 flags;
	/* The interface's own IPv4 address, for ARP requests; 0 where it has none. */
	__be32 own_ipv4;
	/* Flows that user space found unprotected; the programs do not touch it. */
	__u32 found_unprotected;
	/* Since the takeover, the replicas have got what the recorder knows of; between programs of user space. */
	__u32 surveyed;
	__u32 zero;
	/* CLOCK_MONOTONIC until which frozen flows are frozen; 0 for none. User space puts it off while it lives. */
	__u64 frozen_until_ns;
};
LAYOUT(control, mode, 0);
LAYOUT(control, flags, 4);
LAYOUT(control, own_ipv4, 8);
LAYOUT(control, found_unprotected, 12);
LAYOUT(control, surveyed, 16);
LAYOUT(control, frozen_until_ns, 24);
LAYOUT_SIZE(control, 32);

/* TCP options that both sides agreed on in the handshake. */
#define OPTION_WSCALE 1
#define OPTION_SACK 2
#define OPTION_TIMESTAMPS 4
#define OPTION_ECN 8

/* Client bytes that the tap has not shown: sequence numbers of the first and behind the last; equal where unused. */
struct hole {
	__u32 from;
	__u32 to;
};
#define HOLES 4

/*
 * A flow as the tap and the replica show it. Sequence numbers are in host byte order. Names are RFC 9293's, seen
 * from the replica's end: IRS is the client's ISN, ISS the primary's.
 */
#define JOINING 2
struct flow {
	__u32 irs;
	__u32 iss;
	__u32 client_end;      /* highest sequence end that the client sent */
	__u32 client_ack;      /* highest acknowledgement that the client gave the primary */
	__u32 client_tsval;
	__u32 client_tsecr;
	__u32 primary_end;     /* the primary's SND.NXT */
	__u32 primary_ack;     /* the primary's RCV.NXT, as far as it acknowledged */
	__u32 primary_right;   /* highest right edge that the primary's window had */
	__u32 replica_end;     /* the replica's SND.NXT */
	__u32 replica_ack;     /* the replica's RCV.NXT, as far as it acknowledged */
	__u32 synack_tsval;
	__u64 synack_ns;       /* CLOCK_MONOTONIC when the SYN/ACK came by */
	__u64 seen_ns;         /* CLOCK_MONOTONIC of the flow's last packet */
	__u16 client_window;   /* as on the wire, unscaled */
	__u16 replica_window;
	__u16 mss;
	__u8 client_wscale;
	__u8 primary_wscale;
	__u8 options;
	/* A byte each, since each has one writer and there is no lock. */
	__u8 synack_seen;      /* or JOINING */
	__u8 client_fin;
	__u8 primary_fin;
	__u8 replica_fin;
	__u8 replica_reset;
	__u8 unprotected;
	__u8 zero;
	__u8 local_mac[6];     /* as the client's frames carry them, for injection */
	__u8 remote_mac[6];
	__u32 order;           /* what the barriers are done on */
	__u32 client_next;     /* end of the client's bytes that the tap showed without a hole */
	__u32 holes_used;      /* their number: they stand in order from the first on */
	__u64 primary_ns;      /* CLOCK_MONOTONIC of the primary's last segment */
	__u64 lag_ns;          /* CLOCK_MONOTONIC since when the replica acknowledges less than the primary; 0 if not */
	struct hole holes[4]; /* HOLES */
};
LAYOUT(flow, irs, 0);
LAYOUT(flow, iss, 4);
LAYOUT(flow, client_end, 8);
LAYOUT(flow, client_ack, 12);
LAYOUT(flow, client_tsval, 16);
LAYOUT(flow, client_tsecr, 20);
LAYOUT(flow, primary_end, 24);
LAYOUT(flow, primary_ack, 28);
LAYOUT(flow, primary_right, 32);
LAYOUT(flow, replica_end, 36);
LAYOUT(flow, replica_ack, 40);
LAYOUT(flow, synack_tsval, 44);
LAYOUT(flow, synack_ns, 48);
LAYOUT(flow, seen_ns, 56);
LAYOUT(flow, client_window, 64);
LAYOUT(flow, replica_window, 66);
LAYOUT(flow, mss, 68);
LAYOUT(flow, client_wscale, 70);
LAYOUT(flow, primary_wscale, 71);
LAYOUT(flow, options, 72);
LAYOUT(flow, synack_seen, 73);
LAYOUT(flow, client_fin, 74);
LAYOUT(flow, primary_fin, 75);
LAYOUT(flow, replica_fin, 76);
LAYOUT(flow, replica_reset, 77);
LAYOUT(flow, unprotected, 78);
LAYOUT(flow, local_mac, 80);
LAYOUT(flow, remote_mac, 86);
LAYOUT(flow, order, 92);
LAYOUT(flow, client_next, 96);
LAYOUT(flow, holes_used, 100);
LAYOUT(flow, primary_ns, 104);
LAYOUT(flow, lag_ns, 112);
LAYOUT(flow, holes, 120);
LAYOUT_SIZE(flow, 152);

/* A flow that has none of the replica's sockets: it has ended lately, or was reported as unprotected. */
#define STRANGER_REPORTED 0x80000000
struct stranger {
	__u32 stamp;           /* when it was seen last, in units of 2^30 ns, and STRANGER_REPORTED */
	__u32 client_end;      /* where its replica's RCV.NXT was at its end; 0 where it had none */
};
LAYOUT(stranger, stamp, 0);
LAYOUT(stranger, client_end, 4);
LAYOUT_SIZE(stranger, 8);

enum event_type {
	EVENT_FLOW_OPEN = 1,
	EVENT_FLOW_CLOSE = 2,
	EVENT_FLOW_UNPROTECTED = 3,
	EVENT_GAP = 4,
	EVENT_LAG = 5,
};

/* Why a flow closed or lost its protection. */
enum reason {
	REASON_NONE = 0,
	REASON_FIN = 1,             /* both sides closed */
	REASON_RESET_BY_CLIENT = 2,
	REASON_RESET_BY_PRIMARY = 3,
	REASON_REPLACED = 4,        /* the client opened the same 4-tuple anew */
	REASON_NO_HANDSHAKE = 5,    /* the tap never showed its handshake */
	REASON_NO_LISTENER = 6,     /* nobody listens on the backup */
	REASON_STALE_SOCKET = 7,    /* an older socket holds the 4-tuple */
	REASON_REFUSED = 8,         /* the kernel refused the socket; detail is errno */
	REASON_TABLE_FULL = 9,
	REASON_REPLICA_RESET = 10,  /* the replica reset the flow; the primary may be about to */
	REASON_NOT_COMMITTED = 11,  /* its replica did not acknowledge in time */
	REASON_BACKUP_SILENT = 12,  /* nothing was heard from the backup in time */
	REASON_REPLICA_FULL = 13,   /* the replica's window stayed closed too long */
	REASON_SMALL_MSS = 14,      /* the client's MSS is less than the kernel takes */
};

/* A record of the ring buffer `events`. */
struct event {
	__u32 type;
	__u32 reason;
	__u64 ns;              /* CLOCK_MONOTONIC */
	struct flow_key key;
	__u32 detail;          /* an errno */
	__u32 from;            /* of a gap or lag: sequence numbers of its first byte and behind its last */
	__u32 to;
};
LAYOUT(event, type, 0);
LAYOUT(event, reason, 4);
LAYOUT(event, ns, 8);
LAYOUT(event, key, 16);
LAYOUT(event, detail, 52);
LAYOUT(event, from, 56);
LAYOUT(event, to, 60);
LAYOUT_SIZE(event, 64);

/* Indices of the per-CPU map `counters` of shadow.bpf.c. */
enum shadow_counter {
	SHADOW_CLIENT_SEGMENTS,     /* client segments of replicated flows */
	SHADOW_PRIMARY_SEGMENTS,    /* the primary's segments of known flows */
	SHADOW_REPLICA_SEGMENTS,    /* the replica's segments held back */
	SHADOW_SELF_ACKNOWLEDGED,   /* of these, answered with the client's acknowledgement */
	SHADOW_FLOWS_OPENED,
	SHADOW_FLOWS_CLOSED,
	SHADOW_FLOWS_UNPROTECTED,
	SHADOW_GAPS,                /* runs of client bytes that the tap missed */
	SHADOW_GAP_BYTES,
	SHADOW_LAGS,                /* times that a replica fell behind the primary for long */
	SHADOW_UNKNOWN_FLOW,        /* segments of flows whose handshake was not seen */
	SHADOW_IMPLAUSIBLE,         /* client segments outside the primary's window */
	SHADOW_TRUNCATED,           /* client frames shorter than their IP header says */
	SHADOW_MALFORMED,           /* frames of the service's address that do not parse */
	SHADOW_SILENCED,            /* other packets of the service's address held back */
	SHADOW_EVENTS_LOST,         /* events that found the ring buffer full */
	SHADOW_ZERO_WINDOWS,        /* segments that told clients of frozen flows of a closed window */
	SHADOW_THAWS,               /* segments that told clients of the primary's window again */
	SHADOW_COUNTERS,
};

#endif
