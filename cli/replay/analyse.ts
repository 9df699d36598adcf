/**
 * `t2cp replay --analyse`: its flags.
 *
 * @module
 */
import type { Service } from "../../lib/address.ts";
import { EventReport, runAnalyse } from "../../lib/conversation/analyse.ts";
import { TableReport } from "../../lib/conversation/analyse_table.ts";
import { withOutput } from "../common/context.ts";

/** What the flags of the analysis say. */
export interface AnalyseFlags {
  /** Report what is remarkable, too. */
  notes: boolean;
  /** Which frames count; empty for all. */
  filter?: string;
  /** Who is a server. */
  service?: readonly Service[];
  /** Events instead of a table. */
  json: boolean;
}

/** Analyses the capture file, or standard input where that is `-`. */
export async function analyse(file: string, flags: AnalyseFlags): Promise<void> {
  const { notes, filter = "", service: servers = [], json } = flags;
  await withOutput("replay", async ({ writer, emitter, stop }) => {
    const isTable = !json && Deno.stdout.isTerminal();
    const report = isTable ? new TableReport(writer) : new EventReport(emitter);
    await runAnalyse({ file, filter, servers, notes }, report, stop);
  });
}
