/**
 * What `doctor` prints.
 *
 * @module
 */
import { styleText } from "node:util";
import type { Finding, State } from "./checks.ts";

const marks: Record<State, { text: string; style: "green" | "red" | "yellow" }> = {
  ok: { text: "ok", style: "green" },
  lack: { text: "LACK", style: "red" },
  advice: { text: "advice", style: "yellow" },
};

/** The findings as a table for a person; in colour where `colour`. */
export function describe(findings: readonly Finding[], colour: boolean): string {
  const width = Math.max(...findings.map(({ check }) => check.length));
  const lines = findings.flatMap(({ check, state, found, mend }) => {
    const { text, style } = marks[state];
    const mark = colour ? styleText(style, text.padEnd(6)) : text.padEnd(6);
    const first = `${mark}  ${check.padEnd(width)}  ${found}`;
    return mend === undefined || mend === ""
      ? [first]
      : [first, `${" ".repeat(8 + width + 2)}${mend}`];
  });
  return lines.join("\n") + "\n";
}
