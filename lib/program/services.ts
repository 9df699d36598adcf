/**
 * Which services the BPF programs can handle.
 *
 * @module
 */
import { formatService, type Service } from "../address.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { MAX_SERVICES } from "../flow/layout.ts";

/**
 * Refuses what the programs do not handle.
 *
 * @throws {Failure} with status USAGE for UDP, and for more services than fit
 */
export function requireHandled(services: readonly Service[]): void {
  for (const service of services) {
    const text = formatService(service);
    if (service.protocol === "udp") {
      throw new Failure(ExitStatus.USAGE, `Service "${text}" is UDP, and only TCP is replicated`, {
        mend: `write "${text.slice(4)}" for the TCP service`,
      });
    }
  }
  const slots = services.length + new Set(services.map((service) => service.address)).size;
  if (slots <= MAX_SERVICES) return;
  throw new Failure(ExitStatus.USAGE, `${services.length} services are too many`, {
    mend: `${MAX_SERVICES} slots must hold each service and each address`,
  });
}
