/** Measurements inside the model for the Depth (noise-depth.js) and Next word (noise-next.js) views.

   neftune_core/evaluation/noise_propagation.py measures at all strengths in one call, only while one of these views is open. */
import { visible } from "./noise-words.js";
import { text } from "./text.js";

const LABELS = 48; // above this number of tokens, only some are labelled on an axis

/** @type {Inside | null} */
let inside = null;

/**
 * Return the measurements for this sentence and noise, or explain why there are none.
 * @param {Payload} payload
 * @param {NoiseControls} controls
 * @returns {{found: Inside, words?: undefined} | {found?: undefined, words: string}}
 */
export const ready = (payload, controls) => {
  if (!inside || wanted(payload, controls) !== wanted(inside, inside.asked))
    return { words: text("Measuring the noise inside the model …") };
  return inside.problem ? { words: inside.problem } : { found: inside };
};

/**
 * Return a key made of everything that the measurements depend on.
 * @param {{key: string}} payload
 * @param {Inside["asked"]} controls
 */
export const wanted = ({ key }, { kind, unit, length_rule: rule, tokens, special_tokens: special }) =>
  JSON.stringify([key, kind, unit, rule, tokens, special]);

/**
 * Return a token without its leading space, with white space made visible.
 * @param {string} token
 */
export const bare = (token) => visible(token.replace(/^[ ▁](?=.)/, ""));

/**
 * Return the label of a token on a Plotly axis.
 * @param {string} token
 */
export const label = (token) => {
  const shown = bare(token);
  return (shown.length > 14 ? shown.slice(0, 13) + "…" : shown).replaceAll("<", "&lt;");
};

/**
 * Return a horizontal axis with token labels.
 * @param {string[]} tokens
 * @param {number} first
 */
export const axisOf = (tokens, first = 0) => {
  const every = Math.max(1, Math.ceil((tokens.length - first) / LABELS));
  const tickvals = tokens.map((_, place) => place).filter((place) => place >= first && (place - first) % every === 0);
  return { tickvals, ticktext: tickvals.map((place) => label(tokens[place])), range: [first - 0.6, tokens.length - 0.4] };
};

/**
 * Store the measurements sent by the server.
 * @param {Inside | null} found
 */
export const receive = (found) => {
  inside = found;
};

/**
 * Return whether the stored measurements have this key.
 * @param {string} key
 */
export const isHere = (key) => inside !== null && wanted(inside, inside.asked) === key;
