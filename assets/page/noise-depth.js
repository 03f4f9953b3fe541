/** The Depth view of the Noise tab: the disturbance per token and layer, interpolated between the measured strengths. */
import { fact } from "./facts.js";
import { axisOf, label, ready } from "./inside.js";
import { among, interpolated } from "./inside-maths.js";
import { decibels } from "./noise-maths.js";
import { line, nothing } from "./noise-views.js";
import { views } from "./noise.js";
import { ceiling, percent, short } from "./numbers.js";
import { text, unitName } from "./text.js";

const MOST = 1.5; // relative size at the end of the colour scale
const ROWS = 16; // above this number of layers, only some are labelled

/** Format a relative size as a signal-to-noise ratio. @param {number} size */
const ratio = (size) => (size > 0 ? `${decibels(size).toFixed(1)} dB`.replace("-", "−") : "∞");

/** @param {number | null} value */
const known = (value) => (value === null ? "–" : short(value));

/** @param {Inside} found */
const isPair = ({ layers }) => layers.some(([part]) => part === "encoder");

/**
 * Return short names of the layers: 0 is the embedding; E and D stand for encoder and decoder.
 * @param {Inside} found
 */
const layerNames = (found) =>
  found.layers.map(([part, number]) => (isPair(found) ? `${part[0].toUpperCase()} ${number}` : String(number)));

/**
 * Interpolate the values of a curve between two measured strengths.
 * @param {OverDraws} measured
 * @param {number} clean
 * @param {{low: number, share: number}} place
 * @returns {AtLayers}
 */
const between = ({ mean, low, high }, clean, place) => ({
  mean: interpolated(mean, clean, place),
  low: interpolated(low, clean, place),
  high: interpolated(high, clean, place),
});

/**
 * Return a curve over the layers, with a gap between encoder and decoder.
 * @param {Inside} found
 * @param {(number | null)[]} values
 * @returns {{x: (number | null)[], y: (number | null)[]}}
 */
const overLayers = ({ layers }, values) => {
  const starts = layers.findIndex(([part]) => part !== layers[0][0]);
  const rows = values.map((_, layer) => layer);
  if (starts < 0) return { x: values, y: rows };
  return { x: values.toSpliced(starts, 0, null), y: /** @type {(number | null)[]} */ (rows).toSpliced(starts, 0, null) };
};

/**
 * Draw the mean of the draws as a line, in a band from the lowest to the highest.
 * @param {Inside} found
 * @param {string} name
 * @param {AtLayers} values
 * @param {string} colour
 * @param {string} [format] D3 number format
 * @returns {Trace[]}
 */
const banded = (found, name, values, colour, format = ".3g") => {
  const edge = { type: "scatter", mode: "lines", line: { width: 0, color: colour }, xaxis: "x2", showlegend: false, hoverinfo: "skip" };
  const names = {
    low: text("{name}, lowest of {count} draws", { name, count: found.draws }),
    high: text("{name}, highest of {count} draws", { name, count: found.draws }),
  };
  const { x, y } = overLayers(found, values.mean);
  return [
    { ...edge, uid: names.low, name: names.low, ...overLayers(found, values.low) },
    { ...edge, uid: names.high, name: names.high, ...overLayers(found, values.high), fill: "tonextx", opacity: 0.3 },
    {
      ...line(name, x, y, colour),
      mode: "lines+markers",
      marker: { color: colour, size: 5 },
      xaxis: "x2",
      hovertemplate: name + text(": ") + `%{x:${format}}<extra></extra>`,
    },
  ];
};

/**
 * Return the heatmap of tokens and layers.
 * @param {Inside} found
 * @param {(number | null)[][]} sizes
 * @param {(number | null)[][]} cosines
 * @param {string} warm
 * @returns {Trace}
 */
const mapOf = (found, sizes, cosines, warm) => {
  const names = layerNames(found);
  const hover = sizes.map((row, layer) =>
    row.map((size, token) => {
      if (size === null) return "";
      const where = { token: label(found.tokens[token]), layer: names[layer] };
      return text("{token}, layer {layer}: size {size}, cosine {cosine}, signal-to-noise ratio {ratio}", {
        ...where,
        size: percent(size),
        cosine: known(cosines[layer][token]),
        ratio: ratio(size),
      });
    }),
  );
  return {
    type: "heatmap",
    uid: "map",
    name: text("relative size of the disturbance"),
    x: found.tokens.map((_, token) => token),
    y: names.map((_, layer) => layer),
    z: sizes,
    text: hover,
    hovertemplate: "%{text}<extra></extra>",
    hoverongaps: false,
    zmin: 0,
    zmax: MOST,
    xgap: 1,
    ygap: names.length > ROWS ? 0 : 1,
    colorscale: [[0, "var(--lab-surface)"], [1 / MOST, warm], [1, "var(--lab-text)"]],
    colorbar: {
      title: { text: text("relative size"), side: "top", font: { color: "var(--lab-quiet)", size: 12 } },
      orientation: "h", x: 0, xanchor: "left", y: 1, yanchor: "bottom", len: 0.6, thickness: 8, outlinewidth: 0, ypad: 6, xpad: 0,
      tickvals: [0, 0.5, 1, MOST], ticktext: [...[0, 0.5, 1].map(percent), `${percent(MOST)}+`],
      tickfont: { color: "var(--lab-quiet)", size: 11 },
    },
  };
};

views.depth = (payload, controls) => {
  const { found, words } = ready(payload, controls);
  if (!found) return nothing(words);
  const [grey, warm] = payload.colours;
  const { strengths, tokens, depth } = found;
  const place = among(strengths, controls.strength);
  const shown = `${unitName(controls.unit)} ${short(Math.min(controls.strength, strengths[strengths.length - 1]))}`;
  const [sizes, cosines] = [between(depth.lines.sizes, 0, place), between(depth.lines.cosines, 1, place)];
  fact("noise.depth", sizes.mean.at(-1));
  const names = layerNames(found);
  const every = Math.ceil(names.length / ROWS);
  const tickvals = names.map((_, layer) => layer).filter((layer) => layer % every === 0);
  const title = isPair(found) ? text("layer (encoder, decoder; 0 is the embedding)") : text("layer (0 is the embedding)");
  return {
    data: [
      mapOf(found, interpolated(depth.sizes, 0, place), interpolated(depth.cosines, 1, place), warm),
      ...banded(found, text("cosine to clean"), cosines, grey),
      ...banded(found, text("relative size"), sizes, warm, ".3p"),
    ],
    layout: {
      xaxis: axisOf(tokens),
      yaxis: { range: [-0.6, names.length - 0.4], tickvals, ticktext: tickvals.map((layer) => names[layer]), title: { text: title } },
      xaxis2: { range: [0, ceiling(1.02 * Math.max(1, ...sizes.high.map(Number)))] },
    },
    summary: depthWords(found, sizes, cosines, shown) + " " + measuredWords(found, place.beyond, controls),
  };
};

/**
 * Summarise the disturbance at one strength.
 * @param {Inside} found
 * @param {AtLayers} sizes
 * @param {AtLayers} cosines
 * @param {string} strength as text
 */
const depthWords = (found, sizes, cosines, strength) => {
  const means = sizes.mean.map(Number);
  const [first, last, most] = [means[0], means[means.length - 1], Math.max(...means)];
  if (!(most > 0)) return text("Without noise, nothing inside the model changes.");
  return text(
    "At {strength}, the disturbance is {first} of the size of the clean vectors at the embedding and {last} after the last layer, " +
      "averaged over the tokens and {draws} draws. It is largest at layer {layer} ({most}). The signal-to-noise ratio goes from " +
      "{before} to {after}, and the cosine from {turned} to {end}.",
    {
      strength,
      first: percent(first),
      last: percent(last),
      draws: found.draws,
      layer: layerNames(found)[means.indexOf(most)],
      most: percent(most),
      before: ratio(first),
      after: ratio(last),
      turned: known(cosines.mean[0]),
      end: known(cosines.mean[means.length - 1]),
    },
  );
};

/**
 * Return a sentence about the measured strengths.
 * @param {Inside} found
 * @param {boolean} beyond whether the slider is above the highest measured strength
 * @param {NoiseControls} controls
 */
const measuredWords = ({ strengths }, beyond, { unit }) =>
  beyond
    ? text("Shown at {unit} {most}, the highest strength measured.", { unit: unitName(unit), most: short(strengths[strengths.length - 1]) })
    : text("Measured at {unit} {strengths}; values in between are interpolated.", { unit: unitName(unit), strengths: strengths.map(short).join(text(", ")) });
