/**
 * Raw symbols of the C library; the modules beside it make safe calls of them.
 *
 * @module
 */

/** The C prototypes that t2cp calls, a parameter a line. */
export const prototypes = {
  __errno_location: {
    parameters: [],
    result: "pointer", // int *__errno_location(void)
  },
  socket: {
    parameters: [
      "i32", // int domain
      "i32", // int type
      "i32", // int protocol
    ],
    result: "i32",
  },
  bind: {
    parameters: [
      "i32", // int sockfd
      "buffer", // const struct sockaddr *addr
      "u32", // socklen_t addrlen
    ],
    result: "i32",
  },
  connect: {
    parameters: [
      "i32", // int sockfd
      "buffer", // const struct sockaddr *addr
      "u32", // socklen_t addrlen
    ],
    result: "i32",
  },
  send: {
    parameters: [
      "i32", // int sockfd
      "buffer", // const void *buf
      "usize", // size_t len
      "i32", // int flags
    ],
    result: "isize",
  },
  recv: {
    parameters: [
      "i32", // int sockfd
      "buffer", // void *buf
      "usize", // size_t len
      "i32", // int flags
    ],
    result: "isize",
  },
  shutdown: {
    parameters: [
      "i32", // int sockfd
      "i32", // int how
    ],
    result: "i32",
  },
  epoll_create1: {
    parameters: ["i32"], // int flags
    result: "i32",
  },
  epoll_ctl: {
    parameters: [
      "i32", // int epfd
      "i32", // int op
      "i32", // int fd
      "buffer", // struct epoll_event *event
    ],
    result: "i32",
  },
  epoll_wait: {
    parameters: [
      "i32", // int epfd
      "buffer", // struct epoll_event *events
      "i32", // int maxevents
      "i32", // int timeout, in milliseconds
    ],
    result: "i32",
  },
  getsockname: {
    parameters: [
      "i32", // int sockfd
      "buffer", // struct sockaddr *addr
      "buffer", // socklen_t *addrlen
    ],
    result: "i32",
  },
  setsockopt: {
    parameters: [
      "i32", // int sockfd
      "i32", // int level
      "i32", // int optname
      "buffer", // const void *optval
      "u32", // socklen_t optlen
    ],
    result: "i32",
  },
  getsockopt: {
    parameters: [
      "i32", // int sockfd
      "i32", // int level
      "i32", // int optname
      "buffer", // void *optval
      "buffer", // socklen_t *optlen
    ],
    result: "i32",
  },
  sendto: {
    parameters: [
      "i32", // int sockfd
      "buffer", // const void *buf
      "usize", // size_t len
      "i32", // int flags
      "buffer", // const struct sockaddr *dest_addr
      "u32", // socklen_t addrlen
    ],
    result: "isize",
  },
  recvmsg: {
    parameters: [
      "i32", // int sockfd
      "buffer", // struct msghdr *msg
      "i32", // int flags
    ],
    result: "isize",
  },
  ppoll: {
    parameters: [
      "buffer", // struct pollfd *fds
      "u64", // nfds_t nfds
      "buffer", // const struct timespec *tmo_p
      "pointer", // const sigset_t *sigmask
    ],
    result: "i32",
    nonblocking: true,
  },
  poll: {
    parameters: [
      "buffer", // struct pollfd *fds
      "u64", // nfds_t nfds
      "i32", // int timeout
    ],
    result: "i32",
  },
  eventfd: {
    parameters: [
      "u32", // unsigned int initval
      "i32", // int flags
    ],
    result: "i32",
  },
  eventfd_read: {
    parameters: [
      "i32", // int fd
      "buffer", // eventfd_t *value
    ],
    result: "i32",
  },
  eventfd_write: {
    parameters: [
      "i32", // int fd
      "u64", // eventfd_t value
    ],
    result: "i32",
  },
  sched_setscheduler: {
    parameters: [
      "i32", // pid_t pid, a thread's
      "i32", // int policy
      "buffer", // const struct sched_param *param
    ],
    result: "i32",
  },
  open: {
    parameters: [
      "buffer", // const char *pathname
      "i32", // int flags
    ],
    result: "i32",
  },
  read: {
    parameters: [
      "i32", // int fd
      "buffer", // void *buf
      "usize", // size_t count
    ],
    result: "isize",
  },
  syscall: {
    parameters: [
      "i64", // long number
      "i64", // its first argument
      "i64", // its second argument
    ],
    result: "i64",
  },
  getpagesize: {
    parameters: [],
    result: "i32",
  },
  close: {
    parameters: ["i32"], // int fd
    result: "i32",
  },
  fcntl: {
    parameters: [
      "i32", // int fd
      "i32", // int op
      "i32", // int arg
    ],
    result: "i32",
  },
  mmap: {
    parameters: [
      "pointer", // void *addr
      "usize", // size_t length
      "i32", // int prot
      "i32", // int flags
      "i32", // int fd
      "i64", // off_t offset
    ],
    result: "pointer",
  },
  madvise: {
    parameters: [
      "pointer", // void *addr
      "usize", // size_t length
      "i32", // int advice
    ],
    result: "i32",
  },
  munmap: {
    parameters: [
      "pointer", // void *addr
      "usize", // size_t length
    ],
    result: "i32",
  },
  mount: {
    parameters: [
      "buffer", // const char *source
      "buffer", // const char *target
      "buffer", // const char *filesystemtype
      "u64", // unsigned long mountflags
      "pointer", // const void *data
    ],
    result: "i32",
  },
  umount2: {
    parameters: [
      "buffer", // const char *target
      "i32", // int flags
    ],
    result: "i32",
  },
  clock_gettime: {
    parameters: [
      "i32", // clockid_t clockid
      "buffer", // struct timespec *tp
    ],
    result: "i32",
  },
  statfs: {
    parameters: [
      "buffer", // const char *path
      "buffer", // struct statfs *buf
    ],
    result: "i32",
  },
  if_nametoindex: {
    parameters: ["buffer"], // const char *ifname
    result: "u32",
  },
  ioctl: {
    parameters: [
      "i32", // int fd
      "u64", // unsigned long op
      "buffer", // its argument
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;

let library: Deno.DynamicLibrary<typeof prototypes> | undefined;

/** The C library's symbols, opened at the first call. *
 * @ignore
 */
export function libc(): Deno.DynamicLibrary<typeof prototypes>["symbols"] {
  library ??= Deno.dlopen("libc.so.6", prototypes);
  return library.symbols;
}
