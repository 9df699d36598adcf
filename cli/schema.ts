/**
 * `t2cp schema`: the event vocabulary as JSON Schema.
 *
 * @module
 */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";

/**
 * The command `schema`.
 *
 * @ignore
 */
export const command: Command<CommandContext> = buildCommand({
  docs: {
    brief: "Print the JSON Schema of the events",
    fullDescription:
      "Prints the JSON Schema (draft 2020-12) of one event: one line of any command's output.",
  },
  parameters: {},
  async func() {
    const { eventJsonSchema } = await import("../lib/event_schema.ts");
    this.process.stdout.write(JSON.stringify(eventJsonSchema(), null, 2) + "\n");
  },
});
