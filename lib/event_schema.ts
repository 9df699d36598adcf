/**
 * The event vocabulary as JSON Schema.
 *
 * @module
 */
import { toJsonSchema } from "@valibot/to-json-schema";
import * as v from "valibot";
import { commonFields, vocabulary } from "./event.ts";

function properties(fields: v.ObjectEntries): { properties?: object; required?: string[] } {
  const { properties, required } = toJsonSchema(v.looseObject(fields), { typeMode: "input" });
  return { properties, required };
}

/**
 * One event as JSON Schema, draft 2020-12. A known type's fields are demanded where `type` names
 * it; unknown types and further fields are allowed, as every command lets them pass.
 */
export function eventJsonSchema(): Record<string, unknown> {
  const types = Object.entries(vocabulary);
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "t2cp event",
    description: "One line of a t2cp command's output",
    type: "object",
    ...properties(commonFields),
    allOf: types.map(([type, { description, fields }]) => ({
      if: { properties: { type: { const: type } }, required: ["type"] },
      then: { title: type, description, ...properties(fields) },
    })),
  };
}
