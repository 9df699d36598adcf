/**
 * Where a host has the service's addresses, and whether it may claim them on an interface.
 *
 * @module
 */
import { InterfaceFlag, interfaceFlags } from "../../ffi/interface_flags.ts";
import { ExitStatus, Failure } from "../failure.ts";

/** The interfaces of a host. */
export interface Interfaces {
  /** Their addresses, and the MAC address of each. */
  addresses(): { name: string; address: string; mac: string }[];
  /** Flags of netdevice(7); undefined where there is no such interface. */
  flags(name: string): number | undefined;
}

/** Those of this host. */
export const theseInterfaces: Interfaces = {
  addresses: () => Deno.networkInterfaces(),
  flags: interfaceFlags,
};

/**
 * Why nothing can be claimed on interface `name`; undefined where it can. This is cheap: it is asked right before a
 * takeover.
 */
export function stateRefusal(name: string, interfaces: Interfaces): Failure | undefined {
  const flags = interfaces.flags(name);
  if (flags === undefined) {
    return new Failure(ExitStatus.NO_INPUT, `There is no interface "${name}" on this host`, {
      mend: `"ip link" lists those that are there`,
    });
  }
  if ((flags & InterfaceFlag.UP) === 0) {
    return new Failure(ExitStatus.UNAVAILABLE, `Interface "${name}" is down`, {
      mend: `ip link set ${name} up`,
    });
  }
  if ((flags & InterfaceFlag.RUNNING) !== 0) return undefined;
  return new Failure(ExitStatus.UNAVAILABLE, `Interface "${name}" has no carrier`, {
    mend: "look at its cable and at the switch",
  });
}

/**
 * Why `addresses` cannot be claimed on interface `name`: another one that has neighbours has one of them, and would
 * answer for it there. An address on the loopback interface, or on a dummy, is nobody's neighbour.
 */
export function placeRefusal(
  name: string,
  addresses: readonly string[],
  interfaces: Interfaces,
): Failure | undefined {
  const elsewhere = interfaces.addresses().find((own) =>
    own.name !== name && addresses.includes(own.address) && hasNeighbours(own.name, interfaces)
  );
  if (elsewhere === undefined) return undefined;
  const { address, name: other } = elsewhere;
  return new Failure(
    ExitStatus.UNAVAILABLE,
    `Address "${address}" is on interface "${other}", and would be claimed on "${name}"`,
    { mend: `see ip address show to ${address}, and remove it from "${other}"` },
  );
}

/**
 * Refuses to go on where `addresses` cannot be claimed on interface `name` of this host.
 *
 * @throws {Failure} with what {@linkcode stateRefusal} or {@linkcode placeRefusal} says
 */
export function requireClaimable(name: string, addresses: readonly string[]): void {
  const refusal = stateRefusal(name, theseInterfaces) ??
    placeRefusal(name, addresses, theseInterfaces);
  if (refusal !== undefined) throw refusal;
}

function hasNeighbours(name: string, interfaces: Interfaces): boolean {
  const flags = interfaces.flags(name) ?? 0;
  return (flags & (InterfaceFlag.LOOPBACK | InterfaceFlag.NOARP)) === 0;
}

/** Which of `addresses` interface `name` lacks. */
export function lacking(
  name: string,
  addresses: readonly string[],
  interfaces: Interfaces,
): string[] {
  const own = interfaces.addresses().filter((one) => one.name === name);
  return addresses.filter((address) => !own.some((one) => one.address === address));
}
