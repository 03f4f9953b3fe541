/** Views of the Noise tab, named as in neftune_core/figures/noise_views.py. noise.js lists the modules of the other views.

   A view is a function (payload, controls, result, effect) => {data, layout, summary}. `result` is the effect of the noise on
   every token, and `effect` is its summary. Nothing here calls the server. */
import { band, bars, detailsOf, draws, views, whiskers } from "./noise.js";
import { decibels, multipliers, nearest, UNITS } from "./noise-maths.js";
import { ceiling, mean, median, middleOf, percent, short, ticks } from "./numbers.js";
import { agreeing, text, unitName } from "./text.js";

const LABELS = 40; // above this number of tokens, labels are shown only on hover
const MAP_HEIGHT = 300; // approximate height of the plot area, in pixels
const quiet = "var(--lab-quiet)";

/**
 * Wrap a sentence to the width of a phone. Chinese has no spaces, so it is wrapped after a punctuation mark or 18 characters.
 * @param {string} words
 */
const lines = (words) =>
  /\p{Script=Han}/u.test(words)
    ? words.replace(/(.{10,17}?[，。：；”]|.{18})(?=[^，。：；”])/gu, "$1<br>")
    : words.replace(/(.{24,36}?)\s/g, "$1<br>");

/**
 * Return an empty view with an explanation.
 * @param {string} words
 * @returns {Drawn}
 */
export const nothing = (words) => ({
  data: [],
  layout: {
    xaxis: { visible: false },
    yaxis: { visible: false },
    annotations: [{ text: lines(words), showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5, font: { size: 14, color: quiet } }],
  },
  summary: words,
});

/** @param {Payload} payload */
const places = (payload) => payload.signal.map((_, place) => place);
/**
 * Return a line as a trace.
 * @param {string} name
 * @param {(number | null)[]} x
 * @param {(number | null)[]} y
 * @param {string} colour
 * @param {object} more properties of the line
 * @returns {Trace}
 */
export const line = (name, x, y, colour, more = {}) => ({
  type: "scatter",
  mode: "lines",
  uid: name,
  name,
  x,
  y,
  line: { color: colour, width: 2, ...more },
  hovertemplate: name + text(": ") + "%{y:.3g}<extra></extra>",
});
/**
 * Return a logarithmic axis with plain numbers as tick labels.
 * @param {number} low
 * @param {number} high
 */
const logarithmic = (low, high) => {
  const values = ticks(low, high);
  return { range: [Math.log10(low), Math.log10(high)], tickvals: values, ticktext: values.map(short) };
};
/** Return a dotted line. @param {object} at */
const rule = (at, colour = "var(--lab-text)") => ({ line: { color: colour, width: 1.4, dash: "dot" }, ...at });
/** Return a horizontal line across the plot. @param {number} y */
const across = (y) => rule({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y });
/** Return a vertical line through the plot. @param {number} x */
export const upright = (x) => rule({ type: "line", yref: "paper", y0: 0, y1: 1, x0: x, x1: x });

// ------------------------------------------------------------------ cosine and signal-to-noise ratio per token
views.angles = (payload, controls, result) => {
  const [, warm] = payload.colours;
  if (result.drops) return nothing(text("A token that is set to zero has no direction; the other tokens are unchanged."));
  const cosines = result.cosines.map((cosine) => cosine ?? 0);
  const found = band(payload, controls, result, ({ cosine }) => cosine ?? 0);
  const ratios = result.shares.map((share) => (share ? decibels(share) : null));
  const known = ratios.filter((ratio) => ratio !== null);
  const reach = known.length ? [Math.min(0, ...known) - 3, Math.max(0, ...known) + 3] : [-10, 30];
  const lowest = Math.min(0, ...cosines, ...(found ? found.low : []));
  const ratioDots = {
    ...line(text("signal-to-noise ratio"), places(payload), ratios, warm),
    mode: "markers",
    marker: { color: warm, size: 7 },
    yaxis: "y2",
    showlegend: false,
    hovertemplate: text("signal-to-noise ratio") + text(": ") + "%{y:.1f} dB<extra></extra>",
  };
  const drawn = bars(payload, text("cosine of noisy and clean"), cosines, warm, 0.6);
  return {
    data: found ? [drawn, whiskers(payload, found), ratioDots] : [drawn, ratioDots],
    layout: { yaxis: { range: [lowest < 0 ? lowest - 0.05 : 0, 1.02] }, yaxis2: { range: reach } },
    summary: known.length
      ? text(
          "The median cosine between noisy and clean vectors is {cosine}, and the lowest is {least}. " +
            "The signal-to-noise ratio is {ratio} dB.",
          { cosine: short(median(cosines)), ratio: decibels(result.deviation / payload.root_mean_square).toFixed(1), least: short(Math.min(...cosines)) },
        )
      : text("Without noise, every cosine is 1."),
  };
};

// ------------------------------------------------------------------ the map: tokens and their clouds of noise in a plane
/**
 * Return the noisy positions of all tokens in the repeated draws.
 * @param {Payload} payload
 * @param {NoiseControls} controls
 * @param {TokenEffects} result
 */
const cloud = (payload, controls, { deviation, skipped }) => {
  const repeated = deviation > 0 ? draws(payload, controls) : null;
  /** @type {Points} */
  const found = { x: [], y: [] };
  if (!repeated) return found;
  for (let place = 0; place < payload.length; place += 1) {
    if (skipped.has(place)) continue;
    for (let draw = 0; draw < repeated.count; draw += 1) {
      const { x, y } = repeated.read(draw, place);
      found.x.push(payload.plane.x[place] + deviation * x);
      found.y.push(payload.plane.y[place] + deviation * y);
    }
  }
  return found;
};

/**
 * Return one coordinate of every noisy token.
 * @param {Payload} payload
 * @param {NoiseControls} controls
 * @param {TokenEffects} result
 * @param {"x" | "y"} axis
 * @param {number} origin
 */
const landed = (payload, { kind }, { drops, deviation, skipped, shares }, axis, origin) => {
  if (drops) return payload.plane[axis].map((at, place) => (shares[place] > 0 ? origin : at));
  const unit = payload.draws[payload.kinds[kind]].plane[axis];
  return payload.plane[axis].map((at, place) => (skipped.has(place) ? at : at + deviation * unit[place]));
};

/**
 * Return markers as a trace.
 * @param {string} name
 * @param {{x: (number | null)[], y: (number | null)[]}} points
 * @param {string | string[]} colour
 * @param {number} size
 * @param {object} more
 * @returns {Trace}
 */
const dots = (name, { x, y }, colour, size, more = {}) => ({
  type: "scatter",
  mode: "markers",
  uid: name,
  name,
  x,
  y,
  marker: { color: colour, size, line: { width: 0 } },
  hovertemplate: "%{text}<extra></extra>",
  ...more,
});

/**
 * Create a function that places labels and returns false for a label that would overlap an earlier one.
 * @param {number} half half the height of the plot, in data units
 */
const labelRoom = (half) => {
  const pixels = MAP_HEIGHT / (2 * half);
  /** @type {Record<"left" | "right" | "low" | "high", number>[]} */
  const taken = [];
  /**
   * @param {number} x
   * @param {number} y
   * @param {string} token
   * @param {number} size
   */
  return (x, y, token, size) => {
    const width = 0.62 * size * token.trim().length;
    const box = { left: x * pixels - width / 2, right: x * pixels + width / 2, low: y * pixels, high: y * pixels + 1.5 * size };
    const free = taken.every(({ left, right, low, high }) => box.right < left || box.left > right || box.high < low || box.low > high);
    if (free) taken.push(box);
    return free;
  };
};

views.map = (payload, controls, result) => {
  const [grey, warm] = payload.colours;
  const { plane } = payload;
  const noisy = {
    x: landed(payload, controls, result, "x", plane.origin[0]),
    y: landed(payload, controls, result, "y", plane.origin[1]),
  };
  const around = detailsOf(payload)?.nearest?.neighbours || { tokens: [], x: [], y: [] };
  const spread = cloud(payload, controls, result);
  /** @param {"x" | "y"} axis */
  const between = (axis) => plane[axis].flatMap((at, place) => [at, noisy[axis][place], null]);
  /**
   * @param {string[]} tokens
   * @param {string[]} shown
   * @param {string} colour
   * @param {number} size
   */
  const label = (tokens, shown, colour, size) => ({
    mode: "markers+text",
    text: shown,
    textposition: "top center",
    textfont: { color: colour, size },
    customdata: tokens,
    cliponaxis: false,
    hovertemplate: "%{customdata}<extra></extra>",
  });
  // The centre is fixed at the clean vectors; the range grows in steps of 20%.
  const middle = { x: middleOf([...plane.x, ...around.x]), y: middleOf([...plane.y, ...around.y]) };
  /** @param {"x" | "y"} axis */
  const furthest = (axis) =>
    Math.max(...[plane, noisy, around].flatMap((points) => points[axis]).map((at) => Math.abs(at - middle[axis])));
  // The plot is about twice as wide as it is high.
  const half = 1.2 ** Math.ceil(Math.log(1.12 * Math.max(furthest("y"), furthest("x") / 2)) / Math.log(1.2));
  const room = labelRoom(half);
  const ownLabels = payload.tokens.map((token, place) => (room(plane.x[place], plane.y[place], token, 12) ? token : ""));
  const otherLabels = around.tokens.map((token, place) => (room(around.x[place], around.y[place], token, 10) ? token : ""));
  return {
    data: [
      dots(text("repeated draws"), spread, warm, 3, { opacity: 0.35, hoverinfo: "skip", hovertemplate: undefined }),
      { ...line("way", between("x"), between("y"), warm, { width: 1 }), showlegend: false, hoverinfo: "skip", hovertemplate: undefined, opacity: 0.7 },
      dots(text("nearby vocabulary"), around, "var(--lab-line)", 6, label(around.tokens, otherLabels, quiet, 10)),
      dots(text("before noise"), plane, grey, 8, label(payload.tokens, ownLabels, "var(--lab-text)", 12)),
      dots(text("after noise"), noisy, warm, 8, { text: payload.tokens.map((token) => text("{token} after noise", { token })) }),
    ].filter(({ x }) => x.length),
    layout: {
      xaxis: { range: [middle.x - half, middle.x + half] },
      yaxis: { range: [middle.y - half, middle.y + half] },
    },
    summary:
      text("The first two principal components of the sentence explain {share} of the variance of its vectors.", {
        share: percent(plane.share),
      }) +
      " " +
      (result.drops
        ? text("A dropped token moves to the zero vector.")
        : text("In this plane, noise of every kind forms a round cloud with a standard deviation of {std} in each direction.", {
            std: short(result.deviation),
          })),
  };
};

// ------------------------------------------------------------------ the nearest token of the vocabulary
/**
 * Count the noisy tokens that are nearer to another token; null if the vocabulary has not been searched.
 * @param {Payload} payload
 * @param {NoiseControls} controls
 * @param {TokenEffects} result
 */
export const flips = (payload, controls, { drops, deviation, skipped }) => {
  const changes = drops || payload.layer ? null : detailsOf(payload)?.nearest?.changes?.[payload.kinds[controls.kind]];
  return changes ? changes.filter((each, place) => !skipped.has(place) && nearest(each, deviation) !== null).length : null;
};

/**
 * Describe the first change of the nearest token.
 * @param {string} token
 * @param {string | number | undefined} other
 */
const becomes = (token, other) =>
  other === undefined ? text("“{token}” stays", { token }) : text("“{token}” becomes “{other}”", { token, other });

views.nearest = (payload, controls, { drops, deviation, skipped }) => {
  const [grey, warm] = payload.colours;
  if (drops) return nothing(text("A token that is set to zero is no longer near any token."));
  if (payload.layer) return nothing(text("Nearest tokens are defined only at the embedding: add the embedding to the sites to see them."));
  const found = detailsOf(payload)?.nearest;
  if (!found?.changes) return nothing(found ? text("This model has no vocabulary to search.") : text("Searching the vocabulary …"));
  const scale = UNITS[controls.unit](payload, controls);
  const changes = found.changes[payload.kinds[controls.kind]].map((each, place) => (skipped.has(place) ? [] : each));
  const first = changes.map((each) => Number(each[0]) / scale || null);
  const now = changes.map((each) => nearest(each, deviation));
  const finite = first.filter((strength) => strength !== null);
  const counted = now.filter((token) => token !== null).length;
  const named = payload.length <= LABELS;
  const least = Math.min(...finite, deviation > 0 ? deviation / scale : Infinity);
  const data = {
    ...dots(text("strength of the first change"), { x: places(payload), y: first }, now.map((token) => (token === null ? grey : warm)), 9),
    mode: named ? "markers+text" : "markers",
    text: now.map((token) => (token === null ? "" : token.trim() || "␣")),
    textposition: "top center",
    textfont: { color: "var(--lab-text)", size: 12 },
    customdata: changes.map((each, place) => becomes(payload.tokens[place], each[1])),
    hovertemplate: text("%{customdata} at %{y:.3g}") + "<extra></extra>",
    showlegend: false,
  };
  const change = { strength: `${unitName(controls.unit)} ${short(Math.min(...finite))}` };
  const examples = now.flatMap((token, place) => (token === null ? [] : [text("“{from}” to “{to}”", { from: payload.tokens[place].trim(), to: token.trim() })]));
  const made = agreeing(
    counted,
    "1 of {all} noisy vectors is nearer (by Euclidean distance) to another token than to its own",
    "{count} of {all} noisy vectors are nearer (by Euclidean distance) to another token than to their own",
    { all: payload.length },
  );
  return {
    data: [data],
    layout: {
      yaxis: {
        ...(finite.length ? logarithmic(0.7 * least, 1.8 * Math.max(...finite)) : {}),
        title: { text: `${text("strength of the first change")} (${unitName(controls.unit)})` },
      },
      shapes: deviation > 0 ? [across(deviation / scale)] : [],
    },
    summary:
      (examples.length ? text("{made}: {rest}.", { made, rest: [...examples.slice(0, 4), ...(examples.length > 4 ? ["…"] : [])].join(text(", ")) }) : text("{made}.", { made })) +
      (finite.length ? " " + text("The first change occurs at {strength}; the dotted line marks the current strength.", change) : ""),
  };
};

// ------------------------------------------------------------------ the strength at other lengths
views.length = (payload, controls, { drops, deviation }) => {
  const [grey, warm] = payload.colours;
  if (drops) return nothing(text("The share of dropped tokens is the same at every length."));
  if (!deviation) return nothing(text("No noise: raise the strength to see how the noise depends on the length."));
  const { width, length, padded_length: padded } = payload;
  const alpha = deviation / UNITS.alpha(payload, controls);
  const x = Array.from({ length: 56 }, (_, index) => 2 ** (index / 5));
  const names = [text("alpha, true length"), text("alpha, padded to {length}", { length: padded }), text("constant std")];
  /** @type {((tokens: number) => number)[]} */
  const rules = [
    (tokens) => alpha / Math.sqrt(3 * tokens * width),
    (tokens) => alpha / Math.sqrt(3 * Math.max(tokens, padded) * width),
    () => deviation,
  ];
  const chosen = controls.unit === "alpha" ? (controls.length_rule === "padded" ? 1 : 0) : 2;
  const dashes = ["solid", "dash", "dot"];
  const data = rules.map((std, place) =>
    line(names[place], x, x.map(std), place === chosen ? warm : grey, { dash: dashes[place], width: place === chosen ? 3 : 1.6 }),
  );
  const heights = data.flatMap(({ y }) => y);
  const here = { ...dots(text("your sentence"), { x: [length], y: [deviation] }, warm, 11), hovertemplate: text("your sentence") + text(": ") + "%{y:.3g}<extra></extra>" };
  return {
    data: [...data, here],
    layout: {
      xaxis: { range: [0, Math.log10(2048)] },
      yaxis: logarithmic(0.7 * Math.min(...heights), 1.4 * Math.max(...heights)),
    },
    summary: agreeing(
      length,
      "For your token, the standard deviation is {std}. With the true length, alpha {alpha} gives {ten} for 10 tokens and " +
        "{thousand} for 1,000; padded to {padded}, short sentences get at most {least}.",
      "For your {count} tokens, the standard deviation is {std}. With the true length, alpha {alpha} gives {ten} for 10 tokens " +
        "and {thousand} for 1,000; padded to {padded}, short sentences get at most {least}.",
      {
        std: short(deviation),
        alpha: short(alpha),
        ten: short(rules[0](10)),
        thousand: short(rules[0](1000)),
        padded,
        least: short(rules[1](1)),
      },
    ),
  };
};

// ------------------------------------------------------------------ the schedule over the run
views.schedule = (payload, controls) => {
  const [grey, warm] = payload.colours;
  const factors = multipliers(payload, controls);
  const x = factors.map((_, step) => (100 * step) / (factors.length - 1));
  const y = factors.map((factor) => factor * controls.strength);
  const name = payload.schedules[controls.schedule];
  const energy = mean(factors.map((factor) => factor * factor));
  const made = controls.schedule === "adaptive" ? " " + text("Drawn for a made-up training loss that falls by half; in a real run, the schedule follows the actual loss.") : "";
  const constant = line(text("constant"), [0, 100], [controls.strength, controls.strength], grey, { dash: "dash", width: 1.6 });
  return {
    data: [
      ...(controls.schedule === "constant" ? [] : [constant]),
      line(name, x, y, warm, { width: 3, shape: controls.schedule === "switch-off" ? "hv" : "linear" }),
    ],
    layout: {
      yaxis: { range: [0, ceiling(1.05 * Math.max(...y, controls.strength))], title: { text: `${text("strength")} (${unitName(controls.unit)})` } },
    },
    summary: controls.schedule === "constant"
      ? text("Constant: {strength} at every step. The other schedules are under “Where and when”.", {
          strength: `${unitName(controls.unit)} ${short(controls.strength)}`,
        })
      : text(
          "{name}: from {first} at the first step to {last} at the last, {mean} on average; its mean square is {share} of " +
            "that of the constant schedule.",
          { name, first: `${unitName(controls.unit)} ${short(y[0])}`, last: short(y[y.length - 1]), mean: short(mean(y)), share: percent(energy) },
        ) + made,
  };
};
