/**
 * How the vocabulary describes a type of event.
 *
 * @module
 */
import type * as v from "valibot";

/** One row of the vocabulary, for a type with the fields `T`. */
export interface EventDescription<T = object> {
  /** What the event says, one sentence. */
  readonly description: string;
  /** The writer may drop it while its reader is too slow. */
  readonly droppable: boolean;
  /**
   * The type's own fields; each schema carries its description.
   *
   * @ignore
   */
  readonly fields: v.ObjectEntries & { readonly [K in keyof T]-?: v.GenericSchema<T[K]> };
}

/** Rows of the vocabulary for types with the fields `F` by their names. */
export type Descriptions<F> = { readonly [T in keyof F]: EventDescription<F[T]> };

/**
 * A row as it is written down, before its fields are compared with those of its type.
 *
 * @ignore
 */
export interface Row<F> {
  readonly description: string;
  readonly droppable: boolean;
  readonly fields: F;
}

/** A type of which every event must reach the reader. */
export function essential<F>(description: string, fields: F): Row<F> {
  return { description, droppable: false, fields };
}

/** A type of which events may be dropped while the reader is too slow. */
export function droppable<F>(description: string, fields: F): Row<F> {
  return { description, droppable: true, fields };
}
