/**
 * Link layers of captured frames: where the IP header starts.
 *
 * @module
 */

/** Link types of captures that can be read: the numbers of pcap-linktype(7). */
export const LinkType = {
  /** BSD loopback: a family in the byte order of the capturing host. */
  NULL: 0,
  /** Ethernet. */
  ETHERNET: 1,
  /** IP without a link header, as libpcap's own DLT_RAW on Linux numbers it. */
  RAW_DLT: 12,
  /** IP without a link header. */
  RAW: 101,
  /** OpenBSD loopback: a family in network byte order. */
  LOOP: 108,
  /** Linux cooked capture, from the interface "any". */
  LINUX_SLL: 113,
  /** IPv4 without a link header. */
  IPV4: 228,
  /** IPv6 without a link header. */
  IPV6: 229,
  /** Linux cooked capture, version 2. */
  LINUX_SLL2: 276,
} as const;

const known = new Set<number>(Object.values(LinkType));

/** Whether frames of that link type can be read. */
export function isReadableLink(link: number): boolean {
  return known.has(link);
}

const VLAN = 0x8100;
const SERVICE_VLAN = 0x88a8;
const IPV4 = 0x0800;
const IPV6 = 0x86dd;
/** The EtherType of outer tags before IEEE 802.1ad. */
const OLD_SERVICE_VLAN = 0x9100;
/** More tags are not looked behind. */
const MAX_TAGS = 4;

/**
 * Where the IP header is of a frame that stands in `view` from `at` to `end`; -1 where there is none. Whether it is
 * IPv4 or IPv6, the header itself says.
 */
export function networkOffset(view: DataView, at: number, end: number, link: number): number {
  switch (link) {
    case LinkType.ETHERNET:
      return behindTags(view, at + 12, end);
    case LinkType.LINUX_SLL:
      return behindTags(view, at + 14, end);
    case LinkType.LINUX_SLL2:
      // The protocol comes first; a tag in the packet stands behind the whole header.
      if (end - at < 20) return -1;
      if (isIp(view.getUint16(at))) return at + 20;
      return isTag(view.getUint16(at)) ? behindTags(view, at + 22, end) : -1;
    case LinkType.NULL:
    case LinkType.LOOP:
      return end - at < 4 ? -1 : at + 4;
    default:
      return at;
  }
}

function isIp(type: number): boolean {
  return type === IPV4 || type === IPV6;
}

function isTag(type: number): boolean {
  return type === VLAN || type === SERVICE_VLAN || type === OLD_SERVICE_VLAN;
}

/** `at` is the offset of the EtherType; each tag has two bytes of its own, and then the next EtherType. */
function behindTags(view: DataView, at: number, end: number): number {
  for (let tags = 0; at + 2 <= end; tags++, at += 4) {
    const type = view.getUint16(at);
    if (isIp(type)) return at + 2;
    if (!isTag(type) || tags === MAX_TAGS) return -1;
  }
  return -1;
}
