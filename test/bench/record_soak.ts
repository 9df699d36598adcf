/**
 * The recorder's memory during many short connections: prints its resident memory against the budget, every half minute
 * and at its most, and the ledger. Needs root.
 *
 *     deno task bench:record-soak [SECONDS [RATE]]
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { Injector } from "../../ffi/libpcap.ts";
import { Bit, Ether, ethernet, ipPacket, Next, type Tcp, tcpSegment } from "../fixture/segment.ts";
import { askRecorder } from "../netns/record_socket.ts";

const BUDGET_MIB = 256;
/** Between two lines on the resident memory, in milliseconds. */
const REPORT = 30_000;
const SERVER = "10.77.0.100";
const payload = Array.from({ length: 1000 }, (_, i) => i & 255);

/** Where a frame of Ethernet, IPv4 and TCP without options has its fields. */
const AT = { source: 26, destination: 30, sourcePort: 34, destinationPort: 36, seq: 38, ack: 42 };

/** Sends `rate` connections in a second for `seconds`, out of `out0`; prints how many it sent. */
async function send(seconds: number, rate: number): Promise<void> {
  using injector = new Injector("out0");
  // Each segment is built once, and sent with other numbers in it: its checksums are nobody's affair here.
  const template = (tcp: Partial<Tcp>): DataView<ArrayBuffer> => {
    const ends = { source: SERVER, destination: SERVER };
    const body = tcpSegment(SERVER, SERVER, { sourcePort: 0, destinationPort: 0, ...tcp });
    return new DataView(
      ethernet(Ether.IPV4, ipPacket({ ...ends, protocol: Next.TCP }, body)).buffer,
    );
  };
  const plain = template({ flags: Bit.ACK });
  const data = template({ flags: Bit.ACK, payload });
  const syn = template({ flags: Bit.SYN });
  const synAck = template({ flags: Bit.SYN | Bit.ACK });
  const fin = template({ flags: Bit.FIN | Bit.ACK });
  const service = plain.getUint32(AT.source);
  const connect = (number: number): void => {
    const address = 10 << 24 | 1 + (number >> 16 & 63) << 16 | number & 0xffff;
    const port = 1024 + number % 60_000;
    const seq = Math.imul(number, 0x9e3779b1);
    const inject = (frame: DataView<ArrayBuffer>, seq: number, ack: number): void => {
      frame.setUint32(AT.seq, seq);
      frame.setUint32(AT.ack, ack);
      injector.send(new Uint8Array(frame.buffer));
    };
    const client = (frame: DataView<ArrayBuffer>, seq: number, ack: number): void => {
      frame.setUint32(AT.source, address);
      frame.setUint32(AT.destination, service);
      frame.setUint16(AT.sourcePort, port);
      frame.setUint16(AT.destinationPort, 80);
      inject(frame, seq, ack);
    };
    const server = (frame: DataView<ArrayBuffer>, seq: number, ack: number): void => {
      frame.setUint32(AT.source, service);
      frame.setUint32(AT.destination, address);
      frame.setUint16(AT.sourcePort, 80);
      frame.setUint16(AT.destinationPort, port);
      inject(frame, seq, ack);
    };
    const end = seq + 1 + payload.length;
    client(syn, seq, 0);
    server(synAck, 100, seq + 1);
    client(data, seq + 1, 101);
    server(plain, 101, end);
    client(fin, end, 101);
    server(fin, 101, end + 1);
    client(plain, end + 1, 102);
  };
  const start = performance.now();
  let sent = 0;
  while (true) {
    const elapsed = (performance.now() - start) / 1000;
    const due = Math.min(elapsed, seconds) * rate;
    // A late turn must not become a flood.
    for (let burst = 0; sent < due && burst < 200; burst++) connect(sent++);
    if (elapsed >= seconds) break;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  console.log(JSON.stringify({ sent, seconds: (performance.now() - start) / 1000 }));
}

async function soak(seconds: number, rate: number): Promise<void> {
  const name = `t2cp-soak-${Deno.pid}`;
  const ip = async (...args: string[]): Promise<void> => {
    const { success, stderr } = await new Deno.Command("ip", { args }).output();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
  };
  const start = (...argv: string[]): Deno.ChildProcess =>
    new Deno.Command("ip", {
      args: ["netns", "exec", name, Deno.execPath(), "run", "-A", "--quiet", ...argv],
      stdout: "piped",
    }).spawn();
  const directory = await Deno.makeTempDir({ prefix: "t2cp-bench-" });
  await ip("netns", "add", name);
  try {
    await ip("-n", name, "link", "add", "out0", "type", "veth", "peer", "name", "in0");
    for (const end of ["out0", "in0"]) await ip("-n", name, "link", "set", end, "up");
    const main = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
    const recorder = start(
      ...[main, "record", "--interface", "in0", "--service", `${SERVER}:80`],
      ...["--run-dir", directory, "--budget", `${BUDGET_MIB}M`],
    );
    const reader = recorder.stdout.getReader();
    await reader.read();
    (async () => {
      while (!(await reader.read()).done);
    })();
    let most = 0;
    const began = performance.now();
    let next = REPORT;
    const sample = setInterval(() => {
      const status = Deno.readTextFileSync(`/proc/${recorder.pid}/status`);
      const mebibytes = (field: string): number =>
        Number(new RegExp(`${field}:\\s*(\\d+)`).exec(status)![1]) / 1024;
      most = Math.max(most, mebibytes("VmHWM"));
      const elapsed = performance.now() - began;
      if (elapsed < next) return;
      next += REPORT;
      console.log(`after ${(elapsed / 1000).toFixed(0)} s: ${mebibytes("VmRSS").toFixed(0)} MiB`);
    }, 500);
    const source = start(fileURLToPath(import.meta.url), String(seconds), String(rate), "send");
    const { stdout } = await source.output();
    clearInterval(sample);
    const { sent, seconds: took } = JSON.parse(new TextDecoder().decode(stdout));
    const [answer] = await askRecorder(directory, { request: "stats" });
    const stats = answer!["stats"] as Record<string, number>;
    recorder.kill("SIGTERM");
    await recorder.status;
    console.log(
      `${(sent / took).toFixed(0)} connections/s for ${took.toFixed(0)} s: resident memory ${
        most.toFixed(0)
      } MiB at most, ${(most - BUDGET_MIB).toFixed(0)} more than the budget`,
    );
    console.log(JSON.stringify(stats));
    const sound = stats["flows_opened"] === sent && stats["seen"] === sent * payload.length;
    if (!sound) console.log(`${stats["kernel_dropped"]} frames were lost`);
  } finally {
    await ip("netns", "del", name).catch(() => {});
    await Deno.remove(directory, { recursive: true });
  }
}

const seconds = Number(Deno.args[0] ?? 600);
const rate = Number(Deno.args[1] ?? 1000);
await (Deno.args[2] === "send" ? send : soak)(seconds, rate);
