/**
 * Raw symbols of libbpf 1.1 and newer; `bpf_object.ts`, `bpf_map.ts` and `tc.ts` make safe calls of them.
 *
 * @module
 */
import { openLibrary } from "./library.ts";

/** The C prototypes that t2cp calls, a parameter a line. */
const symbols = {
  libbpf_set_print: {
    parameters: ["pointer"], // libbpf_print_fn_t fn
    result: "pointer",
  },
  libbpf_num_possible_cpus: {
    parameters: [],
    result: "i32",
  },
  bpf_object__open_file: {
    parameters: [
      "buffer", // const char *path
      "buffer", // const struct bpf_object_open_opts *opts
    ],
    result: "pointer",
  },
  bpf_object__load: {
    parameters: ["pointer"], // struct bpf_object *obj
    result: "i32",
  },
  bpf_object__close: {
    parameters: ["pointer"], // struct bpf_object *obj
    result: "void",
  },
  bpf_object__next_program: {
    parameters: [
      "pointer", // const struct bpf_object *obj
      "pointer", // struct bpf_program *prog
    ],
    result: "pointer",
  },
  bpf_object__next_map: {
    parameters: [
      "pointer", // const struct bpf_object *obj
      "pointer", // const struct bpf_map *map
    ],
    result: "pointer",
  },
  bpf_program__name: {
    parameters: ["pointer"], // const struct bpf_program *prog
    result: "pointer",
  },
  bpf_program__fd: {
    parameters: ["pointer"], // const struct bpf_program *prog
    result: "i32",
  },
  bpf_map__name: {
    parameters: ["pointer"], // const struct bpf_map *map
    result: "pointer",
  },
  bpf_map__fd: {
    parameters: ["pointer"], // const struct bpf_map *map
    result: "i32",
  },
  bpf_obj_pin: {
    parameters: [
      "i32", // int fd
      "buffer", // const char *pathname
    ],
    result: "i32",
  },
  bpf_obj_get: {
    parameters: ["buffer"], // const char *pathname
    result: "i32",
  },
  bpf_prog_get_fd_by_id: {
    parameters: ["u32"], // __u32 id
    result: "i32",
  },
  bpf_map_get_fd_by_id: {
    parameters: ["u32"], // __u32 id
    result: "i32",
  },
  bpf_obj_get_info_by_fd: {
    parameters: [
      "i32", // int bpf_fd
      "buffer", // void *info
      "buffer", // __u32 *info_len
    ],
    result: "i32",
  },
  bpf_map_lookup_elem: {
    parameters: [
      "i32", // int fd
      "buffer", // const void *key
      "buffer", // void *value
    ],
    result: "i32",
  },
  bpf_map_update_elem: {
    parameters: [
      "i32", // int fd
      "buffer", // const void *key
      "buffer", // const void *value
      "u64", // __u64 flags
    ],
    result: "i32",
  },
  bpf_map_delete_elem: {
    parameters: [
      "i32", // int fd
      "buffer", // const void *key
    ],
    result: "i32",
  },
  bpf_map_lookup_batch: {
    parameters: [
      "i32", // int fd
      "buffer", // void *in_batch
      "buffer", // void *out_batch
      "buffer", // void *keys
      "buffer", // void *values
      "buffer", // __u32 *count
      "pointer", // const struct bpf_map_batch_opts *opts
    ],
    result: "i32",
  },
  bpf_prog_test_run_opts: {
    parameters: [
      "i32", // int prog_fd
      "buffer", // struct bpf_test_run_opts *opts
    ],
    result: "i32",
  },
  bpf_prog_attach: {
    parameters: [
      "i32", // int prog_fd
      "i32", // int attachable_fd, an interface's index for tcx
      "i32", // enum bpf_attach_type type
      "u32", // unsigned int flags
    ],
    result: "i32",
  },
  bpf_prog_detach2: {
    parameters: [
      "i32", // int prog_fd
      "i32", // int attachable_fd
      "i32", // enum bpf_attach_type type
    ],
    result: "i32",
  },
  bpf_prog_query: {
    parameters: [
      "i32", // int target_fd
      "i32", // enum bpf_attach_type type
      "u32", // __u32 query_flags
      "pointer", // __u32 *attach_flags
      "buffer", // __u32 *prog_ids
      "buffer", // __u32 *prog_cnt
    ],
    result: "i32",
  },
  bpf_link_create: {
    parameters: [
      "i32", // int prog_fd
      "i32", // int target_fd
      "i32", // enum bpf_attach_type attach_type
      "pointer", // const struct bpf_link_create_opts *opts
    ],
    result: "i32",
  },
  bpf_iter_create: {
    parameters: ["i32"], // int link_fd
    result: "i32",
  },
  bpf_tc_hook_create: {
    parameters: ["buffer"], // struct bpf_tc_hook *hook
    result: "i32",
  },
  bpf_tc_hook_destroy: {
    parameters: ["buffer"], // struct bpf_tc_hook *hook
    result: "i32",
  },
  bpf_tc_attach: {
    parameters: [
      "buffer", // const struct bpf_tc_hook *hook
      "buffer", // struct bpf_tc_opts *opts
    ],
    result: "i32",
  },
  bpf_tc_detach: {
    parameters: [
      "buffer", // const struct bpf_tc_hook *hook
      "buffer", // const struct bpf_tc_opts *opts
    ],
    result: "i32",
  },
  bpf_tc_query: {
    parameters: [
      "buffer", // const struct bpf_tc_hook *hook
      "buffer", // struct bpf_tc_opts *opts
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;

type Symbols = Deno.DynamicLibrary<typeof symbols>["symbols"];

let library: Symbols | undefined;

/**
 * libbpf's symbols, opened at the first call, with its own messages to stderr off.
 *
 * @throws {MissingLibrary} where it is not installed
 *
 * @ignore
 */
export function libbpf(): Symbols {
  if (library === undefined) {
    library = openLibrary("libbpf.so.1", "libbpf1", symbols).symbols;
    library.libbpf_set_print(null);
  }
  return library;
}
