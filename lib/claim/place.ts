/**
 * Where a host has the service's addresses, and whether it may claim them on an interface.
 *
 * @module
 */
import { InterfaceFlag, interfaceFlags } from "../../ffi/interface_flags.ts";
import { from16Bytes } from "../address.ts";
import { ExitStatus, Failure } from "../failure.ts";

/** The interfaces of a host. */
export interface Interfaces {
  /** Their addresses, and the MAC address of each. */
  addresses(): { name: string; address: string; mac: string }[];
  /** Flags of netdevice(7); undefined where there is no such interface. */
  flags(name: string): number | undefined;
}

/** IFA_F_DADFAILED and IFA_F_TENTATIVE of `linux/if_addr.h`. */
const UNUSABLE = 0x08 | 0x40;

/**
 * The IPv6 addresses of interface `name` that the kernel does not answer for, by the text of /proc/net/if_inet6: the search
 * for duplicates has found one, or goes on.
 */
export function parseUnusable(text: string, name: string): string[] {
  return text.split("\n").flatMap((line) => {
    const [address = "", , , , flags = "0", own] = line.trim().split(/\s+/);
    const bytes = address.match(/../g) ?? [];
    if (own !== name || bytes.length !== 16 || !(parseInt(flags, 16) & UNUSABLE)) return [];
    return [from16Bytes(Uint8Array.from(bytes, (byte) => parseInt(byte, 16)))];
  });
}

/** Those of this host's interface `name`. */
export function unusable(name: string): string[] {
  try {
    return parseUnusable(Deno.readTextFileSync("/proc/net/if_inet6"), name);
  } catch {
    // A kernel without IPv6 has none.
    return [];
  }
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
