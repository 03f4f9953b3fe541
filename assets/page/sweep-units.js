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
let sweepUnit = "alpha";
let heard = "";
let calls = 0;
/** For each box, what was typed, its unit, and what it was converted to. @type {Map<string, {typed: string, unit: string, shown: string}>} */
const typings = new Map();
/** For each box, the last strengths of the other sort: those in shares cannot be converted. @type {Map<string, string>} */
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
    if (line.includes("noise.unit")) return line; // its strength is in this unit
    return line.replace(/(noise\.strength\s*=\s*)([^\s,}]+)/g, (_, before, number) => before + scale(number));
  });
  return lines.join("\n");
};

/**
 * Return the text of a box in another unit. A text that was converted before is converted from what was typed.
 * @param {string} name
 * @param {string} said
 * @param {string} from
 * @param {string} unit
 */
const inUnit = (name, said, from, unit) => {
  if (!said.trim()) return said;
  if ((from === SHARE) !== (unit === SHARE)) {
    const found = asides.get(name) ?? (unit === SHARE && name !== POINTS ? FIRST_SHARES : said);
    asides.set(name, said);
    return found;
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
  while (factorBetween("std", "std") === null) await new Promise((go) => setTimeout(go, 50));
  const count = axes.length / 2;
  const names = axes.slice(0, count);
  const texts = [points, ...axes.slice(count)].map((said) => said ?? "");
  const set = together && together !== heard ? JSON.parse(together) : null;
  if (call === calls) heard = together;
  const isInUnit = sweepUnit === unit || (set?.unit === unit && set.sweep) || names.includes("noise.unit");
  const from = sweepUnit;
  if (call === calls) sweepUnit = unit;
  if (isInUnit || call !== calls) return texts.map(() => ({ __type__: "update" }));
  return texts.map((said, place) => {
    if (place && names[place - 1] !== "noise.strength") return said;
    const name = place ? `sweep.values-${place}` : POINTS;
    const found = inUnit(name, said, from, unit);
    if (found !== said) keep(name, found); // a closed tab emits no event
    return found;
  });
};
