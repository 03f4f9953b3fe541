/** The summary of the noise in the strip, with every strength of the next study. */
import { listInUnit } from "./noise.js";
import { listed } from "./numbers.js";
import { on, say } from "./parts.js";
import { agreeing, text, unitName } from "./text.js";

/** @type {Record<string, string>} */
const KIND_NAMES = {
  uniform: text("uniform"),
  gaussian: text("Gaussian"),
  laplace: text("Laplace"),
  bernoulli: text("Bernoulli"),
  symmetric: text("symmetric"),
  adversarial: text("adversarial"),
  "token-dropout": text("token dropout"),
};
/** @type {Record<string, string>} */
const ONLY = { prompt: text("prompt only"), response: text("response only") };

/**
 * Return the display name of a model: its own name, or the translated words for the bundled model.
 * @param {string} name
 */
export const modelName = (name) => (name === "bundled model" ? text("bundled model") : name);

/** @type {NoiseMessage | null} */
let shown = null;
/** @type {number[]} */
let more = [];
/** The number of arms with other methods. */
let methods = 0;

/** Format a strength with as many digits as the name of its arm has. @param {number} value */
const digits = (value) => String(Number(value.toPrecision(6)));

/** Join distinct strengths in ascending order. @param {number[]} strengths */
const joined = (strengths) => {
  const each = [...new Set(strengths)].sort((one, other) => one - other).map(digits);
  return each.length > 1 ? text("{first} and {last}", { first: each.slice(0, -1).join(text(", ")), last: each.at(-1) }) : each[0];
};

const sayNoise = () => {
  if (!shown) return;
  const { payload, controls } = shown;
  const strengths = joined([controls.strength, ...more].filter((value) => value > 0));
  const name = KIND_NAMES[controls.kind];
  const kind = controls.kind in payload.dropped_below ? name : text("{kind} noise", { kind: name });
  const ofNoise = strengths ? [`${kind}${text(", ")}${unitName(controls.unit)} ${strengths}`, ...special(payload, controls)] : [];
  const others = methods ? [agreeing(methods, "1 arm with another method", "{count} arms with other methods")] : [];
  const noise = [...ofNoise, ...others].join(text(", ")) || text("no noise");
  say("other-arms", otherArms(controls));
  say("strip", payload.model ? { noise, model: modelName(payload.model) } : { noise });
};

/**
 * Explain why the strip lists strengths that the Noise tab does not show; "" if there are none.
 * @param {NoiseControls} controls
 */
const otherArms = ({ strength, unit }) => {
  const strengths = joined(more.filter((value) => value !== strength));
  if (!strengths) return "";
  if (strength > 0) return text("The next study uses this strength and, from the Train tab, {unit} {strengths}.", { unit: unitName(unit), strengths });
  return text("Strength 0 adds no arm to the next study; the Train tab adds {unit} {strengths}.", { unit: unitName(unit), strengths });
};

/**
 * Describe settings of tokens, sites and schedule that differ from the defaults.
 * @param {Payload} payload
 * @param {NoiseControls} controls
 */
const special = (payload, controls) => [
  ...(controls.length_rule === "padded" ? [text("padded length")] : []),
  ...(controls.tokens !== "all" ? [ONLY[controls.tokens]] : []),
  ...(controls.special_tokens ? [] : [text("no special tokens")]),
  ...(controls.sites.trim() !== "embedding" ? [text("at {place}", { place: controls.sites.trim() })] : []),
  ...(controls.schedule !== "constant" ? [payload.schedules[controls.schedule].toLowerCase().replace(/ ?[(（].*/, "")] : []),
];

on("figure:noise", (made) => {
  shown = made;
  sayNoise();
});

/**
 * Update the strip with the further arms that are set on the Train tab.
 * @param {string} strengths
 * @param {...string} boxes values of the arms with other methods; if omitted, these arms are unchanged
 */
export const moreStrengths = (strengths, ...boxes) => {
  more = listed(strengths);
  if (boxes.length) methods = boxes.flatMap(listed).length;
  sayNoise();
};

/**
 * Convert the text of further strengths to another unit and update the strip, because a closed tab emits no event.
 * @param {string} strengths
 * @param {InUnit["unit"]} unit
 * @param {string} together
 */
export const strengthsInUnit = async (strengths, unit, together) => {
  const found = await listInUnit(strengths, unit, together);
  if (typeof found === "string") moreStrengths(found);
  return found;
};
