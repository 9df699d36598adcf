/**
 * A service whose two servers are the test itself: it takes each connection on the primary and on
 * the backup, and decides when which of them says or reads what.
 *
 * @module
 */
import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import { namespaceName } from "../../lib/lab/namespaces.ts";
import { type Family, formatEndpoint } from "../../lib/address.ts";
import { hostAddress, type Role, ROLES, SERVICE_ADDRESSES } from "../../lib/lab/topology.ts";
import { Namespace, TcpSocket } from "../fixture/socket.ts";
import { PATIENCE, poll } from "../fixture/wait.ts";
import { assertSameBytes, SERVICE_ADDRESS, type Stage } from "./stage.ts";

/** The port of the service. */
export const PORT = 9000;
/** The service. */
export const TWINS = `${SERVICE_ADDRESS}:${PORT}`;
/** The service over IPv6. */
export const TWINS6 = formatEndpoint(SERVICE_ADDRESSES[6], PORT);

/** `count` bytes without a pattern. */
export function noise(count: number): Uint8Array<ArrayBuffer> {
  return randomFillSync(new Uint8Array(count));
}

/** Makes something ready on a client's socket before it connects. */
export type Prepare = (socket: TcpSocket) => void;

/** See the module. */
export class Twins implements Disposable {
  readonly #opened = new DisposableStack();
  readonly #namespaces: Record<Role, Namespace>;
  /** Where it plays. */
  readonly stage: Stage;
  readonly #listeners: { role: Role; socket: TcpSocket }[] = [];
  readonly #accepted = new Map<string, TcpSocket>();
  #ports = 50_000;
  #count = 0;
  readonly #rules = new Set<() => Promise<void>>();
  /** The IP version of the connections that are begun. */
  family: Family = 4;

  /** Listens on both hosts, over both IP versions; `listening` may set options on the listeners. */
  constructor(
    stage: Stage,
    ports: readonly number[] = [PORT],
    listening: (socket: TcpSocket, role: Role) => void = () => {},
  ) {
    this.stage = stage;
    this.#namespaces = Object.fromEntries(
      ROLES.map((
        role,
      ) => [role, this.#opened.use(new Namespace(namespaceName(stage.lab.name, role)))]),
    ) as Record<Role, Namespace>;
    for (const role of ["primary", "backup"] as const) {
      for (const port of ports) {
        for (const family of [4, 6] as const) {
          const socket = this.#opened.use(TcpSocket.make(this.#namespaces[role], family));
          listening(socket, role);
          socket.bind(SERVICE_ADDRESSES[family], port);
          socket.listen();
          this.#listeners.push({ role, socket });
        }
      }
    }
  }

  /** The namespace of a host. */
  namespace(role: Role): Namespace {
    return this.#namespaces[role];
  }

  /** A client's port that nobody has used. */
  freshPort(): number {
    return this.#ports++;
  }

  /** Makes a client's socket and begins to connect it. */
  begin(prepare: Prepare = () => {}, clientPort = this.freshPort(), port = PORT): Client {
    const { family } = this;
    const socket = this.#opened.use(TcpSocket.make(this.#namespaces.client, family));
    socket.tcp({ NODELAY: 1 });
    prepare(socket);
    const address = hostAddress("client", family);
    socket.bind(address, clientPort);
    socket.connect(SERVICE_ADDRESSES[family], port);
    return { socket, port: clientPort, address };
  }

  /** The server's end of a client's connection on a host. */
  async accept(role: "primary" | "backup", clientPort: number, what = ""): Promise<TcpSocket> {
    const name = `${role} ${clientPort}`;
    const socket = await poll(
      `connection ${clientPort} on the ${role} ${what}`,
      () => {
        this.#acceptAll();
        return this.#accepted.get(name);
      },
      PATIENCE,
      2,
    );
    this.#accepted.delete(name);
    return socket;
  }

  /** Whether a host has taken a connection of that client's port, and nobody has asked for it. */
  has(role: "primary" | "backup", clientPort: number): boolean {
    this.#acceptAll();
    return this.#accepted.has(`${role} ${clientPort}`);
  }

  #acceptAll(): void {
    for (const { role, socket } of this.#listeners) {
      while (true) {
        const found = socket.accept();
        if (found === undefined) break;
        this.#opened.use(found.socket);
        this.#accepted.set(`${role} ${found.port}`, found.socket);
      }
    }
  }

  /** Opens a connection that has its replica. */
  async open(name: string, prepare?: Prepare, clientPort?: number): Promise<Flow> {
    const client = this.begin(prepare, clientPort);
    await client.socket.connected();
    return await this.flow(name, client);
  }

  /** Both server ends of a client's connection. */
  async flow(name: string, client: Client): Promise<Flow> {
    const primary = await this.accept("primary", client.port, name);
    const replica = await this.accept("backup", client.port, name);
    return this.join(name, client, primary, replica);
  }

  /** Makes a flow of three ends. */
  join(name: string, client: Client, primary: TcpSocket, replica: TcpSocket): Flow {
    for (const socket of [primary, replica]) socket.tcp({ NODELAY: 1 });
    return new Flow(this.stage, name, client, primary, replica);
  }

  /**
   * Adds nft's statement to a new chain of host `role`, until the result is called; by then it must
   * have met a packet. `where` is the family, the hook and, for the family netdev, the device.
   */
  async rule(role: Role, where: string, statement: string): Promise<() => Promise<void>> {
    const [family, hook, device] = where.split(" ");
    const table = `${family} rule${this.#count++}`;
    const at = device === undefined ? "" : `device "${device}"`;
    // Before connection tracking, so that it does not know what is dropped.
    const chain = `type filter hook ${hook} ${at} priority -400;`;
    const [condition, action] = statement.split(/ (?=drop$|dup )/);
    await this.stage.output(
      role,
      "nft",
      [
        `add table ${table}`,
        `add chain ${table} c { ${chain} }`,
        `add rule ${table} c ${condition} counter ${action}`,
      ].join("\n"),
    );
    const mend = async () => {
      if (!this.#rules.delete(mend)) return;
      const listed = await this.stage.output(role, "nft", `list table ${table}`);
      assert.match(listed, /counter packets [1-9]/, `a packet for "${statement}"`);
      await this.stage.output(role, "nft", `delete table ${table}`);
    };
    this.#rules.add(mend);
    return mend;
  }

  /** Takes all rules back. */
  async mend(): Promise<void> {
    for (const mend of this.#rules) await mend();
  }

  [Symbol.dispose](): void {
    this.#opened.dispose();
  }
}

/** A client's end. */
export interface Client {
  socket: TcpSocket;
  port: number;
  address: string;
}

/** A connection with both its servers' ends. */
export class Flow {
  readonly client: TcpSocket;
  readonly port: number;
  readonly address: string;
  readonly primary: TcpSocket;
  readonly replica: TcpSocket;
  readonly name: string;
  readonly #stage: Stage;

  constructor(stage: Stage, name: string, client: Client, primary: TcpSocket, replica: TcpSocket) {
    this.#stage = stage;
    this.name = name;
    this.client = client.socket;
    this.port = client.port;
    this.address = client.address;
    this.primary = primary;
    this.replica = replica;
  }

  /** The client says something, and both servers hear it. */
  async up(data: string | Uint8Array<ArrayBuffer>): Promise<void> {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    const [, ...heard] = await Promise.all([
      this.client.send(bytes),
      this.primary.receive(bytes.length),
      this.replica.receive(bytes.length),
    ]).catch((error) => assert.fail(`${this.name}: ${error.message}`));
    for (const copy of heard) assertSameBytes(copy!, bytes, `upload of "${this.name}"`);
  }

  /** Both servers say something, and the client hears it. */
  async down(data: string | Uint8Array<ArrayBuffer>): Promise<void> {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    const [heard] = await Promise.all([
      this.client.receive(bytes.length),
      this.primary.send(bytes),
      this.replica.send(bytes),
    ]).catch((error) => assert.fail(`${this.name}: ${error.message}`));
    assertSameBytes(heard, bytes, `download of "${this.name}"`);
  }

  /** After the takeover: the client and the replica talk both ways. */
  async goesOn(size = 100_000): Promise<void> {
    const [sent, answered] = [noise(size), noise(size)];
    const [heard, got] = await Promise.all([
      this.replica.receive(size),
      this.client.receive(size),
      this.client.send(sent),
      this.replica.send(answered),
    ]).catch((error) => assert.fail(`${this.name}: ${error.message}`));
    assertSameBytes(heard, sent, `upload of "${this.name}" after the takeover`);
    assertSameBytes(got, answered, `download of "${this.name}" after the takeover`);
  }

  /** Both ends close in order. */
  async ends(): Promise<void> {
    this.client.finish();
    assert.equal((await this.replica.receive(1)).length, 0, `${this.name}: nothing more`);
    this.replica.close();
    assert.equal((await this.client.receive(1)).length, 0, `${this.name}: nothing more`);
    this.client.close();
  }

  /** What the backup tracks of the flow. */
  async tracked(address: string = this.address) {
    const client = formatEndpoint(address, this.port);
    return (await this.#stage.flows()).find((flow) => flow.client === client);
  }
}
