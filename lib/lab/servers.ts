/**
 * The lab's servers: nginx for the web, socat for echo, for both also a server in Python, and one of
 * its own for chat.
 *
 * @module
 */

import { type Family, formatEndpoint } from "../address.ts";
import { programFile, programLine } from "./flow_client.ts";
import type { Lab } from "./lab.ts";
import { families } from "./namespaces.ts";
import { HostProcess, waitForListener } from "./processes.ts";
import type { ConversationTask } from "./program/protocol.ts";
import type { ServerName } from "./scenario.ts";
import { hostAddress, SERVICE_ADDRESSES } from "./topology.ts";

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
 * The probe, as `t2cp detect` takes it, that asks the server on `port` of the primary for a reply.
 * Its kernel alone would let it connect even while the server hangs.
 */
export function probeOf(port: number, family: Family): string {
  const primary = hostAddress("primary", family);
  if (port === WEB_PORT) {
    const url = `http://${formatEndpoint(primary, port)}/${HEALTH_DOCUMENT}`;
    return `${url},interval=100,timeout=100,fall=3`;
  }
  const connect = (address: string) => `socat - TCP${family}:${formatEndpoint(address, port)}`;
  // The chat server listens on the service's address only, and speaks first.
  const command = port === ECHO_PORT
    ? `echo probe | ${connect(primary)} | grep -q probe`
    : `${connect(SERVICE_ADDRESSES[family])} < /dev/null | grep -q .`;
  return `exec:${command},interval=200,timeout=150,fall=2`;
}

/** The document that tells a probe that the web server works. */
export const HEALTH_DOCUMENT = "health";

/**
 * Starts a web server on `role` with everything it writes below `scratch`, and waits until it
 * listens. GET serves the document directory, PUT below /store/ stores in the host's own directory.
 * One listener takes both IP versions, as servers usually do; the other servers' take one each.
 *
 * @throws {Failure} where it does not come up
 */
export async function startWebServer(
  lab: Lab,
  role: ServerRole,
  scratch: string,
  server: ServerName = "nginx",
): Promise<HostProcess> {
  const store = storeDirectory(scratch, role);
  const documents = documentDirectory(scratch);
  await Deno.mkdir(store, { recursive: true });
  await Deno.writeTextFile(`${documents}/${HEALTH_DOCUMENT}`, "ok\n");
  const argv = server === "nginx"
    ? await nginxLine(lab, role, scratch)
    : pythonLine(server, { protocol: "web", ...anyAddress(), port: WEB_PORT, documents, store });
  const process = HostProcess.start(lab, { what: `${server}-${role}`, role, argv });
  await waitForListener(process, WEB_PORT);
  return process;
}

/** What the server in Python is told, beside its model. */
interface PythonTask {
  protocol: "web" | "echo";
  address: string;
  port: number;
  documents?: string;
  store?: string;
}

/** How the server in Python serves many connections, by the server's name. */
const MODELS: Readonly<Partial<Record<ServerName, string>>> = {
  python: "asyncio",
  threaded: "threads",
};

function pythonLine(server: ServerName, task: PythonTask): string[] {
  return ["python3", programFile("server.py"), JSON.stringify({ model: MODELS[server], ...task })];
}

/** The address that a listener for both IP versions is bound to. */
function anyAddress(): { address: string } {
  return { address: families().includes(6) ? "::" : "0.0.0.0" };
}

async function nginxLine(lab: Lab, role: ServerRole, scratch: string): Promise<string[]> {
  const prefix = `${scratch}/${role}`;
  await Deno.mkdir(`${prefix}/temp`);
  const log = lab.logFile(`nginx-${role}-error`);
  await Deno.writeTextFile(`${prefix}/nginx.conf`, webConfiguration(prefix, scratch, log));
  return ["nginx", "-p", prefix, "-c", `${prefix}/nginx.conf`, "-e", log];
}

function webConfiguration(prefix: string, scratch: string, log: string): string {
  const both = families().includes(6);
  const listen = both ? `[::]:${WEB_PORT} ipv6only=off` : `${WEB_PORT}`;
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
 * Starts an echo server on `role` and waits until it listens; socat runs a process for each
 * connection.
 *
 * @throws {Failure} where it does not come up
 */
export async function startEchoServer(
  lab: Lab,
  role: ServerRole,
  family: Family,
  server: ServerName = "socat",
): Promise<HostProcess> {
  const options = `TCP${family}-LISTEN:${ECHO_PORT},reuseaddr,nodelay,backlog=1024,fork`;
  const address = family === 4 ? "0.0.0.0" : "::";
  const argv = server === "socat"
    ? ["socat", options, "PIPE"]
    : pythonLine(server, { protocol: "echo", address, port: ECHO_PORT });
  const process = HostProcess.start(lab, { what: `${server}-${role}`, role, argv });
  await waitForListener(process, ECHO_PORT);
  return process;
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
): Promise<HostProcess> {
  const process = HostProcess.start(lab, {
    what: `chat-${role}`,
    role,
    argv: programLine("chat_server", task),
  });
  await waitForListener(process, CHAT_PORT);
  return process;
}
