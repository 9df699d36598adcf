/**
 * A client's TCP connection whose bytes the test sends and takes one by one, so that nothing moves
 * before the test wants it.
 *
 * @module
 */
import { PATIENCE, within } from "../fixture/wait.ts";

/** A connection, carried by a socat in the client's namespace. */
export class Connection {
  /** The client's port. */
  readonly port: number;
  readonly #child: Deno.ChildProcess;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  #chunks: Uint8Array[] = [];
  #held = 0;

  /** `child` copies between its standard streams and a socket. */
  constructor(child: Deno.ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
    this.#reader = child.stdout.getReader();
    this.#writer = child.stdin.getWriter();
  }

  /** Sends text or bytes. */
  async write(data: string | Uint8Array<ArrayBuffer>): Promise<void> {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    await within(PATIENCE, this.#writer.write(bytes), "room to write");
  }

  /**
   * Takes `count` bytes; fewer only once the connection has ended. That the server has ended its
   * sending alone does not end it: socat waits for the other direction.
   */
  async read(count: number): Promise<Uint8Array> {
    while (this.#held < count) {
      const { value, done } = await within(PATIENCE, this.#reader.read(), "bytes to read");
      if (done) break;
      this.#chunks.push(value);
      this.#held += value.length;
    }
    return this.#take(Math.min(count, this.#held));
  }

  /** Takes bytes up to and with `mark`, as text. */
  async readTo(mark: string): Promise<string> {
    let text = "";
    while (!text.endsWith(mark)) {
      const byte = await this.read(1);
      if (byte.length === 0) throw new Error(`The server ended after "${text}"`);
      text += String.fromCharCode(byte[0]!);
    }
    return text;
  }

  /**
   * Ends the sending and takes what the server still sends up to its end; fails where the
   * connection did not end in order.
   */
  async end(): Promise<Uint8Array> {
    await this.finish();
    const rest = await this.read(Infinity);
    const code = await this.over();
    if (code !== 0) throw new Error(`The client ended with status ${code}`);
    return rest;
  }

  /** Sends `text` as a line, and takes the line that comes back. */
  async echo(text: string): Promise<string> {
    await this.write(`${text}\n`);
    return (await this.readTo("\n")).trimEnd();
  }

  /** Ends the sending: a FIN. */
  async finish(): Promise<void> {
    await this.#writer.close();
  }

  /** Resolves when the connection is over on the client's side, with socat's exit status. */
  async over(): Promise<number> {
    return (await within(PATIENCE, this.#child.status, "the end of the client")).code;
  }

  /** Ends the client at once. Its kernel closes the connection: a FIN, or a RST with linger 0. */
  async kill(): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.#child.status;
    await this.#reader.cancel().catch(() => {});
    await this.#writer.abort().catch(() => {});
  }

  #take(count: number): Uint8Array {
    const bytes = new Uint8Array(count);
    let at = 0;
    while (at < count) {
      const chunk = this.#chunks[0]!;
      const part = chunk.subarray(0, count - at);
      bytes.set(part, at);
      at += part.length;
      if (part.length === chunk.length) this.#chunks.shift();
      else this.#chunks[0] = chunk.subarray(part.length);
    }
    this.#held -= count;
    return bytes;
  }
}
