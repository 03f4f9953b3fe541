/** The Noise tab. Everything that depends on the strength slider is computed in the browser (noise-maths.js).

   The text and the ruler next to the figure are in noise-words.js. The Norms view is here; the other views are in
   noise-views.js, noise-density.js, noise-depth.js, noise-loss.js and noise-next.js. */
import { changed } from "./controls.js";
import { bandOf, effectOf, inUnit, measured, repeatedDraws, SHARE, UNITS } from "./noise-maths.js";
import { ceiling, listed, mean, reaching, short } from "./numbers.js";
import { on, part } from "./parts.js";
import { sources } from "./plot.js";
import { agreeing, text } from "./text.js";
import { merged } from "./traces.js";

// ------------------------------------------------------------------ repeated draws and other details that arrive later
/** @type {Details | null} */
let details = null;

/**
 * Return the details of this sentence; null until they have arrived.
 * @param {Payload} payload
 */
export const detailsOf = (payload) => (details?.key === payload.key ? details : null);

/**
 * Return the repeated draws of the chosen kind, or null.
 * @param {Payload} payload
 * @param {NoiseControls} controls
 */
export const draws = (payload, controls) => repeatedDraws(payload, detailsOf(payload), controls);

/**
 * Return the range of a measure over the repeated draws, or null.
 * @param {Payload} payload
 * @param {NoiseControls} controls
 * @param {TokenEffects} result
 * @param {(moved: {norm: number, cosine: number | null}) => number} measure
 */
export const band = (payload, controls, result, measure) => bandOf(payload, draws(payload, controls), result, measure);

/**
 * Draw a band as thin bars that start at its lower end.
 * @param {Payload} payload
 * @param {Band} band
 * @returns {Trace}
 */
export const whiskers = (payload, { low, high, count }) => {
  const name = text("{some} of {count} draws", { some: count - 2, count });
  return {
    type: "bar",
    uid: "spread",
    name,
    x: payload.signal.map((_, place) => place),
    y: high.map((value, place) => value - low[place]),
    base: low,
    width: 0.09,
    customdata: low.map((value, place) => text("{low} to {high}", { low: short(value), high: short(high[place]) })),
    marker: { color: "var(--lab-text)", line: { width: 0 } },
    hovertemplate: name + text(": ") + "%{customdata}<extra></extra>",
  };
};

/**
 * Return one bar per token as a trace.
 * @param {Payload} payload
 * @param {string} name
 * @param {number[]} y
 * @param {string} colour
 * @param {number} width
 * @returns {Trace}
 */
export const bars = (payload, name, y, colour, width) => ({
  type: "bar",
  uid: name,
  name,
  x: payload.signal.map((_, place) => place),
  y,
  text: payload.tokens,
  textposition: "none",
  width,
  marker: { color: colour, line: { width: 0 } },
  hovertemplate: name + text(": ") + "%{y:.3g}<extra></extra>",
});

// ------------------------------------------------------------------ the figure: one view of the same numbers
/** @type {Record<string, View>} */
export const views = {};

views.norms = (payload, controls, result, effect) => {
  const [grey, warm] = payload.colours;
  const { before, after } = result;
  const found = band(payload, controls, result, ({ norm }) => norm);
  const data = [
    bars(payload, text("before noise"), before, grey, 0.8),
    bars(payload, text("after noise"), after, warm, 0.44),
  ];
  const highest = Math.max(...before, ...after, ...(found ? found.high : []));
  const gone = after.filter((norm, place) => norm === 0 && before[place]).length;
  const much = effect.drops
    ? agreeing(gone, "1 of {all} tokens is set to zero.", "{count} of {all} tokens are set to zero.", { all: payload.length })
    : text("median rotation of a token: {angle}°.", { angle: short(effect.angle) });
  return {
    data: found ? [...data, whiskers(payload, found)] : data,
    layout: { yaxis: { range: [0, ceiling(1.05 * highest)] } },
    summary: agreeing(
      payload.length,
      "1 token, a vector of width {width}. Norm {before} before noise, {after} after; {much}",
      "{count} tokens, vectors of width {width}. Mean norm {before} before noise, {after} after; {much}",
      { width: payload.width, before: short(mean(before)), after: short(mean(after)), much },
    ),
  };
};

// A strength has a unit, and the units depend on the kind. When the unit changes, the last strength read is converted and used
// until the slider shows it in the new unit.
/** @type {InUnit | null} */
let settled = null;
/** @type {{share: InUnit, other: InUnit}} */
const asides = { share: { strength: 0.1, unit: SHARE }, other: { strength: 5, unit: "alpha" } };

/**
 * Return the controls with a strength that matches their unit and kind.
 * @param {Payload} payload
 * @param {NoiseControls} controls
 * @returns {NoiseControls}
 */
const read = (payload, controls) => {
  const drops = controls.kind in payload.dropped_below;
  if (drops !== (controls.unit === SHARE)) return { ...controls, ...(drops ? asides.share : asides.other) };
  if (settled && settled.unit !== controls.unit && !drops && settled.unit !== SHARE)
    return { ...controls, strength: inUnit(payload, { ...controls, ...settled }, controls.unit) };
  settled = { strength: controls.strength, unit: controls.unit };
  asides[drops ? "share" : "other"] = settled;
  return controls;
};

/** @type {{payload: Payload, chosen: NoiseControls} | null} */
let current = null;
/** @type {Clipped | null} */
let clipped = null;

/**
 * Update the slider for another unit: the same noise on this sentence to three digits, with the range of that unit.
 * `clipped` stores a value beyond the end of the range.
 * @param {number} strength
 * @param {InUnit["unit"]} unit
 * @param {Record<string, Slider>} sliders
 */
export const changeUnit = (strength, unit, sliders) => {
  const slider = sliders[unit];
  let value = strength;
  if (settled && current && unit !== SHARE && settled.unit !== SHARE) {
    const exact = inUnit(current.payload, { ...current.chosen, ...settled }, unit);
    value = Math.min(slider.maximum, Number(exact.toPrecision(3)));
    clipped = exact > slider.maximum ? { strength: value, unit, wanted: exact, before: settled } : null;
  }
  settled = { strength: value, unit };
  changed("noise-strength");
  return { __type__: "update", ...reaching(slider, value), value };
};

/**
 * Return the unit and the slider update for another kind; kinds that drop tokens have a unit of their own.
 * @param {string} kind
 * @param {InUnit["unit"]} unit
 * @param {number} strength
 * @param {Record<string, Slider>} sliders
 */
export const changeKind = (kind, unit, strength, sliders) => {
  const drops = Boolean(current && kind in current.payload.dropped_below);
  if (drops === (unit === SHARE)) return [unit, { __type__: "update" }];
  const next = drops ? asides.share : asides.other;
  settled = next;
  changed("noise-unit", "noise-strength");
  return [next.unit, { __type__: "update", ...reaching(sliders[next.unit], next.strength), value: next.strength }];
};

/**
 * Return the figure of a preview for these controls, with the data for the text next to it.
 * @param {Payload} payload
 * @param {NoiseControls} controls
 * @returns {NoiseMessage}
 */
export const drawn = (payload, controls) => {
  const result = measured(payload, controls);
  const effect = effectOf(payload, controls, result);
  const frame = payload.views[controls.view] || payload.views.norms;
  const made = views[controls.view]?.(payload, controls, result, effect) || { data: [], layout: {}, summary: "" };
  const isClipped = clipped?.unit === controls.unit && clipped.strength === controls.strength;
  const said = { view: controls.view, payload, controls, result, effect, clipped: isClipped ? clipped : null };
  return { ...frame, ...made, layout: merged(frame.layout, made.layout), ...said };
};

sources.noise = (payload, given) => {
  if (payload !== current?.payload) settled = null; // a new preview includes the values of its controls
  current = { payload, chosen: read(payload, given) };
  return drawn(payload, current.chosen);
};

/** Redraw after details have arrived. */
export const redraw = () => {
  /** @type {FigureNode | null} */
  const node = document.querySelector("#noise-figure .lab-figure-plot");
  node?.labFigure?.draw();
};

part("noise-details", ({ props, watch, trigger }) => {
  /** @type {string | null} */
  let asked = null;
  const take = () => {
    details = props.value || null;
    if (details && details.key === current?.payload.key) redraw();
  };
  watch("value", take);
  take();
  on("figure:noise", ({ payload }) => {
    if (details?.key === payload.key || asked === payload.key) return;
    asked = payload.key;
    trigger("click");
  });
});

// ------------------------------------------------------------------ further strengths, on the Train tab
let listUnit = "alpha";
const lists = { share: "0.3", other: "15" };
let heard = "";
let calls = 0;

/**
 * Convert the text of further strengths to another unit, for about the same noise on this sentence. Strengths that were set
 * together with their unit are not converted; `together` indicates this once, as JSON.
 * @param {string} strengths
 * @param {InUnit["unit"]} unit
 * @param {string} together
 */
export const listInUnit = async (strengths, unit, together) => {
  const call = (calls += 1);
  while (!current) await new Promise((go) => setTimeout(go, 50));
  if (call !== calls) return { __type__: "update" }; // superseded by a later choice
  const set = together && together !== heard ? JSON.parse(together) : null;
  heard = together;
  const isInUnit = listUnit === unit || (set?.unit === unit && set.strengths === strengths);
  const found = isInUnit ? strengths : inOtherUnit(strengths, listUnit, unit);
  listUnit = unit;
  return found;
};

/**
 * Convert a list of strengths, given as text, from alpha to another unit.
 * @param {string} strengths
 * @param {string} unit
 */
export const fromAlpha = (strengths, unit) =>
  unit === "alpha" || !current ? strengths : inOtherUnit(strengths, "alpha", unit);

/**
 * Return the factor that converts a strength to another unit, for the same noise on this sentence; null until it has been loaded.
 * @param {string} from
 * @param {string} unit
 */
export const factorBetween = (from, unit) => {
  if (!current) return null;
  const { payload, chosen } = current;
  return UNITS[from](payload, chosen) / UNITS[unit](payload, chosen);
};

/**
 * Convert a list of strengths, given as text, between units; a share cannot be converted.
 * @param {string} strengths
 * @param {string} from
 * @param {string} unit
 */
const inOtherUnit = (strengths, from, unit) => {
  if ((from === SHARE) !== (unit === SHARE)) {
    lists[from === SHARE ? "share" : "other"] = strengths;
    return lists[unit === SHARE ? "share" : "other"];
  }
  const factor = factorBetween(from, unit) ?? 1;
  return listed(strengths).map((value) => Number((value * factor).toPrecision(2))).join(", ");
};
