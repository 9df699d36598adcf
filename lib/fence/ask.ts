/**
 * Asking a fence that runs.
 *
 * @module
 */
import { join } from "node:path";
import { ControlClient, RequestRefused } from "../control_client.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { FENCE_SOCKET } from "./record.ts";

/**
 * Asks the running fence of a run directory, and returns its answer.
 *
 * @throws {Failure} with status TEMPORARY where it does not answer, or cannot do it
 */
export async function askFence(
  runDir: string,
  request: "fence" | "release",
): Promise<Record<string, unknown>> {
  const path = join(runDir, FENCE_SOCKET);
  using client = ControlClient.of(path);
  try {
    const [answer = {}] = await client.request({ request });
    return answer;
  } catch (cause) {
    if (cause instanceof RequestRefused) throw new Failure(ExitStatus.TEMPORARY, cause.message);
    throw new Failure(ExitStatus.TEMPORARY, `No fence answers at "${path}"`, {
      mend: "see whether the process that has the run directory still works",
      cause,
    });
  }
}
