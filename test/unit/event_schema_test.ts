import assert from "node:assert/strict";
import { vocabulary } from "../../lib/event.ts";
import { eventJsonSchema } from "../../lib/event_schema.ts";

/** The parts of a JSON Schema that the vocabulary uses. */
interface Schema {
  type?: string;
  description?: string;
  required?: string[];
  properties?: Record<string, Schema>;
  const?: unknown;
  enum?: unknown[];
  allOf?: { if: Schema; then: Schema }[];
}

const schema: Schema = eventJsonSchema();

Deno.test("the schema demands the common fields of every event", () => {
  assert.deepEqual(schema.required, ["v", "type", "time", "by", "host"]);
  assert.equal(schema.properties?.["v"]?.const, 1);
});

Deno.test("the schema has a branch for every type of the vocabulary", () => {
  const types = schema.allOf?.map((branch) => branch.if.properties?.["type"]?.const);
  assert.deepEqual(types, Object.keys(vocabulary));
});

Deno.test("every type and every field is described", () => {
  const described = [schema, ...(schema.allOf ?? []).map((branch) => branch.then)];
  for (const { description, properties } of described) {
    assert.ok(description);
    for (const [name, field] of Object.entries(properties ?? {})) {
      assert.ok(field.description, `Field ${name} of "${description}" has no description`);
    }
  }
});

Deno.test("required and optional fields, and closed sets of values, are told apart", () => {
  const failed = schema.allOf?.find((branch) => branch.if.properties?.["type"]?.const === "failed");
  assert.deepEqual(failed?.then.required, ["target", "level", "cause", "evidence"]);
  assert.deepEqual(failed?.then.properties?.["level"]?.enum, ["host", "application"]);
  assert.ok(failed?.then.properties?.["last_seen"]);
});
