/**
 * Probes that open a TCP connection.
 *
 * @module
 */
import { type Attempt, connectionError } from "./attempt.ts";
import type { TcpProbe } from "./spec.ts";

/** Whether a connection to the port can be opened; it is closed at once. */
export function tcpAttempt({ address, port }: TcpProbe): Attempt {
  return async (signal) => {
    try {
      (await connectTcp(address, port, signal)).close();
      return undefined;
    } catch (error) {
      return connectionError(error);
    }
  };
}

/** Opens a connection; a signal that comes too late for the system closes it. */
export async function connectTcp(
  address: string,
  port: number,
  signal: AbortSignal,
): Promise<Deno.TcpConn> {
  const connection = await Deno.connect({
    hostname: address,
    port,
    signal,
    autoSelectFamily: false,
  });
  if (!signal.aborted) return connection;
  connection.close();
  throw signal.reason;
}
