/** The summary of the noise in the strip: every strength of the study. */
import { listInUnit } from "./noise.js";
import { listed, short } from "./numbers.js";
import { on, say } from "./parts.js";
import { text } from "./text.js";

/** @type {Record<string, string>} */
const KIND_NAMES = {
  uniform: text("uniform"),
  gaussian: text("gaussian"),
  laplace: text("laplace"),
  bernoulli: text("bernoulli"),
  symmetric: text("symmetric"),
  adversarial: text("adversarial"),
  "token-dropout": text("token dropout"),
};
/** @type {Record<string, string>} */
const ONLY = { prompt: text("prompt only"), response: text("response only") };

/**
 * The display name of a model: its own name, except for the bundled model.
 * @param {string} name
 */
export const modelName = (name) => (name === "bundled model" ? text("bundled model") : name);

/** @type {NoiseSaid | null} */
let shown = null;
/** @type {number[]} */
let more = [];

const sayNoise = () => {
  if (!shown) return;
  const { payload, controls } = shown;
  const strengths = [controls.strength, ...more].filter((value) => value > 0);
  const each = [...new Set(strengths)].sort((one, other) => one - other).map(short);
  const joined = each.length > 1 ? text("{first} and {last}", { first: each.slice(0, -1).join(text(", ")), last: each.at(-1) }) : each[0];
  const name = KIND_NAMES[controls.kind];
  const kind = controls.kind in payload.dropped_below ? name : text("{kind} noise", { kind: name });
  const noise = joined ? [`${kind}${text(", ")}${controls.unit} ${joined}`, ...special(payload, controls)].join(text(", ")) : text("no noise");
  say("strip", payload.model ? { noise, model: modelName(payload.model) } : { noise });
};

/**
 * Short descriptions of unusual settings for where and when noise is added.
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
 * Further strengths from the text on the Train tab.
 * @param {string} strengths
 */
export const moreStrengths = (strengths) => {
  more = listed(strengths);
  sayNoise();
};

/**
 * Convert the text of further strengths to another unit, and update the strip: a closed tab emits no event.
 * @param {string} strengths
 * @param {InUnit["unit"]} unit
 * @param {string} together
 */
export const strengthsInUnit = async (strengths, unit, together) => {
  const found = await listInUnit(strengths, unit, together);
  if (typeof found === "string") moreStrengths(found);
  return found;
};
