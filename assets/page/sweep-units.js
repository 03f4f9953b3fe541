/** The unit of a sweep's strengths, which is that of the Noise tab. When it changes, the strengths are converted. */
import { read, watch } from "./controls.js";
import { within } from "./dom.js";
import { factorBetween } from "./noise.js";
import { SHARE } from "./noise-maths.js";
import { part } from "./parts.js";
import { resultsFirst } from "./results-first.js";
import { keep } from "./state.js";
import { text, unitName } from "./text.js";

part("sweep-unit", ({ element }) => {
  const words = within(element, "p");
  const show = () =>
    (words.textContent = text(
      "Strengths are in {unit}, the unit on the Noise tab. When the unit changes there, they are converted for the sentence on that tab.",
      { unit: unitName(String(read("noise-unit") || "alpha")) },
    ));
  resultsFirst(element);
  watch(["noise-unit", "noise-kind"], () => setTimeout(show));
  show();
});

const POINTS = "sweep.points";
const FIRST_SHARES = "0, 0.1, 0.3";
const FIRST_ALPHAS = "0, 5, 15";
const UNCHANGED = { __type__: "update" };
let sweepUnit = "alpha";
let heard = "";
let calls = 0;
/** For each box, what was typed, its unit, and what it was converted to. @type {Map<string, {typed: string, unit: string, shown: string}>} */
const typings = new Map();
/** For each box, the last strengths of the other sort: those in shares cannot be converted. @type {Map<string, {text: string, unit: string}>} */
const asides = new Map();

/**
 * Multiply the strengths in a text by a factor; what is not a number is unchanged.
 * @param {string} name name of the box
 * @param {string} said
 * @param {number} factor
 */
const scaled = (name, said, factor) => {
  /** @param {string} number */
  const scale = (number) => (Number.isFinite(Number(number)) ? String(Number((Number(number) * factor).toPrecision(2))) : number);
  if (name !== POINTS) return said.replace(/[^\s,;]+/g, scale);
  const lines = said.split("\n").map((line) => {
    if (/noise["']?\.["']?unit|noise["']?\s*=\s*\{[^}]*\bunit["']?\s*=/.test(line)) return line; // its strength is in this unit
    const strengths = /(noise["']?(?:\.|\s*=\s*\{(?:[^}]*[\s,])?)["']?strength["']?\s*=\s*)([^\s,}]+)/g;
    return line.replace(strengths, (_, before, number) => before + scale(number));
  });
  return lines.join("\n");
};

/**
 * Return the text of a box in another unit. A text that was converted before is converted from what was typed.
 * @param {string} name
 * @param {string} said
 * @param {string} from
 * @param {string} unit
 * @returns {string}
 */
const inUnit = (name, said, from, unit) => {
  if (!said.trim()) return said;
  if ((from === SHARE) !== (unit === SHARE)) {
    if (name === POINTS) return said;
    const aside = asides.get(name);
    asides.set(name, { text: said, unit: from });
    if (unit === SHARE) return aside?.unit === SHARE ? aside.text : FIRST_SHARES;
    return aside && aside.unit !== SHARE ? inUnit(name, aside.text, aside.unit, unit) : inUnit(name, FIRST_ALPHAS, "alpha", unit);
  }
  const before = typings.get(name);
  const { typed, unit: of } = before?.shown === said ? before : { typed: said, unit: from };
  const shown = of === unit ? typed : scaled(name, typed, factorBetween(of, unit) ?? 1);
  typings.set(name, { typed, unit: of, shown });
  return shown;
};

/**
 * Return the points, and the values of the axes, in another unit. They are unchanged if they were set together with the unit, which
 * `together` indicates once, as JSON, or if the sweep varies the unit.
 * @param {string} unit
 * @param {string} together
 * @param {string} points
 * @param {...string} axes the settings of the axes, then their values
 */
export const sweepInUnit = async (unit, together, points, ...axes) => {
  const call = (calls += 1);
  while (call === calls && factorBetween("std", "std") === null) await new Promise((go) => setTimeout(go, 50));
  const boxes = [points, ...axes.slice(axes.length / 2)];
  if (call !== calls) return boxes.map(() => UNCHANGED);
  const count = axes.length / 2;
  const names = axes.slice(0, count);
  const texts = boxes.map((said) => said ?? "");
  const set = together && together !== heard ? JSON.parse(together) : null;
  heard = together;
  const isInUnit = sweepUnit === unit || (set?.unit === unit && set.sweep) || names.includes("noise.unit");
  const from = sweepUnit;
  sweepUnit = unit;
  if (isInUnit) return texts.map(() => UNCHANGED);
  return texts.map((said, place) => {
    if (place && names[place - 1] !== "noise.strength") return UNCHANGED;
    const name = place ? `sweep.values-${place}` : POINTS;
    const found = inUnit(name, said, from, unit);
    if (found === said) return UNCHANGED; // it may have been edited during the wait
    keep(name, found); // a closed tab emits no event
    return found;
  });
};
