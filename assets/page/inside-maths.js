/** Interpolation between the strengths at which noise was measured in a model. Does not use the DOM. */

/**
 * Locate a strength among the measured ones in ascending order: after index `low` (-1: before the first, where the
 * sentence is clean), at `share` of the way to the next; clamped to the last one if `beyond`.
 * @param {number[]} strengths
 * @param {number} strength
 */
export const among = (strengths, strength) => {
  const above = strengths.findIndex((measured) => measured >= strength);
  if (above < 0) return { low: strengths.length - 1, share: 0, beyond: true };
  const [from, to] = [strengths[above - 1] ?? 0, strengths[above]];
  return { low: above - 1, share: (strength - from) / (to - from), beyond: false };
};

/**
 * Linear interpolation of numbers at a position among the strengths; null if there are none.
 * @param {any[]} measured nested lists, one per strength
 * @param {number} clean the value without noise
 * @param {{low: number, share: number}} place
 * @returns {any}
 */
export const interpolated = (measured, clean, { low, share }) => {
  const [from, to] = [measured[low], measured[Math.min(low + 1, measured.length - 1)]];
  if (Array.isArray(to)) return to.map((_, index) => interpolated(measured.map((part) => part[index]), clean, { low, share }));
  if (to === null || from === null) return null;
  return (from ?? clean) + share * (to - (from ?? clean));
};

/**
 * The measured strength nearest to another one: 0 without noise, 1 for the first of them.
 * @param {number[]} strengths
 * @param {number} strength
 */
export const nearestOf = (strengths, strength) => {
  const distances = [0, ...strengths].map((measured) => Math.abs(measured - strength));
  return distances.indexOf(Math.min(...distances));
};

/**
 * The position before the last word of a sentence, the word that a class is asked to predict.
 * @param {string[]} tokens
 * @param {number} first
 */
export const beforeLastWord = (tokens, first) => {
  for (let place = tokens.length - 1; place > first; place -= 1) if (/^[\s▁Ġ]?\p{L}/u.test(tokens[place])) return place - 1;
  return first;
};
