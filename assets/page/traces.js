/** Plotly traces and layouts on the page and in reports: themes, narrow screens, logarithmic axes, and export as CSV. */
import { runningMeans } from "./numbers.js";

/** Width in pixels below which a figure is laid out for a phone. */
export const NARROW = 640;

/** Return whether a value is an object other than an array. @param {unknown} value */
const isTable = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/**
 * Merge two objects recursively; values of `over` take precedence.
 * @param {Record<string, any>} under
 * @param {Record<string, any> | undefined} over
 */
export const merged = (under, over) => {
  const result = { ...under };
  for (const [key, value] of Object.entries(over || {}))
    result[key] = isTable(value) && isTable(result[key]) ? merged(result[key], value) : value;
  return result;
};

/**
 * Return a copy with every `var(--lab-...)` replaced by its value in the current theme. Arrays of numbers are not copied.
 * @param {any} value
 * @param {CSSStyleDeclaration} style
 * @returns {any}
 */
export const coloured = (value, style) => {
  if (typeof value === "string") return value.startsWith("var(--") ? style.getPropertyValue(value.slice(4, -1)).trim() : value;
  if (Array.isArray(value))
    return isNumeric(value) ? value : value.map((part) => coloured(part, style));
  if (!isTable(value)) return value;
  /** @type {Record<string, any>} */
  const result = {};
  for (const key in value) result[key] = coloured(value[key], style);
  return result;
};

/**
 * Return whether an array consists of numbers. Only both ends are checked; a colour-scale stop has a number and a colour.
 * @param {any[]} values
 */
const isNumeric = (values) => typeof values[0] === "number" && typeof values[values.length - 1] === "number";

/**
 * Return the layout of a figure at a width, with logarithmic or unchanged vertical axes.
 * @param {Figure} figure
 * @param {number} width
 * @param {boolean} log
 * @returns {Layout}
 */
export const laidOut = ({ data, layout, narrow }, width, log) => {
  /** @type {Layout} */
  const laid = { ...(width < NARROW ? merged(layout, narrow) : layout), width };
  return log ? onLogarithms(laid, data) : laid;
};

const MAGNIFIED = new Set(["size", "standoff", "height", "l", "r", "t", "b"]);

/**
 * Scale the type, margins, markers and lines of a layout or of traces.
 * @param {any} value
 * @param {number} factor
 * @param {string} [of] key of the value
 * @returns {any}
 */
export const magnified = (value, factor, of = "") => {
  if (factor === 1) return value;
  if (Array.isArray(value)) return isNumeric(value) ? value : value.map((part) => magnified(part, factor));
  if (!isTable(value)) return value;
  /** @type {Record<string, any>} */
  const result = {};
  for (const [key, inner] of Object.entries(value)) {
    const grows = typeof inner === "number" && (MAGNIFIED.has(key) || (key === "width" && of === "line"));
    result[key] = grows ? inner * factor : magnified(inner, factor, key);
  }
  return result;
};

/**
 * Return the layout with logarithmic vertical axes. Axes that span a factor of ten have ticks at 1, 2 and 5. A zoom on the
 * linear scale is not kept.
 * @param {Layout} layout
 * @param {Trace[]} traces
 */
const onLogarithms = (layout, traces) => {
  const result = { ...layout };
  for (const name of Object.keys(layout)) {
    if (!name.startsWith("yaxis")) continue;
    const mine = traces.filter((trace) => "yaxis" + (trace.yaxis ?? "y").slice(1) === name);
    const values = mine.flatMap((trace) => trace.y).filter((value) => value > 0);
    const [least, most] = values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, 0]);
    const marks = most >= 10 * least ? { dtick: "D2" } : {};
    result[name] = { ...layout[name], ...marks, type: "log", rangemode: "normal", tickformat: "~g", uirevision: "log" };
  }
  return result;
};

/**
 * Encode the uids of traces for use in class names, which Plotly uses to find its nodes.
 * @param {Trace[]} traces
 */
export const named = (traces) => traces.map((trace) => ({ ...trace, uid: String(trace.uid).replace(/[^\w-]/g, coded) }));
/** @param {string} letter */
const coded = (letter) => "_" + letter.codePointAt(0)?.toString(16);

/**
 * Replace noisy traces by their running means.
 * @param {Trace[]} traces
 * @param {number | undefined} past decay of the means; 0 or undefined changes nothing
 */
export const smoothed = (traces, past) =>
  past ? traces.map((trace) => (trace.meta?.noisy ? { ...trace, y: runningMeans(trace.y, past) } : trace)) : traces;

/**
 * Return traces as CSV with one row per point: trace, label, x, y, and the base of a bar that does not start at zero. Cells
 * of a heatmap have a value `z`.
 * @param {Trace[]} traces
 */
export const csv = (traces) => {
  const hasMap = traces.some(({ z }) => z);
  const rows = [["trace", "label", "x", "y", "base", ...(hasMap ? ["z"] : [])]];
  for (const { uid, name, x, y = [], z, text, customdata, base, meta } of traces)
    if (z) z.forEach((/** @type {any[]} */ row, /** @type {number} */ line) =>
      row.forEach((value, column) => rows.push([uid || name, text?.[line]?.[column], x[column], y[line], "", value])),
    );
    else (meta?.level ? y.slice(0, 1) : y).forEach((/** @type {any} */ value, /** @type {number} */ index) =>
      rows.push([uid || name, (customdata || text)?.[index], x[index], value, base?.[index]]),
    );
  return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
};

/** Format a value as a CSV cell. @param {unknown} value */
export const cell = (value) => {
  // Spreadsheets run text that begins like a formula, and the tokens include visitors' texts.
  const text = (typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? "'" : "") + (value ?? "");
  return /[",\n\r]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
};
