/**
 * The kernel's filter of a capture, made of the services.
 *
 * @module
 */
import type { CaptureFilter } from "../../ffi/capture.ts";
import type { Service } from "../address.ts";
import { LinkType } from "../packet/link.ts";

/** Enough for link header and tags, IPv6 with a few extension headers, and TCP with all its options. */
export const HEADERS = 144;

/** Settings of {@linkcode serviceFilters}. */
export interface FilterOptions {
  /** Whose segments are captured. */
  services: readonly Service[];
  /** A filter that frames have to pass too, in pcap-filter(7)'s language; empty for none. */
  filter: string;
  /** Frames for this MAC address are left out. */
  except?: string;
  /** Bytes kept of the clients' frames. */
  snaplen: number;
  /** Bytes kept of the services' frames; {@linkcode HEADERS} are enough to see what they acknowledge. */
  serverSnaplen: number;
}

/**
 * Takes the segments of both directions. Tagged frames are taken where the link has tags, unless `filter` says itself
 * which VLAN is meant.
 */
export function serviceFilters(options: FilterOptions, link: number): CaptureFilter[] {
  const directions = [["dst", options.snaplen], ["src", options.serverSnaplen]] as const;
  const ethernet = link === LinkType.ETHERNET;
  const own = options.filter === "" ? [] : [`(${options.filter})`];
  const except = options.except === undefined || !ethernet
    ? []
    : [`not ether dst ${options.except}`];
  // The word vlan moves what the rest of an expression looks at.
  const tagged = /\bvlan\b/.test(options.filter);
  const tags = tagged || !ethernet ? [[]] : [[], ["vlan"], ["vlan", "vlan"]];
  return tags.flatMap((tag) =>
    directions.map(([direction, snaplen]) => {
      const services = `(${byFamily(options.services, direction).join(" or ")})`;
      const parts = tagged ? [...except, ...own, services] : [...except, ...tag, ...own, services];
      return { filter: parts.join(" and "), snaplen };
    })
  );
}

/** Extension headers of IPv6 may stand in front of TCP, where the filter language does not look for ports. */
const EXTENDED = "(ip6[6] == 0 or ip6[6] == 43 or ip6[6] == 51 or ip6[6] == 60)";

/**
 * A filter for each IP version among the services: any of their addresses with any of their ports, since a program has
 * 4096 instructions at most. The recorder itself looks for the pair.
 */
function byFamily(services: readonly Service[], direction: "dst" | "src"): string[] {
  return [4, 6].flatMap((family) => {
    const own = services.filter((service) => service.family === family);
    if (own.length === 0) return [];
    const ip = family === 6 ? "ip6" : "ip";
    const hosts = new Set(own.map(({ address }) => `${ip} ${direction} host ${address}`));
    const ports = new Set(own.map(({ port }) => `tcp ${direction} port ${port}`));
    if (family === 6) ports.add(EXTENDED);
    return `((${[...hosts].join(" or ")}) and (${[...ports].join(" or ")}))`;
  });
}
