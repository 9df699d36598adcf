/**
 * Classic BPF programs, as libpcap compiles and the kernel runs them: `struct sock_fprog` and `struct sock_filter`.
 *
 * @module
 */

/** Opcodes of `linux/bpf_common.h`. */
const LD_IMM = 0x00;
const JA = 0x05;
const RET_K = 0x06;
const RET_A = 0x16;

/** Offsets of the fields of an instruction in its 64 bits: code 16, jt 8, jf 8, k 32. */
const K = 32n;

/** A program and how much is to be kept of the frames that it takes. */
export interface ProgramPart {
  /** Its instructions. */
  code: BigUint64Array<ArrayBuffer>;
  /** Bytes kept. */
  snaplen: number;
}

/** Copies the instructions of a `struct bpf_program`, 16 bytes. */
export function readProgram(program: Uint8Array<ArrayBuffer>): BigUint64Array<ArrayBuffer> {
  const view = new DataView(program.buffer, program.byteOffset);
  const pointer = Deno.UnsafePointer.create(view.getBigUint64(8, true));
  const code = new BigUint64Array(view.getUint32(0, true));
  if (pointer !== null) new Deno.UnsafePointerView(pointer).copyInto(new Uint8Array(code.buffer));
  return code;
}

/** A `struct sock_fprog` of `code`, with the instructions behind it in the same memory. */
export function writeProgram(code: BigUint64Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(16 + code.byteLength);
  const view = new DataView(bytes.buffer);
  const address = BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)));
  view.setUint16(0, code.length, true);
  view.setBigUint64(8, address + 16n, true);
  bytes.set(new Uint8Array(code.buffer), 16);
  return bytes;
}

/**
 * One program that tries `parts` in turn. A frame is taken by the first part that takes it, and the accumulator says
 * how much is kept; the last part's refusal is the program's.
 */
export function joinPrograms(parts: readonly ProgramPart[]): BigUint64Array<ArrayBuffer> {
  const total = parts.reduce((sum, { code }) => sum + code.length, 0);
  const joined = new BigUint64Array(total + 2 * parts.length);
  let start = 0;
  parts.forEach(({ code, snaplen }, index) => {
    const next = start + code.length;
    const accept = total + 2 * index;
    code.forEach((instruction, i) => {
      const at = start + i;
      const isReturn = (instruction & 0xffffn) === BigInt(RET_K);
      const target = instruction >> K !== 0n ? accept : index + 1 < parts.length ? next : undefined;
      joined[at] = isReturn && target !== undefined
        ? BigInt(JA) | BigInt(target - at - 1) << K
        : instruction;
    });
    joined[accept] = BigInt(LD_IMM) | BigInt(snaplen) << K;
    joined[accept + 1] = BigInt(RET_A);
    start = next;
  });
  return joined;
}
