/**
 * The picture of a run: the client's bytes over time, and the moments around the failure.
 *
 * @module
 */

import { formatMillis } from "./quantity.ts";
import type { Progress } from "./measure.ts";
import { element, type Markup, pathData, svgDocument, ticks } from "./svg.ts";

/** A moment to mark. */
export interface Moment {
  /** What happened, for the legend. */
  label: string;
  /** When, microseconds since the epoch. */
  time: number;
  /** Its look: a class of the style sheet. */
  look: "cut" | "detected" | "active" | "address" | "first";
}

/** What to draw. */
export interface Picture {
  /** The headline. */
  title: string;
  /** What the vertical axis shows, such as "received". */
  verb: string;
  /** The curve. */
  progress: Progress;
  /** The moments in order of time; the first one is the failure. Empty for none. */
  moments: readonly Moment[];
}

/** The colours of one ground. */
interface Palette {
  paper: string;
  ink: string;
  faint: string;
  line: string;
  cut: string;
  detected: string;
  active: string;
  address: string;
  first: string;
}

const LIGHT: Palette = {
  paper: "#ffffff",
  ink: "#1b1f24",
  faint: "#d7dbe0",
  line: "#0b62c4",
  cut: "#c4201d",
  detected: "#b35900",
  active: "#7a3cc2",
  address: "#00727a",
  first: "#137a3a",
};

const DARK: Palette = {
  paper: "#14171b",
  ink: "#e4e8ec",
  faint: "#363c44",
  line: "#6cb0ff",
  cut: "#ff7b74",
  detected: "#ffb057",
  active: "#c49bff",
  address: "#57c7cf",
  first: "#5bd489",
};

/** The rules that depend on the ground; custom properties are unknown to many viewers. */
function colours(palette: Palette): string {
  return `.paper { fill: ${palette.paper}; } text { fill: ${palette.ink}; }
.grid { stroke: ${palette.faint}; } .axis { stroke: ${palette.ink}; }
.curve { stroke: ${palette.line}; } .band { fill: ${palette.cut}; }
.cut { stroke: ${palette.cut}; } .detected { stroke: ${palette.detected}; }
.active { stroke: ${palette.active}; } .address { stroke: ${palette.address}; }
.first { stroke: ${palette.first}; }`;
}

const STYLE = `
text { font: 13px system-ui, sans-serif; }
.title { font-size: 17px; font-weight: 600; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.grid, .axis { stroke-width: 1; fill: none; }
.curve { stroke-width: 2; fill: none; stroke-linejoin: round; }
.band { opacity: 0.14; }
.mark { stroke-width: 2; }
.detected { stroke-dasharray: 9 4; } .active { stroke-dasharray: 2 3; } .address { stroke-dasharray: 1 5; }
.first { stroke-dasharray: 12 3 2 3; }
${colours(LIGHT)}
@media (prefers-color-scheme: dark) {
${colours(DARK)}
}
`;

const WIDTH = 900;
const LEFT = 78;
const RIGHT = WIDTH - 24;

/** The rectangle of a plot, and the ranges of its axes. */
interface Frame {
  top: number;
  bottom: number;
  /** Microseconds since the epoch. */
  from: number;
  /** Microseconds since the epoch. */
  to: number;
  /** Bytes at the bottom. */
  low: number;
  /** Bytes at the top. */
  high: number;
}

/** Draws a run as an SVG document, readable on light and dark ground. */
export function drawPicture({ title, verb, progress, moments }: Picture): string {
  const start = progress.first ?? 0;
  const end = Math.max(progress.last ?? 0, start + 1000);
  const whole: Frame = {
    top: 64,
    bottom: 330,
    from: start,
    to: end,
    low: 0,
    high: Math.max(progress.bytes, 1),
  };
  const seconds = { unit: 1e6, origin: start, label: "time since the first byte (s)" };
  const parts = [
    element("rect", { x: 0, y: 0, width: "100%", height: "100%", class: "paper" }),
    element("text", { x: LEFT, y: 34, class: "title" }, title),
    ...plot(whole, progress, verb, seconds),
  ];
  let height = 390;
  const [cut] = moments;
  const last = moments.at(-1);
  if (cut !== undefined && last !== undefined) {
    parts.push(...markAll(whole, moments, true));
    const around = Math.max(60_000, (last.time - cut.time) * 0.6);
    const from = Math.max(start, cut.time - around);
    const to = Math.min(end, last.time + around);
    const zoom: Frame = { top: 420, bottom: 660, from, to, ...reach(progress, from, to) };
    const millis = { unit: 1e3, origin: cut.time, label: "time since the failure (ms)" };
    parts.push(...plot(zoom, progress, verb, millis), ...markAll(zoom, moments, false));
    parts.push(...legend(moments, start, 728));
    height = 728 + 22 * moments.length;
  }
  return svgDocument(WIDTH, height, STYLE, title, ...parts);
}

/** The bytes at the edges of a span, so that a zoomed curve fills its plot. */
function reach(progress: Progress, from: number, to: number): { low: number; high: number } {
  const low = progress.bytesBefore(from);
  const high = progress.bytesBefore(to + 1);
  return { low, high: Math.max(high, low + 1) };
}

const x = (frame: Frame, time: number): number =>
  LEFT + (time - frame.from) / (frame.to - frame.from) * (RIGHT - LEFT);

const y = (frame: Frame, bytes: number): number =>
  frame.bottom - (bytes - frame.low) / (frame.high - frame.low) * (frame.bottom - frame.top);

/** Axes, grid and curve. */
function plot(
  frame: Frame,
  progress: Progress,
  verb: string,
  time: { unit: number; origin: number; label: string },
): Markup[] {
  const parts: Markup[] = [];
  const [unit, factor] = frame.high >= 2e6 ? ["MB", 1e6] : ["kB", 1e3];
  for (const value of ticks(frame.low / factor, frame.high / factor, 5)) {
    const at = y(frame, value * factor);
    parts.push(element("line", { x1: LEFT, x2: RIGHT, y1: at, y2: at, class: "grid" }));
    parts.push(element("text", { x: LEFT - 8, y: at + 4, class: "end" }, String(value)));
  }
  const span = [frame.from, frame.to].map((edge) => (edge - time.origin) / time.unit);
  for (const value of ticks(span[0]!, span[1]!, 9)) {
    const at = x(frame, time.origin + value * time.unit);
    parts.push(element("line", { x1: at, x2: at, y1: frame.top, y2: frame.bottom, class: "grid" }));
    parts.push(
      element("text", { x: at, y: frame.bottom + 18, class: "middle" }, String(value)),
    );
  }
  parts.push(
    element("path", {
      class: "axis",
      d: pathData([[LEFT, frame.top], [LEFT, frame.bottom], [RIGHT, frame.bottom]]),
    }),
    element("text", { x: LEFT, y: frame.top - 8 }, `${unit} ${verb}`),
    element("text", { x: RIGHT, y: frame.bottom + 38, class: "end" }, time.label),
    element("path", { class: "curve", d: pathData(curve(frame, progress)) }),
  );
  return parts;
}

/** The curve within the frame as steps, at most a few points for each pixel's column. */
function curve(frame: Frame, progress: Progress): [number, number][] {
  const start = progress.bytesBefore(frame.from);
  const points: [number, number][] = [[LEFT, y(frame, start)]];
  let level = start;
  let column = -1;
  for (let index = progress.indexAt(frame.from); index < progress.length; index++) {
    const { time, bytes } = progress.at(index);
    if (time > frame.to) break;
    const at = x(frame, time);
    if (Math.floor(at * 2) !== column) {
      points.push([at, y(frame, level)]);
      column = Math.floor(at * 2);
    } else points.pop();
    points.push([at, y(frame, bytes)]);
    level = bytes;
  }
  return points;
}

/** The marks of all moments, and a band from the first to the last of them. */
function markAll(frame: Frame, moments: readonly Moment[], band: boolean): Markup[] {
  const parts: Markup[] = [];
  const from = x(frame, moments[0]!.time);
  const to = x(frame, moments.at(-1)!.time);
  if (band) {
    parts.push(element("rect", {
      class: "band",
      x: from,
      y: frame.top,
      width: Math.max(1, to - from),
      height: frame.bottom - frame.top,
    }));
  }
  for (const { time, look } of moments) {
    const at = x(frame, time);
    parts.push(
      element("line", {
        x1: at,
        x2: at,
        y1: frame.top - 4,
        y2: frame.bottom,
        class: `mark ${look}`,
      }),
    );
  }
  return parts;
}

function legend(moments: readonly Moment[], start: number, top: number): Markup[] {
  const origin = moments[0]!.time;
  return moments.flatMap(({ label, time, look }, index) => {
    const at = top + 22 * index - 6;
    const when = index === 0
      ? `at ${((time - start) / 1e6).toFixed(3)} s`
      : `after ${formatMillis((time - origin) / 1000)}`;
    return [
      element("line", { x1: LEFT, x2: LEFT + 34, y1: at, y2: at, class: `mark ${look}` }),
      element("text", { x: LEFT + 44, y: at + 4 }, label),
      element("text", { x: LEFT + 360, y: at + 4, class: "end" }, when),
    ];
  });
}
