/**
 * The bytes that the BPF programs and user space share, as `ffi/bpf/layout.h` pins them. Integers are in host byte
 * order (little-endian) unless said otherwise; addresses and ports are in network byte order.
 *
 * @module
 */
import { familyOf, formatEndpoint, from16Bytes, type Service, to16Bytes } from "../address.ts";

/** Values of `enum mode`. */
export const Mode = { SHADOW: 0, SETTLING: 1, ACTIVE: 2 } as const;

/** One of the numbers of {@linkcode Mode}. */
export type Mode = typeof Mode[keyof typeof Mode];

/** A mode's name as the events show it. */
export function modeName(mode: number): string {
  return ["shadow", "settling", "active"][mode] ?? `mode ${mode}`;
}

/** The mark of frames for the replica's own stack. */
export const MARK_INJECTED = 0x74326370;

/** The mark of frames of the output commit, see ffi/bpf/layout.h. */
export const MARK_COMMIT = 0x74326372;

/** The EtherType of commit frames. */
export const ETHERTYPE_COMMIT = 0x88b5;

/**
 * Bits of the values of the map `services`, and where further numbers begin in them: the window scale for `shadow`, the
 * service's place in the `resets` of `struct signals` for `mirror`.
 */
export const ServiceValue = { KNOWN: 1, JOIN: 2, WSCALE: 8, PLACE: 8 } as const;

/** The most services and addresses. */
export const MAX_SERVICES = 64;

/** `struct stranger`: offsets and size. */
export const STRANGER = { stamp: 0, client_end: 4, size: 8 } as const;

/** Bit of the stamp of a `struct stranger`: the flow was reported as unprotected, rather than it ended. */
export const STRANGER_REPORTED = 0x80000000;

/** Value of {@linkcode Flow.synack_seen}: the connection began before the shadow, and may be joined. */
export const JOINING = 2;

/** Flag of `struct control` and `struct mirror_control`: report opened and closed flows. */
export const WANT_FLOW_EVENTS = 1;

/** Flag of `struct control`: nothing of the service reaches the replica any more. */
export const DRAINING = 4;

/** Flag of `struct control`: the gateway is told what the replicas acknowledge. */
export const TELL_GATEWAY = 8;

/** Bits of {@linkcode Flow.options}. */
export const Option = { WSCALE: 1, SACK: 2, TIMESTAMPS: 4, ECN: 8 } as const;

/** `struct service_key`: offsets and size. */
export const SERVICE_KEY = { address: 0, port: 16, size: 20 } as const;

/** `struct flow_key`: offsets and size. */
export const FLOW_KEY = {
  client: 0,
  server: 16,
  client_port: 32,
  server_port: 34,
  size: 36,
} as const;

/** `struct control`: offsets and size. */
export const CONTROL = {
  mode: 0,
  flags: 4,
  own_ipv4: 8,
  found_unprotected: 12,
  surveyed: 16,
  frozen_until_ns: 24,
  size: 32,
} as const;

/** `struct flow`: offsets and size. */
export const FLOW = {
  irs: 0,
  iss: 4,
  client_end: 8,
  client_ack: 12,
  client_tsval: 16,
  client_tsecr: 20,
  primary_end: 24,
  primary_ack: 28,
  primary_right: 32,
  replica_end: 36,
  replica_ack: 40,
  synack_tsval: 44,
  synack_ns: 48,
  seen_ns: 56,
  client_window: 64,
  replica_window: 66,
  mss: 68,
  client_wscale: 70,
  primary_wscale: 71,
  options: 72,
  synack_seen: 73,
  client_fin: 74,
  primary_fin: 75,
  replica_fin: 76,
  replica_reset: 77,
  unprotected: 78,
  local_mac: 80,
  remote_mac: 86,
  order: 92,
  client_next: 96,
  holes_used: 100,
  primary_ns: 104,
  lag_ns: 112,
  holes: 120,
  size: 152,
} as const;

/** Names of `enum shadow_counter`, in its order. */
export const shadowCounters: readonly string[] = [
  "client_segments",
  "primary_segments",
  "replica_segments",
  "self_acknowledged",
  "flows_opened",
  "flows_closed",
  "flows_unprotected",
  "gaps",
  "gap_bytes",
  "lags",
  "unknown_flow",
  "implausible",
  "truncated",
  "malformed",
  "silenced",
  "events_lost",
  "zero_windows",
  "thaws",
];

/** The key of a service in the map `services`; port 0 stands for the address itself. */
export function serviceKey(address: string, port: number): Uint8Array<ArrayBuffer> {
  const key = new Uint8Array(SERVICE_KEY.size);
  key.set(to16Bytes(address), SERVICE_KEY.address);
  new DataView(key.buffer).setUint16(SERVICE_KEY.port, port);
  return key;
}

/** The keys of `services` in the map `services`: each service, and each address. */
export function serviceKeys(services: readonly Service[]): Uint8Array<ArrayBuffer>[] {
  const addresses = new Set(services.map((service) => service.address));
  return [
    ...services.map((service) => serviceKey(service.address, service.port)),
    ...[...addresses].map((address) => serviceKey(address, 0)),
  ];
}

/** A flow's two ends. */
export interface FlowEnds {
  /** `address:port`, IPv6 in brackets. */
  client: string;
  /** `address:port`, IPv6 in brackets. */
  server: string;
}

/** Reads a `struct flow_key`. */
export function readFlowKey(view: DataView, at: number): FlowEnds {
  const bytes = (offset: number): Uint8Array =>
    new Uint8Array(view.buffer, view.byteOffset + at + offset, 16);
  return {
    client: formatEndpoint(
      from16Bytes(bytes(FLOW_KEY.client)),
      view.getUint16(at + FLOW_KEY.client_port),
    ),
    server: formatEndpoint(
      from16Bytes(bytes(FLOW_KEY.server)),
      view.getUint16(at + FLOW_KEY.server_port),
    ),
  };
}

/** The `struct flow_key` of a flow; undefined where an end is not `address:port`. */
export function flowKey({ client, server }: FlowEnds): Uint8Array<ArrayBuffer> | undefined {
  const key = new Uint8Array(FLOW_KEY.size);
  const view = new DataView(key.buffer);
  const write = (end: string, addressAt: number, portAt: number): boolean => {
    const [, bracketed, plain, port] = /^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$/.exec(end) ?? [];
    const address = bracketed ?? plain ?? "";
    const family = familyOf(address);
    if (family === undefined || (family === 6) !== (bracketed !== undefined)) return false;
    // A mapped address has another form, as IPv4.
    if (Number(port) > 0xffff || family === 6 && address.includes(".")) return false;
    key.set(to16Bytes(address), addressAt);
    view.setUint16(portAt, Number(port));
    return true;
  };
  const whole = write(client, FLOW_KEY.client, FLOW_KEY.client_port) &&
    write(server, FLOW_KEY.server, FLOW_KEY.server_port);
  return whole ? key : undefined;
}

/** A flow as the map holds it, without what is of no use outside the programs; windows as on the wire. */
export type Flow = Record<
  Exclude<
    keyof typeof FLOW,
    "local_mac" | "remote_mac" | "order" | "holes_used" | "holes" | "size"
  >,
  number
>;

const inner: readonly string[] = [
  "local_mac",
  "remote_mac",
  "order",
  "holes_used",
  "holes",
  "size",
];
const bytewise = new Set<string>([
  "client_wscale",
  "primary_wscale",
  "options",
  "synack_seen",
  "client_fin",
  "primary_fin",
  "replica_fin",
  "replica_reset",
  "unprotected",
]);
const halves = new Set<string>(["client_window", "replica_window", "mss"]);
const fields = Object.entries(FLOW).filter(([name]) => !inner.includes(name));

/** Reads a `struct flow`. */
export function readFlow(view: DataView, at: number): Flow {
  const flow: Record<string, number> = {};
  for (const [name, offset] of fields) {
    flow[name] = bytewise.has(name)
      ? view.getUint8(at + offset)
      : halves.has(name)
      ? view.getUint16(at + offset, true)
      : name.endsWith("_ns")
      ? Number(view.getBigUint64(at + offset, true))
      : view.getUint32(at + offset, true);
  }
  return flow as Flow;
}
