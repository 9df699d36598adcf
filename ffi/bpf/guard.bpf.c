// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The primary's programs: they hide the crash tail of a server process, the FIN and RST segments that the kernel sends
 * for it when it dies, and all that follows of its flows.
 *
 * The kernel closes a dying process's sockets in that process's own context, so that the state callback of a connection
 * knows who closes it and why. The flow is held before its first segment of the tail exists. What is queued leaves
 * later, in other contexts; hence egress asks for the flow, and not for who sends.
 */
#include "guard.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Reports each crashed process once, and returns what is known of it. */
static __always_inline struct crash *note_crash(struct task_struct *task)
{
	__u32 tgid = task->tgid;
	struct crash *known = bpf_map_lookup_elem(&crashes, &tgid);
	struct crash fresh = {};

	fresh.start_ns = task->group_leader->start_time;
	if (known && known->start_ns == fresh.start_ns)
		return known;
	fresh.since_ns = bpf_ktime_get_ns();
	fresh.exit_code = task->exit_code;
	bpf_map_update_elem(&crashes, &tgid, &fresh, BPF_ANY);
	count(GUARD_CRASHES);
	report_process(GUARD_EVENT_CRASH, task);
	return bpf_map_lookup_elem(&crashes, &tgid);
}

struct listener {
	struct address address;
	__be16 port;
	bool any;              /* it listens on all addresses: as servers do, on those of IPv4, too */
	bool any_ipv4;
	bool found;
	__u32 crashed_tgid;
	__u64 crashed_ns;
};

static __always_inline bool same_address(const struct address *a, const struct address *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
	       a->word[3] == b->word[3];
}

static long mark_service(void *map, struct service_key *key, struct guarded *service, struct listener *l)
{
	if (key->port != l->port)
		return 0;
	if (!l->any && !(l->any_ipv4 && key->address.word[2] == bpf_htonl(0xffff)) &&
	    !same_address(&key->address, &l->address))
		return 0;
	service->crashed_tgid = l->crashed_tgid;
	service->crashed_ns = l->crashed_ns;
	l->found = true;
	return 0;
}

/* Notes that the services of a listener have lost or got it: `crashed_ns` is 0 for the latter. Is it one of theirs? */
static __always_inline bool mark_services(struct address *address, __be16 port, __u64 crashed_ns, __u32 tgid)
{
	struct listener l = { .address = *address, .port = port, .crashed_ns = crashed_ns, .crashed_tgid = tgid };
	__u32 rest = address->word[0] | address->word[1] | address->word[3];

	l.any = !rest && !address->word[2];
	l.any_ipv4 = !rest && address->word[2] == bpf_htonl(0xffff);
	bpf_for_each_map_elem(&services, mark_service, &l, 0);
	return l.found;
}

/*
 * Reads the ends of the connection, or the one end of a listener. All is read in any case: clang would choose between
 * addresses in the context otherwise, which the verifier refuses.
 */
static __always_inline void read_ends(struct bpf_sock_ops *ops, struct flow_key *key)
{
	const volatile struct bpf_sock_ops *o = ops;
	__be32 remote = o->remote_ip4, local = o->local_ip4;

	for (int i = 0; i < 4; i++) {
		key->client.word[i] = o->remote_ip6[i];
		key->server.word[i] = o->local_ip6[i];
	}
	if (o->family == AF_INET) {
		map_ipv4(&key->client, remote);
		map_ipv4(&key->server, local);
	}
	key->client_port = o->remote_port >> 16;
	key->server_port = bpf_htons(o->local_port);
}

/*
 * Does the current task close this socket? Packets and timers change states too, while any task whatever is current:
 * they do not own the socket. Nor does who closes a listener own the connections that nobody has accepted; but then its
 * service has lost its listener to the same process a moment ago.
 */
static __always_inline bool closes(struct bpf_sock_ops *ops, const struct guarded *service, __u32 tgid)
{
	struct bpf_sock *sk = ops->sk;
	struct tcp_sock *tcp;

	if (!sk)
		return false;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp)
		return false;
	if (((struct sock *)tcp)->sk_lock.owned)
		return true;
	return service && service->crashed_ns && service->crashed_tgid == tgid;
}

static __always_inline void hold(struct bpf_sock_ops *ops, const struct flow_key *key, struct task_struct *task)
{
	struct crash *crash = note_crash(task);
	struct held h = {
		.since_ns = bpf_ktime_get_ns(),
		.tgid = task->tgid,
		.snd_una = ops->snd_una,
		.snd_nxt = ops->snd_nxt,
		.rcv_nxt = ops->rcv_nxt,
	};
	long result = bpf_map_update_elem(&flows, key, &h, BPF_NOEXIST);

	if (!result) {
		count(GUARD_HELD);
		if (crash)
			__sync_fetch_and_add(&crash->flows, 1);
	} else if (result != -17 /* EEXIST: it was half closed before, and closes again */) {
		count(GUARD_TABLE_FULL);
	}
}

static __always_inline void state_changes(struct bpf_sock_ops *ops, __u32 from)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct guarded *service = NULL;
	struct flow_key key;
	__u32 exit_code, tgid;

	if (!(task->flags & PF_EXITING))
		return;
	read_ends(ops, &key);
	exit_code = task->exit_code;
	tgid = task->tgid;
	if (from != BPF_TCP_LISTEN) {
		service = find_service(&key.server, key.server_port);
		if (!service)
			return;
	}
	if (!closes(ops, service, tgid))
		return;
	if (from == BPF_TCP_LISTEN) {
		if (is_crash(exit_code) && mark_services(&key.server, key.server_port, bpf_ktime_get_ns(), tgid))
			note_crash(task);
	} else if (is_crash(exit_code)) {
		hold(ops, &key, task);
	} else {
		count(GUARD_ORDERLY);
	}
}

static __always_inline void want_states(struct bpf_sock_ops *ops)
{
	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

SEC("sockops")
int guard_sockops(struct bpf_sock_ops *ops)
{
	__u32 zero = 0;
	struct guard_control *c = bpf_map_lookup_elem(&control, &zero);
	struct flow_key key;

	if (!c || (ops->family != AF_INET && ops->family != AF_INET6) || bpf_get_netns_cookie(ops) != c->netns_cookie)
		return 1;
	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		read_ends(ops, &key);
		if (mark_services(&key.server, key.server_port, 0, 0)) {
			want_states(ops);
			report_process(GUARD_EVENT_LISTEN, bpf_get_current_task_btf());
		}
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		read_ends(ops, &key);
		if (!find_service(&key.server, key.server_port))
			break;
		want_states(ops);
		count(GUARD_GUARDED);
		if (!bpf_map_delete_elem(&flows, &key))
			count(GUARD_REPLACED);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		state_changes(ops, ops->args[0]);
		break;
	}
	return 1;
}

/* Connections and listeners that are older than the guard. Iterates over those of the caller's network namespace. */
SEC("iter/tcp")
int guard_older(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct address address = {};
	struct tcp_sock *tcp;
	bool wanted;
	__be16 port;
	int flags = 0;

	if (!common)
		return 0;
	tcp = bpf_skc_to_tcp_sock(common);
	if (!tcp)
		return 0;
	port = bpf_htons(common->skc_num);
	if (common->skc_family == AF_INET) {
		map_ipv4(&address, common->skc_rcv_saddr);
	} else {
		address.word[0] = common->skc_v6_rcv_saddr.in6_u.u6_addr32[0];
		address.word[1] = common->skc_v6_rcv_saddr.in6_u.u6_addr32[1];
		address.word[2] = common->skc_v6_rcv_saddr.in6_u.u6_addr32[2];
		address.word[3] = common->skc_v6_rcv_saddr.in6_u.u6_addr32[3];
	}
	if (common->skc_state == BPF_TCP_LISTEN)
		wanted = mark_services(&address, port, 0, 0);
	else
		wanted = find_service(&address, port) != NULL;
	if (!wanted)
		return 0;
	count(GUARD_GUARDED_OLDER);
	if (bpf_getsockopt(tcp, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags)))
		goto refused;
	flags |= BPF_SOCK_OPS_STATE_CB_FLAG;
	if (!bpf_setsockopt(tcp, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags)))
		return 0;
refused:
	count(GUARD_OLDER_REFUSED);
	return 0;
}

/* The end of a watched process: of its last thread. */
SEC("tp_btf/sched_process_exit")
int guard_exit(__u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 tgid = task->tgid;

	if (bpf_map_lookup_elem(&watched, &tgid) && !task->signal->live.counter)
		report_process(GUARD_EVENT_EXIT, task);
	return 0;
}

/*
 * Is the time over that began at `since`? It does not run out once another host has claimed the address after that: the
 * backup goes on with the flows, and nothing of them may come from here any more.
 */
static __always_inline bool is_over(const struct guard_control *c, const struct address *address, __u64 since)
{
	struct guarded *place;

	if (bpf_ktime_get_ns() - since < c->release_ns)
		return false;
	place = find_service(address, 0);
	return !place || place->moved_ns < since;
}

SEC("tc")
int guard_egress(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct guard_control *c = bpf_map_lookup_elem(&control, &zero);
	struct guarded *service;
	struct flow_key key;
	struct packet p;
	struct held *h;

	if (!c || skb->mark == MARK_RELEASE || !read_ip(skb, &p) || !read_tcp(skb, &p))
		return PASS;
	service = find_service(&p.source, p.source_port);
	if (!service)
		return PASS;
	flow_of(&p, false, &key);
	h = bpf_map_lookup_elem(&flows, &key);
	if (!h) {
		if (!(p.flags & TCP_RST) || !service->crashed_ns || is_over(c, &p.source, service->crashed_ns))
			return PASS;
		count(GUARD_HIDDEN_UNKNOWN);
		return TC_ACT_STOLEN;
	}
	if (p.flags & TCP_SYN) {
		if (!bpf_map_delete_elem(&flows, &key))
			count(GUARD_REPLACED);
		return PASS;
	}
	if (is_over(c, &p.source, h->since_ns)) {
		if (!bpf_map_delete_elem(&flows, &key))
			count(GUARD_EXPIRED);
		return PASS;
	}
	__sync_fetch_and_add(&h->hidden, 1);
	count(p.flags & TCP_RST	  ? GUARD_HIDDEN_RST
	      : p.flags & TCP_FIN ? GUARD_HIDDEN_FIN
	      : p.payload	  ? GUARD_HIDDEN_DATA
				  : GUARD_HIDDEN_OTHER);
	/* Not SHOT: the kernel would take that for a full queue, and send again soon. */
	return TC_ACT_STOLEN;
}

struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender[4];
};

#define ICMPV6 58
#define NEIGHBOUR_ADVERTISEMENT 136

static __always_inline bool is_own(const struct guard_control *c, const __u8 *mac)
{
	for (int i = 0; i < 6; i++)
		if (c->own_mac[i] != mac[i])
			return false;
	return true;
}

/* The address that another host claims with this frame: RFC 826, RFC 4861 section 4.4. */
static __always_inline bool read_claim(struct __sk_buff *skb, const struct guard_control *c, struct address *address)
{
	struct packet p;
	struct arp arp;
	__be32 ipv4;
	__u8 mac[6], type;
	__u32 l3;
	__be16 protocol = ethertype(skb, &l3);

	if (protocol == bpf_htons(ETH_P_ARP)) {
		if (bpf_skb_load_bytes(skb, l3, &arp, sizeof(arp)) || arp.protocol != bpf_htons(ETH_P_IP) ||
		    arp.hardware_length != 6 || arp.protocol_length != 4 || is_own(c, arp.sender_mac))
			return false;
		__builtin_memcpy(&ipv4, arp.sender, sizeof(ipv4));
		map_ipv4(address, ipv4);
		return true;
	}
	if (protocol != bpf_htons(ETH_P_IPV6) || !read_ip(skb, &p) || p.protocol != ICMPV6)
		return false;
	if (bpf_skb_load_bytes(skb, p.l4, &type, 1) || type != NEIGHBOUR_ADVERTISEMENT ||
	    bpf_skb_load_bytes(skb, 6, mac, sizeof(mac)) || is_own(c, mac))
		return false;
	return !bpf_skb_load_bytes(skb, p.l4 + 8, address, sizeof(*address));
}

/* Hears that another host has the service's address now: a takeover announces it. */
SEC("tc")
int guard_ingress(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct guard_control *c = bpf_map_lookup_elem(&control, &zero);
	struct address address;
	struct guarded *place;

	if (!c || !read_claim(skb, c, &address))
		return PASS;
	place = find_service(&address, 0);
	if (place) {
		place->moved_ns = bpf_ktime_get_ns();
		count(GUARD_CLAIMS);
	}
	return PASS;
}
