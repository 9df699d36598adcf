/**
 * `t2cp`: the commands.
 *
 * @module
 */
import { type Commands, runCommandLine } from "./common/app.ts";

/** Every command, in the order of the help. */
const commands: Commands = {
  mirror: () => import("./mirror.ts"),
  record: () => import("./record.ts"),
  shadow: () => import("./shadow.ts"),
  fence: () => import("./fence.ts"),
  guard: () => import("./guard.ts"),
  detect: () => import("./detect.ts"),
  freeze: () => import("./freeze.ts"),
  takeover: () => import("./takeover.ts"),
  replay: () => import("./replay.ts"),
  lab: () => import("./lab.ts"),
  doctor: () => import("./doctor.ts"),
  schema: () => import("./schema.ts"),
};

const docs = {
  brief: "Transparent active replication of TCP services",
  fullDescription: `Transparent active replication of TCP services: a backup takes over established
connections when the primary fails, and the client notices nothing.

Each command prints events, one JSON object a line. The usual pipeline on a backup:

  t2cp detect --peer 10.0.0.1 | t2cp takeover --on failed | tee -a events.ndjson

"t2cp COMMAND --help" and the man page t2cp-COMMAND(8) tell more.`,
};

Deno.exit(await runCommandLine(commands, docs, Deno.args));
