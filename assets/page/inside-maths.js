/** Reading between the strengths at which noise was followed through a model. Nothing here knows the page. */

/**
 * Where a strength lies among the measured ones, which ascend: after `low` of them (-1: before the first one, where the
 * sentence is clean) at `share` of the way to the next; `beyond` the last one it stays there.
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
 * Numbers at a place among the strengths, in a straight line between those on both sides; null where there are none.
 * @param {any[]} measured nested lists, one for each strength
 * @param {number} clean what every number is without noise
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
 * The place after which the last word of a sentence follows: what a class is asked to foresee.
 * @param {string[]} tokens
 * @param {number} first
 */
export const beforeLastWord = (tokens, first) => {
  for (let place = tokens.length - 1; place > first; place -= 1) if (/^[\s▁Ġ]?\p{L}/u.test(tokens[place])) return place - 1;
  return first;
};
