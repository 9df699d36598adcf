/**
 * The workloads by name.
 *
 * @module
 */

import type { Lab } from "./lab.ts";
import type { Scenario } from "./scenario.ts";
import type { Workload } from "./workload.ts";
import { Chat } from "./workload_chat.ts";
import { Connections } from "./workload_connections.ts";
import { Download } from "./workload_download.ts";
import { Echo } from "./workload_echo.ts";
import { EchoFlows } from "./workload_echo_flows.ts";
import { Upload } from "./workload_upload.ts";

/** The workload of `scenario` in `lab`; nothing of it runs yet. */
export function makeWorkload(lab: Lab, scenario: Scenario): Workload {
  const { family, server, flows, size } = scenario;
  const options = { lab, scratch: lab.makeScratch(), family, server, flows, size };
  switch (scenario.workload) {
    case "download":
      return new Download(options);
    case "upload":
      return new Upload(options);
    case "echo":
      return flows === 1 ? new Echo(options) : new EchoFlows(options);
    case "chat":
      return new Chat(options);
    case "connections":
      return new Connections(options);
  }
}
