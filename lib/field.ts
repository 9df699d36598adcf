/**
 * The kinds of fields that events have: each function makes the schema of a field from its meaning.
 *
 * @module
 */
import * as v from "valibot";

const whole = "a whole number, 0 or more";
const positive = "0 or more";

/**
 * Any text.
 *
 * @ignore
 */
export function text(description: string): v.GenericSchema<string> {
  return v.pipe(v.string(), v.description(description));
}

/**
 * A moment, as RFC 3339 writes it.
 *
 * @ignore
 */
export function instant(description: string): v.GenericSchema<string> {
  return v.pipe(
    v.string(),
    v.isoTimestamp("an RFC 3339 time"),
    v.description(description),
  );
}

/**
 * How many: a whole number, 0 or more.
 *
 * @ignore
 */
export function count(description: string): v.GenericSchema<number> {
  return v.pipe(v.number(), v.integer(whole), v.minValue(0, whole), v.description(description));
}

/**
 * A duration in milliseconds, 0 or more.
 *
 * @ignore
 */
export function millis(description: string): v.GenericSchema<number> {
  return v.pipe(
    v.number(),
    v.minValue(0, positive),
    v.description(`${description}, in milliseconds`),
  );
}

/**
 * A measured duration in milliseconds, or null where there was nothing to measure.
 *
 * @ignore
 */
export function measured(description: string): v.GenericSchema<number | null> {
  return v.pipe(
    v.nullable(v.pipe(v.number(), v.minValue(0, positive))),
    v.description(`${description}, in milliseconds; null where it does not apply`),
  );
}

/**
 * True or false.
 *
 * @ignore
 */
export function flag(description: string): v.GenericSchema<boolean> {
  return v.pipe(v.boolean(), v.description(description));
}

/**
 * One of `values`.
 *
 * @ignore
 */
export function choice<const T extends string>(
  values: readonly T[],
  description: string,
): v.GenericSchema<T> {
  return v.pipe(v.picklist(values), v.description(description));
}

/**
 * Numbers by name.
 *
 * @ignore
 */
export function numbers(description: string): v.GenericSchema<Record<string, number>> {
  return v.pipe(v.record(v.string(), v.number()), v.description(description));
}

/**
 * A TCP sequence number, 32 bits.
 *
 * @ignore
 */
export function sequence(description: string): v.GenericSchema<number> {
  return v.pipe(
    v.number(),
    v.integer(),
    v.minValue(0),
    v.maxValue(0xffffffff),
    v.description(description),
  );
}

/**
 * Texts in a list.
 *
 * @ignore
 */
export function texts(description: string): v.GenericSchema<string[]> {
  return v.pipe(v.array(v.string()), v.description(description));
}

/**
 * A list of objects with the given fields, and others.
 *
 * @ignore
 */
export function list<const T extends v.ObjectEntries>(
  description: string,
  fields: T,
): v.GenericSchema<v.InferInput<v.LooseObjectSchema<T, undefined>>[]> {
  return v.pipe(v.array(v.looseObject(fields)), v.description(description));
}
