import assert from "node:assert/strict";
import { t2cp } from "./t2cp.ts";

const PEER = ["--peer", "10.0.0.1"];
const PROBE = ["--probe", "icmp:10.0.0.1"];

/** Flags that do not go together, and what is said of them. */
const wrong: [flags: string[], message: RegExp][] = [
  [[], /No peer to watch; give --peer ADDRESS/],
  [[...PEER, "--min-ttl", "250"], /--min-ttl has no meaning without --multihop/],
  [[...PEER, "--max-sessions", "5"], /--max-sessions has no meaning without --respond/],
  [[...PEER, "--auth-type", "keyed-sha1"], /--auth-key-file is missing/],
  [[...PEER, "--auth-key-file", "/x"], /--auth-type is missing; name one of simple, keyed-md5/],
  [[...PEER, "--auth-key-id", "3"], /--auth-type is missing/],
  [["--peer", "fe80::1"], /Peer "fe80::1" is link-local; say which link it is on/],
  [["--peer", "fe80::1%lo", "--multihop"], /"fe80::1%lo" is link-local; leave --multihop out/],
  [["--peer", "fe80::1%lo", "--interface", "eth0"], /"fe80::1%lo" is not on interface "eth0"/],
  [["--peer", "10.0.0.1%lo"], /Only link-local addresses have a zone/],
  [["--announce-down", ...PEER], /--peer has no meaning with --announce-down; leave it out/],
  [["--announce-down", "--respond"], /--respond has no meaning with --announce-down/],
  [["--announce-down", "--require", "2"], /--require has no meaning with --announce-down/],
  [["--announce-down", "--stats", "1"], /--stats has no meaning with --announce-down/],
  [["--announce-down=soon"], /--announce-down: /],
  [["--on", "suspect"], /No peer to watch; give --peer ADDRESS or --probe PROBE/],
  [[...PEER, "--on", "suspect"], /--on has no meaning without --probe; give both/],
  [[...PEER, ...PROBE, "--on", "Suspect!"], /--on: "Suspect!" is not the type of an event; write/],
  [[...PEER, ...PROBE, "--on", ""], /--on: "" is not the type of an event/],
  [["--respond", "--on", "suspect"], /--on has no meaning with --respond/],
  [["--respond", "--require", "2"], /--require has no meaning with --respond/],
  [[...PEER, "--require", "0"], /--require: "0" is not a whole number in range; write one from 1 /],
  [["--require", "256"], /--require: "256" is not a whole number in range/],
  [["--require", "half"], /--require: "half" is not a whole number in range/],
  [["--require", "2", "--target", "primary"], /--target has no meaning without --peer or --probe/],
  [["--require", "2", "--suspect", "2"], /--suspect has no meaning without --peer or --probe/],
  [["--require", "2", "--interval", "50"], /--interval has no meaning without --peer/],
];

for (const [flags, message] of wrong) {
  Deno.test(`detect ${flags.join(" ")}: refused as wrong use`, async () => {
    const { status, stdout, stderr } = await t2cp("detect", ...flags);
    assert.equal(status, 64, stderr);
    assert.equal(stdout, "");
    assert.match(stderr, message);
    assert.equal(stderr.trimEnd().split("\n").length, 1);
  });
}
