/**
 * Tables for a terminal, written while their rows come.
 *
 * @module
 */

/** A column. */
export interface Column {
  /** Its heading. */
  readonly title: string;
  /** Numbers stand at the right. */
  readonly isNumber?: boolean;
}

/** So many rows decide how wide the columns are. */
const MEASURED = 200;
const GAP = "  ";

/** Writes rows of cells under headings. Only the first rows are kept, until the columns' widths are known. */
export class Table {
  readonly #columns: readonly Column[];
  readonly #write: (line: string) => void;
  readonly #widths: number[];
  #rows: (readonly string[])[] | undefined = [];

  /** Gives its lines to `write`. */
  constructor(columns: readonly Column[], write: (line: string) => void) {
    this.#columns = columns;
    this.#write = write;
    this.#widths = columns.map(({ title }) => title.length);
  }

  /** Adds a row: a cell for each column. A control character in a cell is shown as a question mark. */
  add(cells: readonly string[]): void {
    // deno-lint-ignore no-control-regex
    const shown = cells.map((cell) => cell.replaceAll(/[\x00-\x1f\x7f-\x9f]/g, "?"));
    if (this.#rows === undefined) return this.#write(this.#line(shown));
    for (const [i, { length }] of shown.entries()) {
      this.#widths[i] = Math.max(this.#widths[i]!, length);
    }
    this.#rows.push(shown);
    if (this.#rows.length === MEASURED) this.end();
  }

  /** Writes what was kept; the heading alone, where there were no rows. */
  end(): void {
    if (this.#rows === undefined) return;
    const lines = [this.#columns.map(({ title }) => title), ...this.#rows];
    this.#rows = undefined;
    for (const cells of lines) this.#write(this.#line(cells));
  }

  #line(cells: readonly string[]): string {
    return cells.map((cell, i) => {
      const width = this.#widths[i]!;
      return this.#columns[i]!.isNumber === true ? cell.padStart(width) : cell.padEnd(width);
    }).join(GAP).trimEnd();
  }
}
