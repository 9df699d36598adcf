/**
 * The lab's servers: nginx for downloads and uploads, socat for echo, and one of its own for chat.
 *
 * @module
 */

import { type Family, formatEndpoint } from "../address.ts";
import { programLine } from "./flow_client.ts";
import type { Lab } from "./lab.ts";
import { families } from "./namespaces.ts";
import { HostProcess, waitForListener } from "./processes.ts";
import type { ConversationTask } from "./program/protocol.ts";
import { SERVICE_ADDRESSES } from "./topology.ts";

/** A host that runs the service. */
export type ServerRole = "primary" | "backup";

/** The port of the web server. */
export const WEB_PORT = 80;

/** The port of the echo server (RFC 862). */
export const ECHO_PORT = 7;

/** The port of the chat server. */
export const CHAT_PORT = 6667;

/** The directory below `scratch` in which `role`'s nginx stores uploads. */
export function storeDirectory(scratch: string, role: ServerRole): string {
  return `${scratch}/${role}/store`;
}

/** The directory below `scratch` from which both nginx serve. */
export function documentDirectory(scratch: string): string {
  return `${scratch}/document`;
}

/**
 * Starts nginx on `role` with everything it writes below `scratch`, and waits until it listens.
 * GET serves the document directory, PUT below /store/ stores in the host's own directory.
 * One listener takes both IP versions, as servers usually do; the other servers' take one each.
 *
 * @throws {Failure} where it does not come up
 */
export async function startWebServer(lab: Lab, role: ServerRole, scratch: string): Promise<void> {
  const prefix = `${scratch}/${role}`;
  await Deno.mkdir(storeDirectory(scratch, role), { recursive: true });
  await Deno.mkdir(`${prefix}/temp`);
  const log = lab.logFile(`nginx-${role}-error`);
  await Deno.writeTextFile(`${prefix}/nginx.conf`, webConfiguration(prefix, scratch, log));
  const process = HostProcess.start(lab, {
    what: `nginx-${role}`,
    role,
    argv: ["nginx", "-p", prefix, "-c", `${prefix}/nginx.conf`, "-e", log],
  });
  await waitForListener(process, WEB_PORT);
}

function webConfiguration(prefix: string, scratch: string, log: string): string {
  const listen = families().includes(6)
    ? `[::]:${WEB_PORT} ipv6only=off`
    : formatEndpoint(SERVICE_ADDRESSES[4], WEB_PORT);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `  ${name}_temp_path ${prefix}/temp/${name};`);
  return `daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 8192;
pid ${prefix}/nginx.pid;
error_log ${log};
events { worker_connections 4096; }
http {
  access_log off;
  sendfile on;
  gzip off;
  client_max_body_size 0;
${temporary.join("\n")}
  server {
    listen ${listen};
    root ${documentDirectory(scratch)};
    location /store/ {
      root ${prefix};
      dav_methods PUT;
    }
  }
}
`;
}

/**
 * Starts an echo server on `role`, a process for each connection, and waits until it listens.
 *
 * @throws {Failure} where it does not come up
 */
export async function startEchoServer(
  lab: Lab,
  role: ServerRole,
  family: Family,
): Promise<void> {
  const address = family === 4 ? SERVICE_ADDRESSES[4] : `[${SERVICE_ADDRESSES[6]}]`;
  const process = HostProcess.start(lab, {
    what: `echo-${role}`,
    role,
    argv: [
      "socat",
      `TCP${family}-LISTEN:${ECHO_PORT},bind=${address},reuseaddr,nodelay,backlog=1024,fork`,
      "PIPE",
    ],
  });
  await waitForListener(process, ECHO_PORT);
}

/**
 * Starts the chat server on `role` and waits until it listens.
 *
 * @throws {Failure} where it does not come up
 */
export async function startChatServer(
  lab: Lab,
  role: ServerRole,
  task: ConversationTask,
): Promise<void> {
  const process = HostProcess.start(lab, {
    what: `chat-${role}`,
    role,
    argv: programLine("chat_server", task),
  });
  await waitForListener(process, CHAT_PORT);
}
