/**
 * A small writer of SVG.
 *
 * @module
 */

/** An SVG element as text, already escaped. */
export class Markup {
  /** The text. */
  readonly text: string;

  /** `text` is taken as it is. */
  constructor(text: string) {
    this.text = text;
  }
}

/** Escapes text for element content and quoted attributes; characters XML forbids become U+FFFD. */
export function escapeXml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
    // deno-lint-ignore no-control-regex
    .replaceAll(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "\ufffd");
}

/**
 * An element with attributes and content. Numbers are written with at most two digits of fraction;
 * content that is no {@linkcode Markup} is escaped.
 */
export function element(
  name: string,
  attributes: Readonly<Record<string, string | number>> = {},
  ...content: readonly (Markup | string)[]
): Markup {
  const written = Object.entries(attributes).map(([key, value]) =>
    ` ${key}="${typeof value === "number" ? coordinate(value) : escapeXml(value)}"`
  );
  const inner = content.map((part) => part instanceof Markup ? part.text : escapeXml(part));
  const open = `<${name}${written.join("")}`;
  return new Markup(inner.length === 0 ? `${open}/>` : `${open}>${inner.join("")}</${name}>`);
}

/** A whole document of `width` by `height` user units, with a style sheet. */
export function svgDocument(
  width: number,
  height: number,
  style: string,
  title: string,
  ...content: readonly Markup[]
): string {
  const root = element(
    "svg",
    {
      xmlns: "http://www.w3.org/2000/svg",
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "img",
    },
    element("title", {}, title),
    element("style", {}, new Markup(style)),
    ...content,
  );
  return `<?xml version="1.0" encoding="UTF-8"?>\n${root.text}\n`;
}

/** The `d` attribute of a polyline through `points`. */
export function pathData(points: readonly (readonly [number, number])[]): string {
  return points.map(([x, y], index) => {
    return `${index === 0 ? "M" : "L"}${coordinate(x)} ${coordinate(y)}`;
  }).join("");
}

function coordinate(value: number): string {
  if (!Number.isFinite(value)) throw new RangeError(`Coordinate ${value} is not finite`);
  return String(Math.round(value * 100) / 100);
}

/**
 * Round values between `from` and `to`, both included where they are round, about `count` of them:
 * multiples of 1, 2 or 5 times a power of ten.
 */
export function ticks(from: number, to: number, count: number): number[] {
  if (!(to > from)) return [from];
  const raw = (to - from) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999)!;
  const values: number[] = [];
  for (let index = Math.ceil(from / step - 1e-9); index * step <= to + step * 1e-9; index++) {
    values.push(Number((index * step).toPrecision(12)));
  }
  return values;
}
