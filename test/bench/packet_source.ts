/**
 * Sends what clients and a service would say to each other out of an interface, at a steady rate: two segments with
 * payload, then the service's acknowledgement of both. For `record.ts` beside it, which starts it on a host of its own.
 *
 * @module
 */
import { interfaceIndex } from "../../ffi/tc.ts";
import { libc } from "../fixture/socket_sys.ts";

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOL_PACKET = 263;
const PACKET_VNET_HDR = 15;
const PACKET_QDISC_BYPASS = 20;
const VNET_HEADER = 10;
const HEADERS = 14 + 20 + 32;
/** Messages of one call, a multiple of three. */
const BATCH = 63;

/** What to send. */
export interface SourceTask {
  interface: string;
  /** Bytes of payload of each segment. */
  payload: number;
  /** Where it is set, segments are sent as one packet for offload to cut at this size. */
  mss?: number;
  flows: number;
  /** The client's port of the first flow; the others follow. */
  port: number;
  /** Packets in a second. */
  rate: number;
  packets: number;
  /** The first sequence number of every flow, so that several runs follow each other. */
  seq: number;
}

/** What was sent. */
export interface SourceResult {
  packets: number;
  seconds: number;
  /** Behind the last sequence number of a flow, at the most. */
  seq: number;
}

/** A frame of the service or for it, with room for a virtio header in front. */
function makeFrame(task: SourceTask, fromClient: boolean): DataView {
  const payload = fromClient ? task.payload : 0;
  const view = new DataView(new ArrayBuffer(VNET_HEADER + HEADERS + payload));
  const bytes = new Uint8Array(view.buffer);
  if (payload > 0) crypto.getRandomValues(bytes.subarray(VNET_HEADER + HEADERS).subarray(0, 65536));
  if (task.mss !== undefined && fromClient) {
    // struct virtio_net_hdr: the checksum is left to the device, and the segmentation, too.
    view.setUint8(0, 1);
    view.setUint8(1, 1);
    view.setUint16(2, HEADERS, true);
    view.setUint16(4, task.mss, true);
    view.setUint16(6, 34, true);
    view.setUint16(8, 16, true);
  }
  const [client, server] = [[10, 77, 1, 2], [10, 77, 0, 100]];
  const ip = VNET_HEADER + 14;
  bytes.set([2, 0x77, 0, 0, 0, 0xfe, 2, 0x77, 0, 0, 0, 0xfd, 8, 0], VNET_HEADER);
  bytes.set([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6], ip);
  view.setUint16(ip + 2, 20 + 32 + payload);
  bytes.set(fromClient ? client : server, ip + 12);
  bytes.set(fromClient ? server : client, ip + 16);
  bytes.set([0x80, 0x10, 0xff, 0xff], ip + 32);
  bytes.set([1, 1, 8, 10], ip + 40);
  return view;
}

/** Sends it all, and says how long it took. */
function send(task: SourceTask): SourceResult {
  const lib = libc();
  const fd = lib.socket(AF_PACKET, SOCK_RAW, 0);
  const on = new Uint8Array(Int32Array.of(1).buffer);
  lib.setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, on, 4);
  const vnet = task.mss !== undefined;
  if (vnet) lib.setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, on, 4);
  const address = new DataView(new ArrayBuffer(20));
  address.setUint16(0, AF_PACKET, true);
  address.setInt32(4, interfaceIndex(task.interface), true);
  if (lib.bind(fd, new Uint8Array(address.buffer), 20) !== 0) throw new Error("Cannot bind");

  const frames = Array.from({ length: BATCH }, (_, i) => makeFrame(task, i % 3 !== 2));
  const messages = new DataView(new ArrayBuffer(BATCH * 64));
  const vectors = new DataView(new ArrayBuffer(BATCH * 16));
  const addressOf = (view: DataView): bigint =>
    BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(new Uint8Array(view.buffer))));
  frames.forEach((frame, i) => {
    const skip = vnet ? 0 : VNET_HEADER;
    vectors.setBigUint64(i * 16, addressOf(frame) + BigInt(skip), true);
    vectors.setBigUint64(i * 16 + 8, BigInt(frame.byteLength - skip), true);
    messages.setBigUint64(i * 64 + 16, addressOf(vectors) + BigInt(i * 16), true);
    messages.setBigUint64(i * 64 + 24, 1n, true);
  });
  const vector = new Uint8Array(messages.buffer);
  const next = new Float64Array(task.flows).fill(task.seq);
  const tcp = VNET_HEADER + 34;
  let [flow, sent] = [0, 0];
  const start = performance.now();
  while (sent < task.packets) {
    for (let i = 0; i < BATCH; i += 3) {
      const port = task.port + flow;
      for (const frame of [frames[i]!, frames[i + 1]!]) {
        frame.setUint16(tcp, port);
        frame.setUint16(tcp + 2, 80);
        frame.setUint32(tcp + 4, next[flow]! % 2 ** 32);
        next[flow]! += task.payload;
      }
      const reply = frames[i + 2]!;
      reply.setUint16(tcp, 80);
      reply.setUint16(tcp + 2, port);
      reply.setUint32(tcp + 8, next[flow]! % 2 ** 32);
      flow = (flow + 1) % task.flows;
    }
    for (let done = 0; done < BATCH;) {
      const count = lib.sendmmsg(fd, vector.subarray(done * 64), BATCH - done, 0);
      if (count <= 0) throw new Error("Cannot send");
      done += count;
    }
    sent += BATCH;
    const ahead = sent / task.rate * 1000 - (performance.now() - start);
    if (ahead > 0.5) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ahead - 0.2);
  }
  const seconds = (performance.now() - start) / 1000;
  lib.close(fd);
  return { packets: sent, seconds, seq: Math.max(...next) };
}

if (import.meta.main) console.log(JSON.stringify(send(JSON.parse(Deno.args[0]!))));
