/** Measurements inside the model, for the Depth (noise-depth.js) and Next word (noise-next.js) views.

   neftune_core/evaluation/noise_propagation.py makes them, at all strengths in one call, and only while one of the views
   is open. */
import { visible } from "./noise-words.js";
import { text } from "./text.js";

const LABELS = 48; // if there are more tokens than this, not all are named below an axis

/** @type {Inside | null} */
let inside = null;

/**
 * The measurements for this sentence and noise, or the reason that there are none.
 * @param {Payload} payload
 * @param {NoiseControls} controls
 * @returns {{found: Inside, words?: undefined} | {found?: undefined, words: string}}
 */
export const ready = (payload, controls) => {
  if (!inside || wanted(payload, controls) !== wanted(inside, inside.asked))
    return { words: text("Following the noise through the model …") };
  return inside.problem ? { words: inside.problem } : { found: inside };
};

/**
 * Everything that the numbers depend on, as a key.
 * @param {{key: string}} payload
 * @param {Inside["asked"]} controls
 */
export const wanted = ({ key }, { kind, unit, length_rule: rule, tokens, special_tokens: special }) =>
  JSON.stringify([key, kind, unit, rule, tokens, special]);

/**
 * A token without its leading space.
 * @param {string} token
 */
export const bare = (token) => visible(token.replace(/^[ ▁](?=.)/, ""));

/**
 * The label of a token on a Plotly axis.
 * @param {string} token
 */
export const label = (token) => {
  const shown = bare(token);
  return (shown.length > 14 ? shown.slice(0, 13) + "…" : shown).replaceAll("<", "&lt;");
};

/**
 * A horizontal axis with token labels.
 * @param {string[]} tokens
 * @param {number} first
 */
export const axisOf = (tokens, first = 0) => {
  const every = Math.max(1, Math.ceil((tokens.length - first) / LABELS));
  const tickvals = tokens.map((_, place) => place).filter((place) => place >= first && (place - first) % every === 0);
  return { tickvals, ticktext: tickvals.map((place) => label(tokens[place])), range: [first - 0.6, tokens.length - 0.4] };
};

/**
 * Store a response of the server.
 * @param {Inside | null} found
 */
export const receive = (found) => {
  inside = found;
};

/**
 * Whether the stored response has this key.
 * @param {string} key
 */
export const isHere = (key) => inside !== null && wanted(inside, inside.asked) === key;
