/** Facts about the page that decide whether a lesson's tasks are done.

   A fact has a name and a value, a number or a word (listed in assets/lessons/facts.toml). The condition of a task consists
   of comparisons joined by `and`, and of alternatives joined by `or`. */
import { currentTab } from "./address.js";
import { read, watch as watchControls } from "./controls.js";
import { flips } from "./noise-views.js";
import { on, part } from "./parts.js";

/** @type {Record<string, any>} */
export const facts = {};
/** @type {(() => void)[]} */
const observers = [];
/** @type {Record<string, (value: any, expected: string) => boolean>} */
const OPERATORS = {
  ">=": (value, expected) => Number(value) >= Number(expected),
  "<=": (value, expected) => Number(value) <= Number(expected),
  "=": (value, expected) => String(value) === expected || Number(value) === Number(expected),
  "!=": (value, expected) => String(value) !== expected,
};

/**
 * Return whether a condition holds for the current facts.
 * @param {string} condition
 */
export const holds = (condition) =>
  condition.split(" or ").some((part) =>
    part.split(" and ").every((comparison) => {
      const [name, operator, value] = comparison.trim().split(" ");
      return name in facts && OPERATORS[operator](facts[name], value);
    }),
  );

/**
 * Set a fact, and call the observers if it has changed.
 * @param {string} name
 * @param {any} value
 */
export const fact = (name, value) => {
  if (facts[name] === value) return;
  facts[name] = value;
  for (const observer of observers) observer();
};

/** Call `observer` whenever a fact changes. @param {() => void} observer */
export const onFact = (observer) => observers.push(observer);

part("facts", ({ props, watch }) => {
  const take = () => {
    for (const [name, value] of Object.entries(props.value || {})) fact(name, value);
  };
  watch("value", take);
  take();
});

const seenKinds = new Set();
const seenLengths = new Set();
/** Restart the counts of seen kinds, lengths and recorded results. */
export const seeAnew = () => {
  for (const name of ["recorded.step", "sweep.recorded"]) delete facts[name];
  seenKinds.clear();
  seenLengths.clear();
  seeNow();
};
/** Count the kind and the length that the Noise tab currently shows. */
const seeNow = () => {
  if (!("noise.kind" in facts)) return;
  seenKinds.add(facts["noise.kind"]);
  seenLengths.add(facts["noise.length"]);
  const seen = { kinds_seen: seenKinds.size, lengths_seen: seenLengths.size, longest_seen: Math.max(...seenLengths) };
  for (const [name, value] of Object.entries(seen)) fact("noise." + name, value);
};

on("figure:noise", (/** @type {NoiseMessage} */ { payload, controls, effect, result, view }) => {
  const { strength, unit, kind, length_rule } = controls;
  const known = { strength, unit, kind, length_rule, view: view || controls.view, length: payload.length, flips: flips(payload, controls, result) ?? 0 };
  for (const [name, value] of Object.entries({ ...known, share: effect.share, angle: effect.angle })) fact("noise." + name, value);
  seeNow();
});
document.addEventListener("lab-stage-step", (event) => {
  if (event instanceof CustomEvent) fact("recorded.step", event.detail);
});
/** Note that a sweep was shown. @param {boolean} isRecorded whether the Sweep tab shows a recorded sweep */
export const sawSweep = (isRecorded) => {
  if (isRecorded && currentTab() === "Sweep") fact("sweep.recorded", 1);
};
for (const [name, id] of [
  ["train.epochs", "train-epochs"],
  ["train.seeds", "train-seeds"],
])
  watchControls([id], () => fact(name, read(id)));
