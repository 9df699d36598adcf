/**
 * systemd's units.
 *
 * @module
 */
import { runTool } from "../host/facts.ts";

/**
 * The main process of systemd's unit `unit`; undefined where it has none now.
 *
 * @throws {Failure} where there is no systemctl(1)
 */
export async function askSystemd(unit: string): Promise<number | undefined> {
  const args = ["show", "--property=MainPID", "--value", "--", unit];
  const { stdout } = await runTool("systemctl", args, "systemd");
  const pid = Number(stdout.trim());
  return pid > 0 ? pid : undefined;
}
