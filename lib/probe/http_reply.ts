/**
 * Reads the reply to one HTTP request as it comes, and no more of it than a bound: RFC 9112.
 *
 * @module
 */

/** The longest status line and header section, in bytes. */
export const MAX_HEAD: number = 16 * 1024;

/** How much of a body is looked at, in bytes. */
export const MAX_BODY: number = 64 * 1024;

/** The longest line before a chunk, in bytes. */
const MAX_CHUNK_LINE = 256;

const LF = 0x0a;
const latin1 = new TextDecoder("latin1");

/** What the bytes of a body are cut by. */
type Framing = "none" | "length" | "chunked" | "close";

/** A reply is no HTTP, or longer than it may be. The message is for a person. */
export class BadReply extends Error {}

/** One reply. {@linkcode HttpReply.push} what comes until it is complete. */
export class HttpReply {
  /** The status code, 0 before it is known. */
  status = 0;
  /** Whether all that is wanted of the reply has come. */
  complete = false;
  readonly #body = new Uint8Array(MAX_BODY);
  #bodyLength = 0;
  /** What has come of a head or of the line before a chunk. */
  #text = "";
  #framing: Framing | undefined;
  /** Of the body or the chunk. */
  #remaining = 0;
  #inChunk = false;

  /** The body as far as it is looked at. */
  get body(): Uint8Array {
    return this.#body.subarray(0, this.#bodyLength);
  }

  /**
   * Takes what has come.
   *
   * @throws {BadReply}
   */
  push(bytes: Uint8Array): void {
    let rest = bytes;
    while (rest.length > 0 && !this.complete) {
      if (this.#framing === undefined) rest = this.#takeHead(rest);
      else if (this.#framing === "chunked" && !this.#inChunk) rest = this.#takeChunkLine(rest);
      else rest = this.#takeBody(rest);
    }
  }

  /**
   * Says that nothing more comes.
   *
   * @throws {BadReply} where something is missing
   */
  end(): void {
    if (this.#framing === "close") this.complete = true;
    if (!this.complete) throw new BadReply("The connection ended before the reply did");
  }

  #takeHead(bytes: Uint8Array): Uint8Array {
    const had = this.#text.length;
    // As much as a head may have, so that its end is found in it or there is none.
    this.#text += latin1.decode(bytes.subarray(0, MAX_HEAD + 1 - had));
    const end = /\r?\n\r?\n/.exec(this.#text);
    if (end === null) {
      if (this.#text.length > MAX_HEAD) throw new BadReply(`Its head is longer than ${MAX_HEAD}`);
      if (!"HTTP/1.".startsWith(this.#text.slice(0, 7))) throw new BadReply("It is no HTTP");
      return bytes.subarray(bytes.length);
    }
    const used = end.index + end[0].length - had;
    const head = this.#text.slice(0, end.index);
    this.#text = "";
    this.#readHead(head);
    return bytes.subarray(used);
  }

  #readHead(head: string): void {
    const [first = "", ...lines] = head.split(/\r?\n/);
    const [, status] = /^HTTP\/1\.[0-9] ([1-5][0-9]{2})(?: |$)/.exec(first) ?? [];
    if (status === undefined) throw new BadReply("It is no HTTP");
    this.status = Number(status);
    // An interim response comes before the one that is meant.
    if (this.status < 200) return;
    const field = (name: string): string | undefined =>
      lines.find((line) => line.slice(0, name.length + 1).toLowerCase() === `${name}:`)
        ?.slice(name.length + 1).trim().toLowerCase();
    const length = field("content-length");
    if (this.status === 204 || this.status === 304) this.#framing = "none";
    else if (field("transfer-encoding")?.endsWith("chunked")) this.#framing = "chunked";
    else if (length === undefined) this.#framing = "close";
    else {
      if (!/^[0-9]{1,15}$/.test(length)) throw new BadReply("Its Content-Length is no number");
      this.#framing = "length";
      this.#remaining = Number(length);
    }
    if (this.#framing === "none" || length === "0" && this.#framing === "length") {
      this.complete = true;
    }
  }

  #takeChunkLine(bytes: Uint8Array): Uint8Array {
    const end = bytes.indexOf(LF);
    this.#text += latin1.decode(bytes.subarray(0, end < 0 ? MAX_CHUNK_LINE + 1 : end));
    if (this.#text.length > MAX_CHUNK_LINE) throw new BadReply("Its chunks are no HTTP");
    if (end < 0) return bytes.subarray(bytes.length);
    const line = this.#text.replace(/\r$/, "");
    this.#text = "";
    // The end of the chunk before.
    if (line !== "") {
      const [, size] = /^([0-9a-f]{1,12})[ \t]*(?:;|$)/i.exec(line) ?? [];
      if (size === undefined) throw new BadReply("Its chunks are no HTTP");
      this.#remaining = parseInt(size, 16);
      this.#inChunk = this.#remaining > 0;
      // What may follow are trailers.
      if (!this.#inChunk) this.complete = true;
    }
    return bytes.subarray(end + 1);
  }

  #takeBody(bytes: Uint8Array): Uint8Array {
    const bounded = this.#framing !== "close";
    const length = bounded ? Math.min(bytes.length, this.#remaining) : bytes.length;
    const wanted = Math.min(length, MAX_BODY - this.#bodyLength);
    this.#body.set(bytes.subarray(0, wanted), this.#bodyLength);
    this.#bodyLength += wanted;
    if (bounded) this.#remaining -= length;
    if (this.#bodyLength === MAX_BODY) this.complete = true;
    else if (bounded && this.#remaining === 0) {
      if (this.#framing === "length") this.complete = true;
      else this.#inChunk = false;
    }
    return bytes.subarray(length);
  }
}
