/** Means, round values for axes, and formatted numbers. Does not use the DOM. */

/** @param {number[]} values */
export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** @param {number[]} values */
export const median = (values) => {
  const sorted = [...values].sort((one, other) => one - other);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

/** Return the middle between the smallest and the largest value. @param {number[]} values */
export const middleOf = (values) => (Math.min(...values) + Math.max(...values)) / 2;

/**
 * Format a number with three significant digits, or in scientific notation below 0.001.
 * @param {number} value
 */
export const short = (value) => {
  if (value === 0) return "0";
  if (Math.abs(value) < 0.001) return value.toExponential(1).replace("e-", " × 10⁻").replace(/\d+$/, superscript);
  return String(Number(value.toPrecision(3)));
};
/** @param {string} digits */
const superscript = (digits) => [...digits].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)]).join("");

/** @param {number} share */
export const percent = (share) => short(100 * share) + "%";

/**
 * Round up to 1, 1.5, 2, 3, 5 or 7.5 times a power of ten: an axis grows in steps, so that growing bars are visible.
 * @param {number} value
 */
export const ceiling = (value) => {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return (CEILINGS.find((factor) => factor * power >= value) ?? 10) * power;
};
const CEILINGS = [1, 1.5, 2, 3, 5, 7.5, 10];

/**
 * Return the values 1, 2 and 5 times powers of ten in a range.
 * @param {number} low
 * @param {number} high
 */
export const ticks = (low, high) => {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1)
    for (const factor of [1, 2, 5]) found.push(factor * 10 ** power);
  return found.filter((value) => value >= low && value <= high);
};

/**
 * Return about four or five round numbers in a range.
 * @param {number} low
 * @param {number} high
 */
export const rounds = (low, high) => {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10) * power;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9; value += step) found.push(Number(value.toPrecision(6)));
  return found;
};

/**
 * Interpolate the value of [[step, value], ...] at a step.
 * @param {[number, number][]} points
 * @param {number} step
 */
export const at = (points, step) => {
  let before = points[0];
  for (const point of points) {
    if (point[0] >= step) {
      const share = point[0] === before[0] ? 1 : (step - before[0]) / (point[0] - before[0]);
      return before[1] + share * (point[1] - before[1]);
    }
    before = point;
  }
  return before[1];
};

/**
 * Compute an exponential moving average with decay `past` and bias correction at the start.
 * @param {(number | null)[]} values
 * @param {number} past
 */
export const runningMeans = (values, past) => {
  let [sum, mass] = [0, 0];
  return values.map((value) => {
    if (value === null || !Number.isFinite(value)) return value;
    [sum, mass] = [past * sum + value, past * mass + 1];
    return sum / mass;
  });
};

/**
 * Parse a list of positive numbers; ignore everything else.
 * @param {unknown} text
 */
export const listed = (text) => String(text || "").split(/[,;\s]+/).map(Number).filter((value) => value > 0);

/**
 * Extend the range of a slider so that it can show `value`: a higher maximum if it is beyond the end, and a finer step, down
 * to its third digit, if it is between two steps.
 * @param {Slider} range
 * @param {number} value
 */
export const reaching = (range, value) => {
  if (!(value > 0)) return range;
  const stops = value / range.step;
  const isStop = stops > 0.5 && Math.abs(stops - Math.round(stops)) < 1e-6;
  const third = Number(`1e${Math.floor(Math.log10(value)) - 2}`);
  return { ...range, maximum: Math.max(range.maximum, value), step: isStop ? range.step : Math.min(range.step, third) };
};
