/** The Density view of the Noise tab: a histogram of the drawn noise, with its theoretical density. */
import { line, upright } from "./noise-views.js";
import { views } from "./noise.js";
import { theory, UNIFORM_REACH } from "./noise-maths.js";
import { ceiling, mean, short } from "./numbers.js";
import { text } from "./text.js";

/**
 * Describe each density at a standard deviation.
 * @type {Record<string, (std: number) => string>}
 */
const SHAPES = {
  uniform: (std) => text("uniform density on ±{reach}", { reach: short(UNIFORM_REACH * std) }),
  gaussian: () => text("Gaussian density"),
  laplace: () => text("Laplace density"),
  bernoulli: (std) => text("Bernoulli distribution on ±{reach}", { reach: short(std) }),
};

/**
 * Return a histogram as a density, as bars.
 * @param {Payload} payload
 * @param {string} name
 * @param {number[]} counts number of values in each bin
 * @param {number} deviation standard deviation; the width of a bin is a fraction of it
 * @param {string} colour
 * @param {number} opacity
 * @returns {Trace}
 */
const histogram = (payload, name, counts, deviation, colour, opacity) => {
  const width = deviation / payload.bins_a_deviation;
  const total = payload.length * payload.width;
  return {
    type: "bar",
    uid: name,
    name,
    x: counts.map((_, bin) => (bin - counts.length / 2 + 0.5) * width),
    y: counts.map((count) => count / total / width),
    width,
    opacity,
    marker: { color: colour, line: { width: 0 } },
    hovertemplate: name + text(": ") + "%{y:.3g}<extra></extra>",
  };
};

/**
 * Draw the random numbers of token dropout, one per token.
 * @param {Payload} payload
 * @param {NoiseControls} controls
 * @returns {Drawn}
 */
const dropped = (payload, controls) => {
  const [grey, warm] = payload.colours;
  const count = 10;
  const counts = Array(count).fill(0);
  const below = payload.dropped_below[controls.kind];
  for (const value of below) counts[Math.min(count - 1, Math.floor(value * count))] += 1;
  const x = counts.map((_, bin) => (bin + 0.5) / count);
  const density = counts.map((found) => (found * count) / payload.length);
  const gone = below.filter((value) => value < controls.strength).length;
  const drawn = { ...histogram(payload, text("numbers drawn, one per token"), counts, 1, grey, 1), x, y: density, width: 1 / count };
  return {
    data: [drawn, line(text("uniform density"), [0, 1], [1, 1], warm)],
    layout: {
      xaxis: { range: [0, 1], title: { text: text("number drawn for a token") } },
      yaxis: { range: [0, ceiling(1.05 * Math.max(...density))] },
      shapes: [upright(controls.strength)],
    },
    summary: text(
      "A uniform random number is drawn for each token except the first, which is never dropped. If the number is " +
        "below {share}, the token is set to zero; in this draw, this applies to {gone} of {count} tokens.",
      { share: short(controls.strength), gone, count: payload.length },
    ),
  };
};

views.density = (payload, controls, result) => {
  if (result.drops) return dropped(payload, controls);
  const [grey, warm] = payload.colours;
  const { deviation } = result;
  const { root_mean_square: signal, bins_a_deviation: bins } = payload;
  const clean = histogram(payload, text("clean coordinates"), payload.clean_histogram, signal, grey, 0.45);
  if (!deviation) {
    const reach = ceiling(4 * signal);
    const layout = { xaxis: { range: [-reach, reach] }, yaxis: { range: [0, ceiling(1.05 * Math.max(...clean.y))] } };
    const alone = text("Without noise, only the clean coordinates are shown. Their root mean square is {signal}.", { signal: short(signal) });
    return { data: [clean], layout, summary: alone };
  }
  const name = payload.kinds[controls.kind];
  const draw = payload.draws[name];
  const drawn = histogram(payload, text("drawn noise"), draw.histogram, deviation, warm, 0.55);
  const expected = theory(name, deviation, bins);
  const sampled = deviation * Math.sqrt(mean(draw.square) / payload.width);
  const reach = ceiling(Math.max(3.2 * signal, 3.2 * deviation));
  const highest = Math.max(...clean.y, ...drawn.y, ...expected.y.map(Number));
  const shape = SHAPES[name](deviation);
  return {
    data: [clean, drawn, line(text("theoretical density"), expected.x, expected.y, "var(--lab-text)")],
    layout: { xaxis: { range: [-reach, reach] }, yaxis: { range: [0, ceiling(1.05 * highest)] } },
    summary:
      text(
        "{count} numbers drawn from the {density}: their standard deviation is {sampled} ({std} in theory). The clean " +
          "coordinates have a root mean square of {signal}.",
        {
          count: (payload.length * payload.width).toLocaleString("en"),
          density: shape,
          sampled: short(sampled),
          std: short(deviation),
          signal: short(signal),
        },
      ),
  };
};
