/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The guard programs' maps, counters and events, and what they ask about processes. */
#ifndef T2CP_GUARD_H
#define T2CP_GUARD_H

#include "guard_layout.h"

#define CONTROL struct guard_control
#define COUNTERS GUARD_COUNTERS
#define EVENTS_LOST GUARD_EVENTS_LOST
#define EVENTS_SIZE (1 << 16)
#define SERVICE struct guarded
#include "common.h"

#define MAX_HELD 65536
#define MAX_CRASHES 1024
#define MAX_WATCHED 1024

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_HELD);
	__type(key, struct flow_key);
	__type(value, struct held);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_CRASHES);
	__type(key, __u32);
	__type(value, struct crash);
} crashes SEC(".maps");

/* The processes whose end is reported in any case, by number. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_WATCHED);
	__type(key, __u32);
	__type(value, __u32);
} watched SEC(".maps");

/* What is read of the kernel's own structures; libbpf finds the offsets in the kernel's type information. */
#define KERNEL __attribute__((preserve_access_index))

typedef struct {
	int counter;
} KERNEL atomic_t;

struct signal_struct {
	atomic_t live;
} KERNEL;

struct task_struct {
	unsigned int flags;
	int exit_code;
	int tgid;
	__u64 start_time;
	struct task_struct *group_leader;
	struct signal_struct *signal;
	char comm[16];
} KERNEL;

typedef struct {
	int owned;
} KERNEL socket_lock_t;

struct sock_common {
	__be32 skc_rcv_saddr;
	struct in6_addr skc_v6_rcv_saddr;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
} KERNEL;

struct sock {
	socket_lock_t sk_lock;
} KERNEL;

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
} KERNEL;

#define PF_EXITING 0x4

#define SOL_TCP 6
#define TCP_BPF_SOCK_OPS_CB_FLAGS 1008 /* Linux 6.12 */

#define AF_INET 2
#define AF_INET6 10

#define SIGHUP 1
#define SIGINT 2
#define SIGTERM 15

/*
 * Did a process end against its will? By the rule of systemd.service(5): neither with status 0 nor by the signals with
 * which one asks a process to end. SIGPIPE is no such signal here.
 */
static __always_inline bool is_crash(__u32 exit_code)
{
	__u32 signal = exit_code & 0x7f;

	return signal ? signal != SIGHUP && signal != SIGINT && signal != SIGTERM : exit_code != 0;
}

static __always_inline void report_process(__u32 type, struct task_struct *task)
{
	struct guard_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		count(GUARD_EVENTS_LOST);
		return;
	}
	e->type = type;
	e->tgid = task->tgid;
	e->ns = bpf_ktime_get_ns();
	e->exit_code = task->exit_code;
	e->zero = 0;
	bpf_probe_read_kernel(e->name, sizeof(e->name), task->comm);
	e->name[sizeof(e->name) - 1] = 0;
	bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP);
}

/* What has become of a service, or of an address with port 0; NULL where it is none. */
static __always_inline struct guarded *find_service(const struct address *address, __be16 port)
{
	struct service_key key = { .address = *address, .port = port };

	return bpf_map_lookup_elem(&services, &key);
}

#endif
