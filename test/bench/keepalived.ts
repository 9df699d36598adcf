/**
 * keepalived on both servers of a lab: the service's address is moved by VRRP (RFC 9568).
 *
 * @module
 */
import type { Lab } from "../../lib/lab/lab.ts";
import { HostProcess } from "../../lib/lab/processes.ts";
import { run, until } from "../../lib/lab/system.ts";
import { SERVICE_ADDRESSES, SERVICE_PLACES } from "../../lib/lab/topology.ts";

/** The least interval of advertisements that VRRPv3 knows, in seconds: they are in centiseconds. */
export const SHORTEST = 0.01;

/** The priorities: the primary's is the highest that is not the owner's. The lower, the longer a backup waits. */
const PRIORITY = { primary: 254, backup: 253 } as const;

function configuration(role: "primary" | "backup", interval: number): string {
  return `global_defs {
  vrrp_version 3
  vrrp_rt_priority 50
  vrrp_no_swap
}
vrrp_instance service {
  state BACKUP
  interface eth0
  virtual_router_id 77
  priority ${PRIORITY[role]}
  advert_int ${interval}
  garp_master_delay 1
  virtual_ipaddress {
    ${SERVICE_ADDRESSES[4]}/32
  }
}
`;
}

/** keepalived on both servers. */
export class Keepalived {
  readonly #lab: Lab;

  private constructor(lab: Lab) {
    this.#lab = lab;
  }

  /**
   * Starts both, and waits until the primary has the address. `interval` is that of the advertisements, in seconds.
   *
   * @throws {Failure} where one does not come up
   */
  static async start(lab: Lab, interval: number): Promise<Keepalived> {
    for (const { role, name } of SERVICE_PLACES) {
      const address = `${SERVICE_ADDRESSES[4]}/32`;
      await run(lab.inRole(role, ["ip", "address", "del", address, "dev", name]));
    }
    const keepalived = new Keepalived(lab);
    const scratch = lab.makeScratch();
    for (const role of ["primary", "backup"] as const) {
      const file = `${scratch}/keepalived-${role}`;
      await Deno.writeTextFile(`${file}.conf`, configuration(role, interval), { mode: 0o600 });
      HostProcess.start(lab, {
        what: `keepalived-${role}`,
        role,
        argv: [
          ...["keepalived", "--vrrp", "--dont-fork", "--log-console", "--log-detail"],
          ...[
            "--use-file",
            `${file}.conf`,
            "--pid",
            `${file}.pid`,
            "--vrrp_pid",
            `${file}-vrrp.pid`,
          ],
        ],
      });
      const wanted = role === "primary" ? "master" : "backup";
      if (await until(async () => await keepalived.entered(role, wanted) > 0, 20_000)) continue;
      throw new Error(`keepalived of the ${role} does not become ${wanted}`);
    }
    return keepalived;
  }

  /** How often a server's keepalived has entered a state. */
  async entered(role: "primary" | "backup", state: "master" | "backup"): Promise<number> {
    const log = await Deno.readTextFile(this.#lab.logFile(`keepalived-${role}`)).catch(() => "");
    return log.split(`Entering ${state.toUpperCase()} STATE`).length - 1;
  }
}
