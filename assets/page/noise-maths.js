/** Computes the effect of noise on the vectors of a sentence, from data of neftune_core/noise/preview.py. Does not use the DOM.

   With u the unit draw and s the standard deviation: |e + s u|^2 = |e|^2 + 2 s (e . u) + s^2 |u|^2, and
   cos(e, e + s u) = (|e|^2 + s e . u) / (|e| |e + s u|). */
import { mean, median } from "./numbers.js";

export const SHARE = "share";

/**
 * The standard deviation at strength 1 in each unit, as in neftune_core/noise/strength.py.
 * @type {Record<string, (payload: Payload, controls: Pick<NoiseControls, "length_rule">) => number>}
 */
export const UNITS = {
  alpha: ({ length, width, padded_length: padded }, { length_rule: rule }) =>
    1 / Math.sqrt(3 * (rule === "padded" ? Math.max(length, padded) : length) * width),
  std: () => 1,
  relative: ({ root_mean_square: signal }) => signal,
};

/**
 * Convert the strength to another unit, for the same noise on this sentence.
 * @param {Payload} payload
 * @param {NoiseControls} controls
 * @param {string} wanted
 */
export const inUnit = (payload, controls, wanted) =>
  (controls.strength * UNITS[controls.unit](payload, controls)) / UNITS[wanted](payload, controls);

/**
 * Compute the norm of e + s u and its cosine to e; the cosine is null if a vector is zero.
 * @param {number} signal |e|^2
 * @param {number} dot e . u
 * @param {number} square |u|^2
 * @param {number} s
 */
export const moved = (signal, dot, square, s) => {
  const norm = Math.sqrt(Math.max(0, signal + 2 * s * dot + s * s * square));
  return { norm, cosine: signal && norm ? (signal + s * dot) / (Math.sqrt(signal) * norm) : null };
};

/**
 * Compute the effect of the noise on every token.
 * @param {Payload} payload
 * @param {NoiseControls} controls
 * @returns {TokenEffects}
 */
export const measured = (payload, controls) => {
  const below = payload.dropped_below[controls.kind];
  const drops = below !== undefined;
  const deviation = drops ? 0 : controls.strength * UNITS[controls.unit](payload, controls);
  const draw = payload.draws[payload.kinds[controls.kind]];
  /** @type {Set<number>} */
  const skipped = controls.special_tokens ? new Set() : new Set(payload.special);
  /** @type {TokenEffects} */
  const result = { drops, deviation, skipped, before: [], after: [], cosines: [], shares: [] };
  for (let place = 0; place < payload.length; place += 1) {
    const signal = payload.signal[place];
    const before = Math.sqrt(signal);
    /** @type {{norm: number, cosine: number | null}} */
    let now = { norm: before, cosine: before ? 1 : null };
    let added = 0;
    if (!skipped.has(place) && drops && below[place] < controls.strength) {
      now = { norm: 0, cosine: null };
      added = before;
    } else if (!skipped.has(place) && !drops) {
      now = moved(signal, draw.dot[place], draw.square[place], deviation);
      added = deviation * Math.sqrt(draw.square[place]);
    }
    result.before.push(before);
    result.after.push(now.norm);
    result.cosines.push(now.cosine);
    result.shares.push(before ? added / before : 0);
  }
  return result;
};

/** Convert a cosine to an angle; null becomes 90 degrees. @param {number | null} cosine */
export const degrees = (cosine) => (cosine === null ? 90 : (Math.acos(Math.min(1, Math.max(-1, cosine))) * 180) / Math.PI);

/**
 * Convert a noise-to-signal ratio of norms to the signal-to-noise ratio in decibels.
 * @param {number} share norm of the noise divided by that of the clean vector
 */
export const decibels = (share) => -20 * Math.log10(share);

/**
 * Summarise the effect: the strength in every unit, the size of the noise relative to the signal (a ratio of root mean
 * squares over the sentence, which is the strength in the unit "relative"), and the median rotation of a token.
 * @param {Payload} payload
 * @param {NoiseControls} controls
 * @param {TokenEffects} result
 * @returns {NoiseEffect}
 */
export const effectOf = (payload, controls, { drops, deviation, cosines, shares }) => {
  /** @type {Record<string, number>} */
  const equivalents = {};
  for (const unit in UNITS) equivalents[unit] = deviation / UNITS[unit](payload, controls);
  const share = drops || !shares.some(Boolean) ? median(shares) : equivalents.relative;
  return { equivalents, angle: median(cosines.map(degrees)), share, decibels: decibels(share), drops };
};

/** @param {{numbers: string}} spread */
const decoded = (spread) => {
  const bytes = Uint8Array.from(atob(spread.numbers), (letter) => letter.charCodeAt(0));
  return new Int16Array(bytes.buffer);
};

/**
 * Return the repeated draws of the chosen kind; `read(draw, place)` returns {dot, square, x, y} of a unit draw.
 * @param {Payload} payload
 * @param {Details | null} details
 * @param {NoiseControls} controls
 * @returns {Repeated | null}
 */
export const repeatedDraws = (payload, details, { kind }) => {
  const which = details ? details.spread.kinds.indexOf(payload.kinds[kind]) : -1;
  if (!details || which < 0) return null;
  const { draws } = details.spread;
  const numbers = (details.numbers ||= decoded(details.spread));
  const { length, width, fineness } = payload;
  const norms = payload.signal.map(Math.sqrt);
  /** @type {Repeated["read"]} */
  const read = (draw, place) => {
    /** @param {number} part */
    const at = (part) => numbers[((which * draws + draw) * 4 + part) * length + place] / fineness;
    return { dot: at(0) * norms[place], square: width + at(1) * Math.sqrt(width), x: at(2), y: at(3) };
  };
  return { count: draws, read };
};

/**
 * Compute, for every token, the second lowest and second highest `measure({norm, cosine})` over the repeated draws.
 * @param {Payload} payload
 * @param {Repeated | null} repeated
 * @param {TokenEffects} result
 * @param {(moved: {norm: number, cosine: number | null}) => number} measure
 * @returns {Band | null}
 */
export const bandOf = (payload, repeated, { deviation, skipped }, measure) => {
  if (!repeated || !(deviation > 0)) return null;
  /** @type {Band} */
  const band = { low: [], high: [], count: repeated.count };
  for (let place = 0; place < payload.length; place += 1) {
    const values = [];
    for (let draw = 0; draw < repeated.count; draw += 1) {
      const { dot, square } = repeated.read(draw, place);
      values.push(measure(moved(payload.signal[place], dot, square, skipped.has(place) ? 0 : deviation)));
    }
    values.sort((one, other) => one - other);
    band.low.push(values[1]);
    band.high.push(values[values.length - 2]);
  }
  return band;
};

/**
 * Return the share of the noise that survives rounding to bfloat16, interpolated between measured values.
 * @param {[number, number][]} known pairs of standard deviation and share, in ascending order
 * @param {number} deviation
 */
export const realised = (known, deviation) => {
  if (!known.length || !(deviation > 0)) return 1;
  const above = known.findIndex(([at]) => at >= deviation);
  if (above < 0) return 1;
  if (above === 0) return known[0][1];
  const [[low, least], [high, most]] = [known[above - 1], known[above]];
  return least + ((most - least) * Math.log(deviation / low)) / Math.log(high / low);
};

const ROOT3 = Math.sqrt(3);
/** The bound of uniform noise with standard deviation 1. */
export const UNIFORM_REACH = ROOT3;

/** Densities with standard deviation 1, by kind. @type {Record<string, (x: number) => number>} */
export const DENSITIES = {
  uniform: (x) => (Math.abs(x) <= ROOT3 ? 1 / (2 * ROOT3) : 0),
  gaussian: (x) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI),
  laplace: (x) => Math.exp(-Math.SQRT2 * Math.abs(x)) / Math.SQRT2,
};

/**
 * Return the theoretical density at a standard deviation, with two points at each jump. Bernoulli noise, which has two
 * values, is drawn as two vertical lines with the height of the bins.
 * @param {string} kind
 * @param {number} deviation
 * @param {number} binsADeviation
 * @returns {{x: (number | null)[], y: (number | null)[]}}
 */
export const theory = (kind, deviation, binsADeviation) => {
  if (kind === "bernoulli") {
    const height = binsADeviation / (2 * deviation);
    return { x: [-deviation, -deviation, null, deviation, deviation], y: [0, height, null, 0, height] };
  }
  const x = Array.from({ length: 181 }, (_, index) => (index - 90) / 20);
  if (kind === "uniform") x.push(-ROOT3 - 1e-9, -ROOT3, ROOT3, ROOT3 + 1e-9);
  x.sort((one, other) => one - other);
  return { x: x.map((at) => at * deviation), y: x.map((at) => DENSITIES[kind](at) / deviation) };
};

/**
 * Return the vocabulary token nearest to a noisy vector; null if it is still the original token.
 * @param {(number | string)[]} changes alternately a standard deviation and the nearest token from there on
 * @param {number} deviation
 */
export const nearest = (changes, deviation) => {
  let found = null;
  for (let index = 0; index < changes.length; index += 2)
    if (Number(changes[index]) <= deviation) found = String(changes[index + 1]);
  return found;
};

/**
 * The multiplier m(t) of every schedule, as in neftune_core/noise/schedules.py.
 * @type {Record<string, (t: number, point: number, last: number) => number>}
 */
export const SCHEDULES = {
  constant: () => 1,
  linear: (t) => 1 - t,
  cosine: (t) => 0.5 * (1 + Math.cos(Math.PI * t)),
  exponential: (t, point, last) => last ** t,
  "warm-up": (t, point) => (point > 0 ? Math.min(1, t / point) : 1),
  "switch-off": (t, point) => (t < point || point === 1 ? 1 : 0),
};

/**
 * Return the factor by which the strength is multiplied at every step of a run.
 * @param {Pick<Payload, "adaptive" | "last_share">} payload
 * @param {Pick<NoiseControls, "schedule" | "schedule_point" | "equal_energy">} controls
 */
export const multipliers = (payload, { schedule, schedule_point: point, equal_energy: equal }) => {
  const steps = payload.adaptive.length;
  if (schedule === "adaptive") return payload.adaptive;
  const found = Array.from({ length: steps }, (_, step) => SCHEDULES[schedule](step / (steps - 1), point, payload.last_share));
  const energy = mean(found.map((value) => value * value));
  return equal && energy > 0 ? found.map((value) => value / Math.sqrt(energy)) : found;
};
