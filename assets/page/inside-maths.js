/** Interpolation between the strengths at which noise was measured in a model. Does not use the DOM. */

/**
 * Locate a strength among the measured strengths, which are in ascending order. Index `low` is the measured strength below it
 * (-1 for no noise), and `share` is the fraction of the distance to the next. If `beyond`, it is clamped to the last.
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
 * Interpolate numbers linearly between measured strengths; null if a number is missing.
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
 * Return the measured strength nearest to another strength: 0 for no noise, 1 for the first measured strength. Any noise, however
 * weak, is shown by a measured strength.
 * @param {number[]} strengths
 * @param {number} strength
 */
export const nearestOf = (strengths, strength) => {
  if (!strength) return 0;
  const distances = strengths.map((measured) => Math.abs(measured - strength));
  return 1 + distances.indexOf(Math.min(...distances));
};

/**
 * Return the index of the token before the last word of a sentence.
 * @param {string[]} tokens
 * @param {number} first the smallest index to return
 */
export const beforeLastWord = (tokens, first) => {
  for (let place = tokens.length - 1; place > first; place -= 1) if (/^[\s▁Ġ]?\p{L}/u.test(tokens[place])) return place - 1;
  return first;
};
