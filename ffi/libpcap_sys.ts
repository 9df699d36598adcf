/**
 * Raw symbols of libpcap 1.10; `libpcap.ts` makes safe calls of them.
 *
 * @module
 */
import { openLibrary } from "./library.ts";

/** The C prototypes that t2cp calls, a parameter a line. */
const symbols = {
  pcap_open_dead: {
    parameters: [
      "i32", // int linktype
      "i32", // int snaplen
    ],
    result: "pointer",
  },
  pcap_create: {
    parameters: [
      "buffer", // const char *source
      "buffer", // char *errbuf
    ],
    result: "pointer",
  },
  pcap_set_snaplen: {
    parameters: [
      "pointer", // pcap_t *p
      "i32", // int snaplen
    ],
    result: "i32",
  },
  pcap_set_buffer_size: {
    parameters: [
      "pointer", // pcap_t *p
      "i32", // int buffer_size
    ],
    result: "i32",
  },
  pcap_set_protocol_linux: {
    parameters: [
      "pointer", // pcap_t *p
      "i32", // int protocol
    ],
    result: "i32",
  },
  pcap_activate: {
    parameters: ["pointer"], // pcap_t *p
    result: "i32",
  },
  pcap_geterr: {
    parameters: ["pointer"], // pcap_t *p
    result: "pointer",
  },
  pcap_statustostr: {
    parameters: ["i32"], // int error
    result: "pointer",
  },
  pcap_fileno: {
    parameters: ["pointer"], // pcap_t *p
    result: "i32",
  },
  pcap_sendpacket: {
    parameters: [
      "pointer", // pcap_t *p
      "buffer", // const u_char *buf
      "i32", // int size
    ],
    result: "i32",
  },
  pcap_compile: {
    parameters: [
      "pointer", // pcap_t *p
      "buffer", // struct bpf_program *fp
      "buffer", // const char *str
      "i32", // int optimize
      "u32", // bpf_u_int32 netmask
    ],
    result: "i32",
  },
  pcap_freecode: {
    parameters: ["buffer"], // struct bpf_program *fp
    result: "void",
  },
  pcap_datalink: {
    parameters: ["pointer"], // pcap_t *p
    result: "i32",
  },
  pcap_offline_filter: {
    parameters: [
      "buffer", // const struct bpf_program *fp
      "buffer", // const struct pcap_pkthdr *h
      "buffer", // const u_char *pkt
    ],
    result: "i32",
  },
  pcap_close: {
    parameters: ["pointer"], // pcap_t *p
    result: "void",
  },
} as const satisfies Deno.ForeignLibraryInterface;

type Symbols = Deno.DynamicLibrary<typeof symbols>["symbols"];

let library: Symbols | undefined;

/**
 * libpcap's symbols, opened at the first call.
 *
 * @throws {MissingLibrary} where it is not installed
 *
 * @ignore
 */
export function libpcap(): Symbols {
  library ??= openLibrary("libpcap.so.0.8", "libpcap0.8", symbols).symbols;
  return library;
}
