/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Output commit at the gateway: commit frames, and the acknowledgements that they become. */
#ifndef T2CP_COMMIT_REPLY_H
#define T2CP_COMMIT_REPLY_H

#include "commit.h"

#define MAX_SACK_BLOCKS 4

struct sack_block {
	__be32 from;
	__be32 to;
};

/* The option's first word, for so many blocks. */
static __always_inline __be32 sack_head(__u32 blocks)
{
	return bpf_htonl(SACK_HEAD + 2 + blocks * sizeof(struct sack_block));
}

/*
 * The replica's selective acknowledgements of what is behind a hole, so that the client sees the hole at once. The primary
 * may not have acknowledged these bytes yet: a selective acknowledgement lets a sender forget nothing (RFC 2018
 * section 8). Reports of duplicates are left to the primary. Returns how many are left.
 */
static __always_inline __u32 read_sack(struct __sk_buff *skb, const struct packet *p, const struct commit *f,
				       struct sack_block blocks[MAX_SACK_BLOCKS])
{
	__u32 at = p->l4 + header_length(f), found = 0;
	__be32 head;

	if (bpf_skb_load_bytes(skb, at, &head, sizeof(head)))
		return 0;
	at += sizeof(head);
	for (__u32 i = 0; i < MAX_SACK_BLOCKS; i++, at += sizeof(*blocks)) {
		struct sack_block b;
		__u32 from;

		if (at + sizeof(b) > p->l4 + p->header || bpf_skb_load_bytes(skb, at, &b, sizeof(b)))
			break;
		/* The kind and a length with room for this block. */
		if ((bpf_ntohl(head) & 0xffffff00) != SACK_HEAD || (bpf_ntohl(head) & 0xff) < 2 + 8 * (i + 1))
			break;
		from = bpf_ntohl(b.from);
		if (!after(from, f->replica_ack) || !after(bpf_ntohl(b.to), from))
			continue;
		blocks[found & (MAX_SACK_BLOCKS - 1)] = b;
		found++;
	}
	return found > MAX_SACK_BLOCKS ? MAX_SACK_BLOCKS : found;
}

/* What the client is to be told by a segment of ours. */
struct told {
	__u32 ack;
	__u16 window;
	__u16 blocks;
	struct sack_block sack[MAX_SACK_BLOCKS];
};

/* The length of its TCP header. */
static __always_inline __u32 told_length(const struct commit *f, const struct told *t)
{
	return header_length(f) + (t->blocks ? sizeof(__be32) + t->blocks * sizeof(struct sack_block) : 0);
}

struct stamps {
	__be32 kind;
	__be32 tsval;
	__be32 tsecr;
};

/* Writes the TCP header from `at` on; returns the sum of its words, or a negative number. */
static __noinline __s64 write_tcp(struct __sk_buff *skb, const struct packet *p, const struct commit *f,
				  const struct told *t)
{
	struct tcp_header tcp = {
		.source = p->source_port,
		.destination = p->destination_port,
		.seq = bpf_htonl(f->primary_end),
		.ack = bpf_htonl(t->ack),
		.offset = (told_length(f, t) / 4) << 4,
		.flags = TCP_ACK,
		.window = bpf_htons(t->window),
	};
	__u32 at = p->l4 + sizeof(tcp);
	__s64 sum;

	if (bpf_skb_store_bytes(skb, p->l4, &tcp, sizeof(tcp), BPF_F_RECOMPUTE_CSUM))
		return -1;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&tcp, sizeof(tcp), 0);
	if (f->options & OPTION_TIMESTAMPS) {
		struct stamps s = {
			.kind = bpf_htonl(0x0101080a),
			.tsval = bpf_htonl(f->primary_tsval),
			.tsecr = bpf_htonl(f->replica_tsecr), /* as lower() has it */
		};

		if (bpf_skb_store_bytes(skb, at, &s, sizeof(s), BPF_F_RECOMPUTE_CSUM))
			return -1;
		sum = bpf_csum_diff(NULL, 0, (__be32 *)&s, sizeof(s), sum);
		at += sizeof(s);
	}
	if (t->blocks) {
		__be32 head = sack_head(t->blocks);

		if (bpf_skb_store_bytes(skb, at, &head, sizeof(head), BPF_F_RECOMPUTE_CSUM))
			return -1;
		sum = bpf_csum_diff(NULL, 0, &head, sizeof(head), sum);
		at += sizeof(head);
	}
	for (__u32 i = 0; i < MAX_SACK_BLOCKS && i < t->blocks; i++, at += sizeof(t->sack[i])) {
		struct sack_block b = t->sack[i];

		if (bpf_skb_store_bytes(skb, at, &b, sizeof(b), BPF_F_RECOMPUTE_CSUM))
			return -1;
		sum = bpf_csum_diff(NULL, 0, (__be32 *)&b, sizeof(b), sum);
	}
	return (__u32)sum;
}

/* What both families put before the TCP segment when they sum it up (RFC 9293 section 3.1, RFC 8200 section 8.1). */
struct pseudo_header {
	struct address source;
	struct address destination;
	__be32 length;
	__be32 protocol;
};

static __always_inline __u32 sum_pseudo_header(const struct packet *p, __u32 length)
{
	struct pseudo_header pseudo = {
		.source = p->source,
		.destination = p->destination,
		.length = bpf_htonl(length),
		.protocol = bpf_htonl(IPPROTO_TCP),
	};

	if (!p->ipv6) /* without the mapped prefix, which IPv4's sum does not have */
		pseudo.source.word[2] = pseudo.destination.word[2] = 0;
	return bpf_csum_diff(NULL, 0, pseudo.source.word, sizeof(pseudo), 0);
}

static __always_inline bool write_ipv4(struct __sk_buff *skb, const struct packet *p, __u32 length)
{
	struct iphdr ip;
	__u32 sum;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)))
		return false;
	ip.tos = 0; /* acknowledgements carry no ECT, RFC 3168 section 6.1.4 */
	ip.tot_len = bpf_htons(sizeof(ip) + length);
	ip.frag_off = bpf_htons(0x4000);
	ip.check = 0;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&ip, sizeof(ip), 0);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip.check = ~sum;
	return !bpf_skb_store_bytes(skb, p->l3, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
}

static __always_inline bool write_ipv6(struct __sk_buff *skb, const struct packet *p, __u32 length)
{
	/* Version and traffic class, without a flow label. */
	struct {
		__be32 first;
		__be16 length;
		__u8 next;
		__u8 hop_limit;
	} ip = { bpf_htonl(0x60000000), bpf_htons(length), IPPROTO_TCP, 64 };

	return !bpf_skb_store_bytes(skb, p->l3, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
}

/*
 * Makes the commit frame a segment of the primary's, as it would come from there. The checksum's field starts at 0 and
 * takes the pseudo-header first, then the segment, each in the way that CHECKSUM_PARTIAL wants too, where the device
 * adds up the segment itself.
 */
static __noinline int to_client(struct __sk_buff *skb, const struct mirror_control *c, const struct packet *p,
				const struct commit *f, const struct told *t)
{
	__u32 length = told_length(f, t);
	__be16 type = bpf_htons(p->ipv6 ? ETH_P_IPV6 : ETH_P_IP);
	__u8 macs[12];
	__s64 sum;

	__builtin_memcpy(macs, c->own_mac, 6);
	__builtin_memcpy(macs + 6, c->primary_mac, 6);
	if (bpf_skb_change_tail(skb, p->l4 + length, 0) || bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0) ||
	    bpf_skb_store_bytes(skb, p->l3 - sizeof(type), &type, sizeof(type), /* sums include tags */
				p->l3 == ETH_HLEN ? 0 : BPF_F_RECOMPUTE_CSUM) ||
	    !(p->ipv6 ? write_ipv6(skb, p, length) : write_ipv4(skb, p, length)))
		return TC_ACT_STOLEN;
	sum = write_tcp(skb, p, f, t);
	if (sum < 0)
		return TC_ACT_STOLEN;
	bpf_l4_csum_replace(skb, p->l4 + OFFSET_CHECKSUM, 0, sum_pseudo_header(p, length), BPF_F_PSEUDO_HDR);
	bpf_l4_csum_replace(skb, p->l4 + OFFSET_CHECKSUM, 0, (__u32)sum, 0);
	bpf_csum_update(skb, ~(__u32)sum); /* for CHECKSUM_COMPLETE: the field changed by as much */
	count(MIRROR_COMMITTED);
	skb->mark = MARK_COMMIT;
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

/* The headers behind the EtherType of a commit frame. */
static __always_inline bool read_commit(struct __sk_buff *skb, struct packet *p)
{
	__u8 version;

	if (bpf_skb_load_bytes(skb, p->l3, &version, sizeof(version)))
		return false;
	if (version >> 4 == 4 ? !read_ipv4(skb, p) : !read_ipv6(skb, p))
		return false;
	return read_tcp(skb, p) && p->l4 - p->l3 == (p->ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) &&
	       skb->len >= p->l4 + p->header;
}

static __always_inline void hear(void)
{
	__u32 zero = 0;
	struct hearing *h = bpf_map_lookup_elem(&hearing, &zero);

	if (!h)
		return;
	h->heard_ns = coarse_ns();
	if (h->silent)
		h->silent = 0;
}

/* What the replica says changes what the client may know. True where it is to be told. */
static __always_inline bool follow_replica(struct __sk_buff *skb, const struct packet *p, struct commit *f,
					   struct told *t)
{
	__u32 right = p->ack + ((__u32)p->window << (f->wscale & 15));
	bool moved = after(p->ack, f->replica_ack) || after(right, f->replica_right);
	struct tcp_options o;

	f->replica_ack = later(p->ack, f->replica_ack);
	f->replica_right = later(right, f->replica_right);
	commit_order(f); /* the replica's numbers are written, now the primary's may be read */
	if (moved)
		f->waiting_ns = is_waiting(f) ? coarse_ns() : 0;
	t->ack = earlier(f->primary_ack, f->replica_ack);
	t->window = window_to(f, t->ack, earlier(f->primary_right, f->replica_right));
	if (!after(f->replica_ack, f->primary_ack))
		t->blocks = read_sack(skb, p, f, t->sack);
	if (f->options & OPTION_TIMESTAMPS) {
		read_timestamps(skb, p, &o);
		f->replica_tsecr = later(o.tsecr, f->replica_tsecr);
	}
	/* Without selective acknowledgements, duplicates have to show the hole (RFC 5681 section 3.2). */
	if (!moved && !(f->options & OPTION_SACK) && after(f->primary_ack, f->replica_ack))
		return true;
	return t->blocks || after(t->ack, f->told_ack) ||
	       after(t->ack + ((__u32)t->window << (f->wscale & 15)), f->told_right);
}

/* A commit frame of the backup's, whose headers start at `l3`. */
static __noinline int commit_frame(struct __sk_buff *skb, const struct mirror_control *c, __u32 l3)
{
	struct packet p = { .l3 = l3 };
	struct commit *f = NULL;
	struct flow_key key;
	struct told t = {};
	int verdict;

	count(MIRROR_COMMIT_FRAMES);
	if (read_commit(skb, &p) && is_service(&p.source, p.source_port)) {
		hear();
		flow_of(&p, false, &key);
		f = find_commit(&key, false);
	}
	if (!f) {
		count(MIRROR_COMMIT_IGNORED);
		return TC_ACT_STOLEN;
	}
	if (f->lifted)
		return TC_ACT_STOLEN;
	if (p.flags & TCP_RST) {
		lift(&key, f, REASON_REPLICA_RESET);
		return TC_ACT_STOLEN;
	}
	if (!follow_replica(skb, &p, f, &t))
		return TC_ACT_STOLEN;
	verdict = to_client(skb, c, &p, f, &t);
	tell_client(&key, f, t.ack, t.window); /* last, since it may end the flow */
	return verdict;
}

#endif
