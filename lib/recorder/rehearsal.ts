/**
 * Serving a made-up flow before there are real ones: code that runs for the first time takes many times as long, and a
 * replica waits for its bytes.
 *
 * @module
 */
import { parseService } from "../address.ts";
import { type Connection, serveConnection } from "../control.ts";
import { LinkType } from "../packet/link.ts";
import { BLOCK } from "./block_store.ts";
import { Recorder } from "./recorder.ts";
import { requestHandlers } from "./requests.ts";

/** How many requests; enough for V8 to compile the code. */
const REQUESTS = 200;
/** Bytes of the frames, and of a request: two frames, so that its answer takes two lines. */
const FRAME = 30_000;
const RANGE = 2 * FRAME;
/** IPv4's and TCP's headers. */
const HEADERS = 40;
const BUDGET = 1 << 20;

/** Records a made-up flow and serves it. Nothing leaves this process. */
export async function rehearseRequests(): Promise<void> {
  const ends = { client: "192.0.2.1:1", server: "192.0.2.2:1" };
  const nothing = (): void => {};
  const recorder = new Recorder({
    services: [parseService(ends.server)],
    budget: BUDGET,
    window: BUDGET - BLOCK,
    link: LinkType.RAW,
    reserve: (bytes) => new ArrayBuffer(bytes),
    seed: 0,
  }, { opened: nothing, closed: nothing, dropped: nothing, diverged: nothing });
  const frame = new DataView(new ArrayBuffer(HEADERS + FRAME));
  frame.setUint8(0, 0x45);
  frame.setUint16(2, frame.byteLength);
  frame.setUint8(9, 6); // TCP
  frame.setUint32(12, 0xc0000201); // 192.0.2.1
  frame.setUint32(16, 0xc0000202);
  frame.setUint16(20, 1);
  frame.setUint16(22, 1);
  frame.setUint8(32, 0x50); // a header of 20 bytes
  frame.setUint8(33, 0x10); // ACK
  const requests = function* (): Generator<object> {
    for (let i = 0, from = 0; i < REQUESTS; i++, from += RANGE) {
      for (const seq of [from, from + FRAME]) {
        frame.setUint32(24, seq);
        recorder.take(frame, 0, frame.byteLength, frame.byteLength);
      }
      yield { request: "fetch", ...ends, from, to: from + RANGE, raw: true };
      yield { request: "ack", flows: [{ ...ends, upto: from + RANGE }] };
    }
  };
  const handlers = requestHandlers(recorder, nothing, () => ({}));
  await serveConnection(new MadeUpClient(requests()), handlers, { requests: 0, refused: 0 });
}

/** A client that makes `requests`, one behind the other, and ends. */
class MadeUpClient implements Connection {
  readonly #requests: Iterator<object>;

  constructor(requests: Iterator<object>) {
    this.#requests = requests;
  }

  read(target: Uint8Array): Promise<number | null> {
    const { value, done } = this.#requests.next();
    if (done === true) return Promise.resolve(null);
    const { written } = new TextEncoder().encodeInto(JSON.stringify(value) + "\n", target);
    return Promise.resolve(written);
  }

  write(bytes: Uint8Array): Promise<number> {
    return Promise.resolve(bytes.length);
  }

  close(): void {}
}
