/**
 * Progress on standard error.
 *
 * @module
 */

/** A line that changes. */
export interface ProgressLine {
  /** Shows `line` in the place of the one before. */
  show(line: string): void;
  /** Takes the line away. */
  clear(): void;
}

/** One line that changes at a terminal; elsewhere a line for each step, or nothing. */
export function progressLine(elsewhere: "lines" | "nothing"): ProgressLine {
  const encoder = new TextEncoder();
  const write = (text: string): void => void Deno.stderr.writeSync(encoder.encode(text));
  if (!Deno.stderr.isTerminal()) {
    return { show: (line) => elsewhere === "lines" ? write(`${line}\n`) : undefined, clear() {} };
  }
  let shown = false;
  return {
    show(line) {
      write(`\r\x1b[K${line} …`);
      shown = true;
    },
    clear() {
      if (shown) write("\r\x1b[K");
      shown = false;
    },
  };
}
