// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The gateway's programs: they send the backup a copy of what passes between the clients and the primary.
 *
 * The rule asks for the primary's MAC address, not just for the service: as soon as the service's address moves to
 * another host, the copying stops by itself.
 */
#include "packet.h"

#define MAX_SERVICES 64
#define MAX_MIRROR_FLOWS 65536

char LICENSE[] SEC("license") = "Dual MIT/GPL";

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

#define FIN_OF_CLIENT 1
#define FIN_OF_PRIMARY 2

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
	bpf_ringbuf_submit(e, 0);
}

static __always_inline bool is_service(const struct address *address, __be16 port)
{
	struct service_key key = { .address = *address, .port = port };

	return bpf_map_lookup_elem(&services, &key) != NULL;
}

/* Reports a flow when the primary accepts it and when both sides, or a reset, have ended it. */
static __always_inline void follow_flow(const struct packet *p, const struct flow_key *key, __u32 fin)
{
	__u32 none = 0, *closed;

	if ((p->flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK)) {
		if (!bpf_map_update_elem(&flows, key, &none, BPF_NOEXIST))
			report(EVENT_FLOW_OPEN, REASON_NONE, key);
		return;
	}
	if (!(p->flags & (TCP_FIN | TCP_RST)))
		return;
	closed = bpf_map_lookup_elem(&flows, key);
	if (!closed)
		return;
	if (p->flags & TCP_FIN)
		*closed |= fin;
	if (p->flags & TCP_RST || *closed == (FIN_OF_CLIENT | FIN_OF_PRIMARY)) {
		__u32 reason = p->flags & TCP_FIN	 ? REASON_FIN
			       : fin == FIN_OF_CLIENT ? REASON_RESET_BY_CLIENT
						      : REASON_RESET_BY_PRIMARY;

		if (!bpf_map_delete_elem(&flows, key))
			report(EVENT_FLOW_CLOSE, reason, key);
	}
}

static __always_inline bool same_mac(const __u8 *a, const __u8 *b)
{
	for (int i = 0; i < 6; i++)
		if (a[i] != b[i])
			return false;
	return true;
}

/* Sends a copy to the backup. The addresses are changed for the copy and restored for the frame itself. */
static __always_inline void copy_to_backup(struct __sk_buff *skb, const struct mirror_control *c, const __u8 *macs,
					   __u32 mark)
{
	__u8 addressed[12];
	__u32 old_mark = skb->mark;

	/* From our own address: from another's, the switch would take this port for the other's. */
	__builtin_memcpy(addressed, c->backup_mac, 6);
	__builtin_memcpy(addressed + 6, c->own_mac, 6);
	bpf_skb_store_bytes(skb, 0, addressed, sizeof(addressed), 0);
	skb->mark = mark;
	if (bpf_clone_redirect(skb, skb->ifindex, 0))
		add(MIRROR_FAILED, 1);
	skb->mark = old_mark;
	bpf_skb_store_bytes(skb, 0, macs, 12, 0);
}

SEC("tc")
int mirror_egress(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct mirror_control *c = bpf_map_lookup_elem(&control, &zero);
	struct flow_key key = {};
	struct packet p;
	__u8 macs[12];

	if (!c)
		return PASS;
	if (skb->mark == MARK_HEADERS) { /* a copy on its way out: the lengths in the headers stay as they were */
		skb->mark = 0;
		if (read_ip(skb, &p) && read_tcp(skb, &p) && skb->len > p.l4 + p.header)
			bpf_skb_change_tail(skb, p.l4 + p.header, 0);
		return PASS;
	}
	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)) || !same_mac(macs, c->primary_mac) || !read_ip(skb, &p) ||
	    !read_tcp(skb, &p) || !is_service(&p.destination, p.destination_port))
		return PASS;
	if (c->flags & WANT_FLOW_EVENTS) {
		key.client = p.source;
		key.server = p.destination;
		key.client_port = p.source_port;
		key.server_port = p.destination_port;
		follow_flow(&p, &key, FIN_OF_CLIENT);
	}
	add(MIRROR_TO_PRIMARY, 1);
	add(MIRROR_TO_PRIMARY_BYTES, skb->len);
	copy_to_backup(skb, c, macs, 0);
	return PASS;
}

SEC("tc")
int mirror_ingress(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct mirror_control *c = bpf_map_lookup_elem(&control, &zero);
	struct flow_key key = {};
	struct packet p;
	__u8 macs[12];

	if (!c || bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)) || !same_mac(macs + 6, c->primary_mac) ||
	    !read_ip(skb, &p) || !read_tcp(skb, &p) || !is_service(&p.source, p.source_port))
		return PASS;
	if (c->flags & WANT_FLOW_EVENTS) {
		key.client = p.destination;
		key.server = p.source;
		key.client_port = p.destination_port;
		key.server_port = p.source_port;
		follow_flow(&p, &key, FIN_OF_PRIMARY);
	}
	add(MIRROR_FROM_PRIMARY, 1);
	add(MIRROR_FROM_PRIMARY_BYTES, skb->len);
	copy_to_backup(skb, c, macs, c->flags & MIRROR_PAYLOAD ? 0 : MARK_HEADERS);
	return PASS;
}
