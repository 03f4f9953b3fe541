/** The text next to the figure of the Noise tab: the tokens of the sentence, what the strength means, and the ruler of units. */
import { svg, within } from "./dom.js";
import { modelName } from "./noise-strip.js";
import { flips } from "./noise-views.js";
import { degrees, realised, UNITS } from "./noise-maths.js";
import { percent, short, ticks } from "./numbers.js";
import { on, part } from "./parts.js";
import { agreeing, text, unitName } from "./text.js";

// ------------------------------------------------------------------ the sentence as tokens
/** Replace white space in a token by visible characters. @param {string} token */
export const visible = (token) => token.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "·") || "␣";

part("noise-chips", ({ element }) => {
  const list = within(element, "ol");
  /** @type {string[] | null} */
  let tokens = null;
  on("figure:noise", (/** @type {NoiseMessage} */ { payload, result }) => {
    if (tokens !== payload.tokens) {
      tokens = payload.tokens;
      list.replaceChildren(
        ...tokens.map((token) => Object.assign(document.createElement("li"), { textContent: visible(token) })),
      );
    }
    result.shares.forEach((share, index) => {
      const chip = list.children[index];
      const turned = result.cosines[index] === null
        ? text("set to zero")
        : text("rotated by {angle}°", { angle: short(degrees(result.cosines[index])) });
      chip.style.setProperty("--noise", Math.min(1, share / (1 + share)).toFixed(3));
      chip.classList.toggle("gone", result.drops && share > 0);
      const norms = { before: short(result.before[index]), after: short(result.after[index]) };
      chip.title = text("norm {before} → {after}, {turned}", { ...norms, turned });
    });
  });
});

// ------------------------------------------------------------------ what the strength means, in words
const REALISED = 0.9; // warn if rounding keeps less of the noise than this

/**
 * Describe a strength in neutral words.
 * @param {NoiseEffect} effect
 * @param {TokenEffects} result
 */
const verdict = ({ drops, share }, result) => {
  if (drops) {
    const gone = result.shares.filter((value) => value > 0).length;
    return gone
      ? agreeing(gone, "1 of {all} tokens is dropped in this draw.", "{count} of {all} tokens are dropped in this draw.", {
          all: result.shares.length,
        })
      : text("No token is dropped in this draw.");
  }
  if (share === 0) return result.deviation ? text("None of these tokens gets noise.") : text("No noise: this is the control.");
  const size = { share: percent(share) };
  if (share < 0.02) return text("The noise is {share} as large as the embeddings: hardly noticeable.", size);
  if (share < 0.3) return text("The noise is {share} as large as the embeddings: each token almost keeps its direction.", size);
  if (share < LARGE) return text("The noise is {share} as large as the embeddings: each token roughly keeps its direction.", size);
  if (share < 1.5) return text("The noise is about as large as the embeddings ({share}).", size);
  return text("The noise is larger than the embeddings ({share}).", size);
};

const LARGE = 0.7; // noise relative to the embeddings from which the tokens that changed are counted

/**
 * Describe how many tokens large noise changed; "" until the vocabulary has been searched.
 * @param {number | null} changed
 * @param {Payload} payload
 * @param {NoiseEffect} effect
 */
const changedWords = (changed, payload, effect) => {
  if (effect.drops || effect.share < LARGE || changed === null) return "";
  const all = { all: payload.length };
  if (!changed) return text("Each of the {all} tokens is still nearest to itself.", all);
  return agreeing(changed, "1 of {all} tokens is now nearer to another token.", "{count} of {all} tokens are now nearer to another token.", all);
};

/**
 * Return warnings about the range of the slider and about rounding.
 * @param {Payload} payload
 * @param {TokenEffects} result
 * @param {Clipped | null} clipped
 */
const warnings = (payload, { deviation }, clipped) => {
  const found = [];
  if (clipped) {
    const { strength: most, unit, wanted, before } = clipped;
    const same = { before: `${unitName(before.unit)} ${short(before.strength)}`, wanted: short(wanted) };
    found.push(text("The {unit} slider ends at {most}, but {before} corresponds to {wanted} on this sentence.", { unit: unitName(unit), most, ...same }));
  }
  const kept = realised(payload.realised, deviation);
  if (kept < REALISED) found.push(text("In bfloat16, only {share} of this noise survives rounding.", { share: percent(Math.max(0, kept)) }));
  return found.join(" ");
};

/**
 * Return notes on the kind of noise and on what the figure leaves out.
 * @param {Payload} payload
 * @param {NoiseControls} controls
 */
const notes = (payload, { kind, tokens }) => {
  const found = [payload.kind_notes[kind]];
  const part = payload.tokens.find((token) => /. \d\/\d$/u.test(token));
  if (part)
    found.push(
      text(
        "“{part}” is part of a character that has no token of its own. The bundled model supports only English; larger models also have tokens for Chinese.",
        { part },
      ),
    );
  if (payload.cut)
    found.push(
      agreeing(
        payload.cut,
        "Your sentence is too long: its last token is left out.",
        "Your sentence is too long: its last {count} tokens are left out.",
        {},
      ),
    );
  if (tokens === "prompt")
    found.push(text("During training, only the prompt gets noise; here your sentence is treated as a whole sequence."));
  if (tokens === "response")
    found.push(text("During training, only the response gets noise; here your sentence is treated as a whole sequence."));
  if (payload.layer < 0) found.push(text("Shown at the per-layer embeddings, the first site with noise."));
  if (payload.layer > 0)
    found.push(text("Shown at the output of layer {layer}, the first site with noise.", { layer: payload.layer }));
  const behind = payload.behind || [];
  if (behind.length)
    found.push(
      agreeing(
        behind.length,
        "Not shown: layer {layers}. Its input already depends on this noise and has no closed form.",
        "Not shown: layers {layers}. Their input already depends on this noise and has no closed form.",
        { layers: behind.join(text(", ")) },
      ),
    );
  return found.filter(Boolean).join(" ");
};

part("noise-words", ({ element }) => {
  /**
   * @param {string} name
   * @param {string} words
   */
  const put = (name, words) => {
    const place = within(element, `[data-word=${name}]`);
    if (place.textContent !== words) place.textContent = words;
  };
  /** @type {HTMLElement} */
  const scale = within(element, "[data-word=scale]");
  /** @type {HTMLElement} */
  const recorded = within(element, "[data-word=recorded]");
  on("other-arms", (words) => {
    put("others", words);
    within(element, "[data-word=others]").hidden = !words;
  });
  on("figure:noise", (/** @type {NoiseMessage} */ { payload, controls, effect, result, clipped }) => {
    const words = [verdict(effect, result), changedWords(flips(payload, controls, result), payload, effect)].filter(Boolean).join(" ");
    put("verdict", words);
    // Noise as large as the embeddings is in the middle of the scale.
    scale.style.setProperty("--place", String(effect.share / (1 + effect.share)));
    scale.setAttribute("aria-label", words);
    recorded.hidden = payload.model !== "bundled model" || controls.kind !== "uniform" || controls.unit !== "alpha";
    put("warning", warnings(payload, result, clipped));
    put("kind", notes(payload, controls));
    put("angle", effect.drops ? "–" : short(effect.angle) + "°");
    put("snr", effect.drops ? "–" : effect.share ? `${effect.decibels.toFixed(1)} dB`.replace("-", "−") : "∞");
  });
});

// ------------------------------------------------------------------ the ruler: one strength in every unit
const RULER = { width: 330, left: 4, right: 326, row: 50 };
/** @type {Record<string, {marks: number[], words: string, shown: (value: number) => string}>} */
const MARKS = {
  alpha: { marks: [5, 10, 15], words: text("the paper's strengths"), shown: short },
  std: { marks: [0.01, 0.05, 0.1, 0.2], words: text("common constants"), shown: short },
  relative: { marks: [0.1, 0.5, 1], words: text("of the signal"), shown: percent },
};
class Ruler {
  key = "";
  /** @type {[number, number]} */
  span = [0, 1];
  /** @type {Record<string, SVGElement>} */
  values = {};
  line = svg("path", { class: "lab-ruler-now" });

  /** @param {SVGSVGElement} root */
  constructor(root) {
    this.root = root;
  }

  /**
   * Show the strength; the scales are redrawn only if the sentence or the length rule has changed.
   * @param {Payload} payload
   * @param {NoiseControls} controls
   * @param {NoiseEffect} effect
   */
  show(payload, controls, effect) {
    const scales = Object.keys(UNITS).map((unit) => [unit, UNITS[unit](payload, controls)]);
    const key = JSON.stringify(scales);
    if (key !== this.key) this.scales(Object.fromEntries(scales));
    this.key = key;
    const { std } = effect.equivalents;
    const x = std > 0 ? this.place(std) : null;
    this.line.setAttribute("visibility", x === null ? "hidden" : "visible");
    if (x !== null) this.line.setAttribute("d", [0, 1, 2].map((row) => `M${x.toFixed(1)},${row * RULER.row + 18}v16`).join(""));
    const said = effect.drops ? text("no standard deviation") : "";
    for (const [unit, node] of Object.entries(this.values))
      node.textContent = said ? "–" : MARKS[unit].shown(effect.equivalents[unit]);
    this.root.setAttribute(
      "aria-label",
      said || Object.entries(effect.equivalents).map(([unit, value]) => `${unitName(unit)} ${MARKS[unit].shown(value)}`).join(text(", ")),
    );
  }

  /** Return the horizontal position of a standard deviation. @param {number} std */
  place(std) {
    const [low, high] = this.span;
    const share = Math.log(std / low) / Math.log(high / low);
    return RULER.left + Math.min(1, Math.max(0, share)) * (RULER.right - RULER.left);
  }

  /** @param {Record<string, number>} scale */
  scales(scale) {
    this.span = [Math.min(scale.alpha, 0.005), Math.max(100 * scale.alpha, 0.5, 1.2 * scale.relative)];
    this.values = {};
    this.root.replaceChildren();
    this.root.setAttribute("viewBox", `0 0 ${RULER.width} ${3 * RULER.row}`);
    Object.keys(UNITS).forEach((unit, index) => this.scale(unit, scale[unit], index * RULER.row));
    this.root.append(this.line);
  }

  /**
   * @param {string} unit
   * @param {number} scale
   * @param {number} top
   */
  scale(unit, scale, top) {
    const { marks, words: about, shown } = MARKS[unit];
    const axis = top + 26;
    const name = svg("text", { x: 0, y: top + 13, class: "lab-ruler-name" }, unitName(unit));
    name.append(svg("tspan", { class: "lab-ruler-about", dx: 6 }, about));
    const value = svg("text", { x: RULER.width, y: top + 13, class: "lab-ruler-value" });
    this.values[unit] = value;
    this.root.append(name, value, svg("path", { class: "lab-ruler-axis", d: `M${RULER.left},${axis}H${RULER.right}` }));
    const [low, high] = this.span.map((std) => std / scale);
    for (const tick of ticks(low, high)) this.tick(this.place(tick * scale), axis, 4);
    for (const mark of marks.filter((each) => each >= low && each <= high)) {
      const x = this.place(mark * scale);
      this.tick(x, axis, 8, "lab-ruler-mark");
      this.root.append(svg("text", { x, y: axis + 19, class: "lab-ruler-label" }, shown(mark)));
    }
  }

  /**
   * @param {number} x
   * @param {number} axis
   * @param {number} length
   */
  tick(x, axis, length, name = "lab-ruler-axis") {
    this.root.append(svg("path", { class: name, d: `M${x.toFixed(1)},${axis}v${length}` }));
  }
}

part("noise-ruler", ({ element }) => {
  const ruler = new Ruler(within(element, "svg"));
  const about = within(element, "[data-word=about]");
  on("figure:noise", (/** @type {NoiseMessage} */ { payload, controls, effect }) => {
    ruler.show(payload, controls, effect);
    const { length, width } = payload;
    const model = payload.model ? modelName(payload.model) : text("this model");
    about.textContent = agreeing(
      length,
      "1 token of width {width} ({model})",
      "{count} tokens of width {width} ({model})",
      { width, model },
    );
  });
});
