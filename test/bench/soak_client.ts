/**
 * The client of the soak: opens short HTTP connections at a steady pace, alternating between addresses and between
 * the ways a connection ends, and prints its counts once a second.
 *
 * @module
 */

/** What the client is told, as JSON in its only argument. */
export interface SoakTask {
  /** The service's addresses, in turn. */
  addresses: string[];
  /** The service's port. */
  port: number;
  /** Connections a second. */
  rate: number;
  /** How long, in seconds. */
  seconds: number;
  /** Bytes of the document. */
  size: number;
}

/** What the client has done so far. */
export interface SoakCounts {
  /** Connections begun. */
  begun: number;
  /** Connections whose answer was whole. */
  whole: number;
  /** Connections that the client reset, as it meant to. */
  reset: number;
  /** Connections that failed. */
  failed: number;
  /** Connections that were not begun, since too many were open. */
  skipped: number;
  /** The first failure. */
  problem?: string;
}

/** Connections open at once: more than that, and the machine cannot keep up with the rate. */
const AT_ONCE = 200;
/** One of so many connections is reset by the client. */
const RESETS = 20;

const counts: SoakCounts = { begun: 0, whole: 0, reset: 0, failed: 0, skipped: 0 };
const encoder = new TextEncoder();
const requests = ["close", "keep-alive"].map((connection) =>
  encoder.encode(`GET /content HTTP/1.1\r\nHost: x\r\nConnection: ${connection}\r\n\r\n`)
);
let open = 0;

/** Position behind the head of `bytes`, or -1 where it is not there yet. */
function endOfHead(bytes: Uint8Array): number {
  for (let at = 3; at < bytes.length; at++) {
    if (bytes[at] === 10 && bytes[at - 1] === 13 && bytes[at - 2] === 10) return at + 1;
  }
  return -1;
}

async function talk(task: SoakTask, index: number): Promise<void> {
  const hostname = task.addresses[index % task.addresses.length]!;
  const turn = Math.floor(index / task.addresses.length);
  using conn = await Deno.connect({ hostname, port: task.port });
  await conn.write(requests[turn % 2]!);
  if (turn % RESETS === 0) {
    // What is not read when it closes makes the kernel send a reset.
    await conn.read(new Uint8Array(1));
    counts.reset++;
    return;
  }
  const bytes = new Uint8Array(task.size + 1024);
  let length = 0, end = Infinity;
  while (length < end) {
    const got = await conn.read(bytes.subarray(length));
    if (got === null) throw new Error(`The connection ended after ${length} bytes`);
    length += got;
    const head = endOfHead(bytes.subarray(0, length));
    if (head >= 0) end = head + task.size;
  }
  // Either the server closes first, or the client does.
  if (turn % 2 === 0 && await conn.read(new Uint8Array(1)) !== null) {
    throw new Error("There is more than the document");
  }
  counts.whole++;
}

async function run(task: SoakTask): Promise<void> {
  const start = performance.now();
  const all = task.rate * task.seconds;
  const tell = setInterval(() => console.log(JSON.stringify(counts)), 1000);
  for (let index = 0; index < all;) {
    const due = Math.min(all, Math.floor((performance.now() - start) * task.rate / 1000));
    for (; index < due; index++) {
      if (open >= AT_ONCE) {
        counts.skipped++;
        continue;
      }
      open++;
      counts.begun++;
      talk(task, index).catch((error) => {
        counts.failed++;
        counts.problem ??= String(error);
      }).finally(() => open--);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  while (open > 0) await new Promise((resolve) => setTimeout(resolve, 20));
  clearInterval(tell);
  console.log(JSON.stringify(counts));
}

if (import.meta.main) await run(JSON.parse(Deno.args[0]!));
