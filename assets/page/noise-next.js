/** The Next word view of the Noise tab: the model's next word with and without noise, at the measured strength nearest to
   the slider. */
import { make, within } from "./dom.js";
import { fact } from "./facts.js";
import { axisOf, bare, isHere, ready, receive, wanted } from "./inside.js";
import { beforeLastWord, nearestOf } from "./inside-maths.js";
import { line, nothing } from "./noise-views.js";
import { visible } from "./noise-words.js";
import { bars, redraw, views } from "./noise.js";
import { ceiling, mean, percent, short } from "./numbers.js";
import { on, part } from "./parts.js";
import { text, unitName } from "./text.js";

const ASKING = ["depth", "next"]; // the views that need measurements inside the model
const BEFORE = 6; // number of tokens shown before the next word

/** The index of the token after which predictions are shown, and the key of its sentence. */
let chosen = { key: "", place: 0 };

/**
 * Return the index of the chosen token; initially, it is the token before the last word.
 * @param {Inside} found
 */
const placeOf = ({ key, tokens, next }) => {
  if (chosen.key !== key) chosen = { key, place: beforeLastWord(tokens, next.first) };
  return chosen.place;
};

/**
 * Format a strength.
 * @param {Inside} found
 * @param {number} which 0 for no noise, 1 for the first measured strength
 */
const strengthWords = ({ strengths, asked }, which) => (which ? `${unitName(asked.unit)} ${short(strengths[which - 1])}` : text("without noise"));

/**
 * Return the KL divergence after every token; 0 without noise.
 * @param {Inside} found
 * @param {number} which
 */
const divergences = ({ next }, which) => {
  const none = next.clean_entropy.map(() => 0);
  const { mean: average, low, high } = next.divergence;
  return which ? { average: average[which - 1], low: low[which - 1], high: high[which - 1] } : { average: none, low: none, high: none };
};

/**
 * Return a line with markers on the second vertical axis.
 * @param {string} name
 * @param {number[]} places
 * @param {number[]} values
 * @param {string} colour
 * @param {string} symbol
 * @returns {Trace}
 */
const marked = (name, places, values, colour, symbol) => ({
  ...line(name, places, values, colour, { width: 1.6 }),
  mode: "lines+markers",
  marker: { color: colour, size: 7, symbol },
  yaxis: "y2",
});

views.next = (payload, controls) => {
  const { found, words } = ready(payload, controls);
  if (!found) return nothing(words);
  const [grey, warm] = payload.colours;
  const { strengths, tokens, next, draws } = found;
  const which = nearestOf(strengths, controls.strength);
  const places = next.clean_entropy.map((_, index) => next.first + index);
  const { average, low, high } = divergences(found, which);
  const entropy = which ? next.entropy[which - 1] : next.clean_entropy;
  const own = { ...payload, tokens: tokens.slice(next.first) };
  const place = placeOf(found);
  fact("noise.kept", which ? next.kept[which - 1][place - next.first] / draws : 1);
  const heights = high.map((value, index) => value - low[index]);
  return {
    data: [
      { ...bars(own, text("KL divergence (clean ‖ noisy)"), average, warm, 0.7), x: places },
      {
        ...bars(own, text("lowest to highest of {count} draws", { count: draws }), heights, "var(--lab-text)", 0.09),
        x: places,
        base: low,
        showlegend: false,
        customdata: low.map((value, index) => text("{low} to {high}", { low: short(value), high: short(high[index]) })),
        hovertemplate: text("{count} draws", { count: draws }) + text(": ") + "%{customdata}<extra></extra>",
      },
      marked(text("entropy without noise"), places, next.clean_entropy, grey, "circle"),
      marked(text("entropy with noise"), places, entropy, warm, "diamond"),
    ],
    layout: {
      xaxis: axisOf(tokens, next.first),
      yaxis: { range: [0, ceiling(1.05 * Math.max(...high))] },
      yaxis2: { range: [0, ceiling(1.05 * Math.max(...next.clean_entropy, ...entropy))] },
      shapes: [
        {
          type: "rect", yref: "paper", x0: place - 0.5, x1: place + 0.5, y0: 0, y1: 1,
          fillcolor: "var(--lab-quiet)", opacity: 0.18, layer: "below", line: { width: 0 },
        },
      ],
    },
    summary: summaryOf(found, which),
  };
};

/**
 * Summarise the predictions at a strength.
 * @param {Inside} found
 * @param {number} which
 */
const summaryOf = (found, which) => {
  const { strengths, next, draws, tokens } = found;
  if (!which) return text("Without noise, the mean entropy of the next word is {entropy} nats.", { entropy: short(mean(next.clean_entropy)) });
  const { average } = divergences(found, which);
  const most = Math.max(...average);
  return text(
    "Measured at {strength} (the nearest of the strengths {strengths}) in {draws} draws: {same} of {count} predictions keep their " +
      "most likely word in every draw. The mean KL divergence is {mean} nats; it is largest after {token}: {most}.",
    {
      strength: strengthWords(found, which),
      strengths: strengths.map(short).join(text(", ")),
      draws,
      same: next.kept[which - 1].filter((kept) => kept === draws).length,
      count: average.length,
      mean: short(mean(average)),
      token: `“${bare(tokens[next.first + average.indexOf(most)])}”`,
      most: short(most),
    },
  );
};

// ------------------------------------------------------------------ next words after the chosen token
/**
 * Return the most likely next words after a token at a strength.
 * @param {Inside} found
 * @param {number} which
 * @param {number} place
 */
const likely = ({ next }, which, place) => {
  const flat = next.candidates[which][place - next.first];
  return Array.from({ length: flat.length / 2 }, (_, rank) => ({ word: next.words[flat[2 * rank]], chance: flat[2 * rank + 1] }));
};

/**
 * Create a table row.
 * @param {"th" | "td"} kind
 * @param {(Node | string)[]} children
 */
const row = (kind, children) => make("tr", {}, ...children.map((child) => make(kind, kind === "th" ? { scope: "col" } : {}, child)));

/** Create a cell with a probability and its bar. @param {number} chance */
const chanceCell = (chance) => {
  const cell = make("span", { className: "lab-predicted-chance" }, percent(chance));
  cell.style.setProperty("--share", chance.toFixed(3));
  return cell;
};

/**
 * Create a cell with a word.
 * @param {string} word
 * @param {boolean} isNew whether to mark it
 */
const wordCell = (word, isNew) => make("span", { className: isNew ? "lab-predicted-word lab-new" : "lab-predicted-word" }, visible(word));

/**
 * Show both lists of words side by side, and mark words that are likely only with noise.
 * @param {Inside} found
 * @param {number} which
 * @param {number} place
 */
const listOfWords = (found, which, place) => {
  const clean = likely(found, 0, place);
  const noisy = likely(found, which, place);
  const usual = new Set(clean.map(({ word }) => word));
  const rows = clean.map(({ word, chance }, rank) => {
    const other = noisy[rank];
    return row("td", [wordCell(word, false), chanceCell(chance), wordCell(other.word, !usual.has(other.word)), chanceCell(other.chance)]);
  });
  return [
    make("caption", {}, text("The {count} most likely next words (first draw)", { count: clean.length })),
    make("thead", {}, row("th", [strengthWords(found, 0), text("probability"), strengthWords(found, which), text("probability")])),
    make("tbody", {}, ...rows),
  ];
};

/**
 * List the most likely word at every strength, and the number of draws in which it equals the word without noise.
 * @param {Inside} found
 * @param {number} which
 * @param {number} place
 */
const listOfStrengths = (found, which, place) => {
  const { next, strengths, draws } = found;
  const [usual] = likely(found, 0, place);
  const rows = [0, ...strengths].map((_, index) => {
    const [{ word, chance }] = likely(found, index, place);
    const kept = index ? `${next.kept[index - 1][place - next.first]} / ${draws}` : "–";
    const made = row("td", [strengthWords(found, index), wordCell(word, word !== usual.word), chanceCell(chance), kept]);
    if (index === which) made.setAttribute("aria-current", "true");
    return made;
  });
  return [
    make("caption", {}, text("The most likely word at every strength")),
    make("thead", {}, row("th", [text("strength"), text("next word"), text("probability"), text("draws without a change")])),
    make("tbody", {}, ...rows),
  ];
};

/**
 * Describe the lowest strength at which the model's next word changes, as a question for a class.
 * @param {Inside} found
 * @param {number} place
 */
const aboutWords = (found, place) => {
  const { tokens, next, draws } = found;
  const word = bare(likely(found, 0, place)[0].word);
  const from = Math.max(next.first, place - BEFORE + 1);
  const before = (from > next.first ? "… " : "") + tokens.slice(from, place + 1).join("").trim();
  const lost = next.kept.findIndex((kept) => kept[place - next.first] < draws);
  const until =
    lost < 0
      ? text("without noise, “{word}” is the most likely next word, and it remains the most likely at every measured strength.", { word })
      : text("without noise, “{word}” is the most likely next word; the weakest measured noise that changes the prediction in any of {draws} draws is {strength}.", { word, draws, strength: strengthWords(found, lost + 1) });
  const follows = place + 1 < tokens.length ? text("In the sentence, “{word}” follows.", { word: bare(tokens[place + 1]) }) : "";
  return [text("After “{before}”:", { before }), until, follows].join(" ").trim();
};

/** The panel below the figure: the tokens to choose from, and the next words after the chosen token. */
class Panel {
  /** @type {Inside | null} */
  drawn = null;
  filled = "";

  /** @param {Given} given */
  constructor({ element }) {
    /** @type {HTMLElement} */
    this.root = within(element, ".lab-predicted");
    this.list = within(element, ".lab-predicted-tokens");
    this.list.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => this.moved(event));
  }

  /**
   * @param {Inside | undefined} found
   * @param {NoiseControls} controls
   */
  show(found, controls) {
    this.root.hidden = !found;
    if (!found) return;
    const { first } = found.next;
    if (this.drawn !== found) this.list.replaceChildren(...found.tokens.slice(first).map((token, index) => this.button(token, first + index)));
    this.drawn = found;
    const [place, which] = [placeOf(found), nearestOf(found.strengths, controls.strength)];
    const { average } = divergences(found, which);
    [...this.list.children].forEach((button, index) => {
      const isChosen = first + index === place;
      button.setAttribute("aria-checked", String(isChosen));
      button.tabIndex = isChosen ? 0 : -1;
      button.style.setProperty("--noise", (average[index] / (1 + average[index])).toFixed(3));
    });
    const shown = JSON.stringify([found.key, found.asked, place, which]);
    if (this.filled === shown) return;
    this.filled = shown;
    within(this.root, ".lab-predicted-about").textContent = aboutWords(found, place);
    within(this.root, ".lab-predicted-words").replaceChildren(...listOfWords(found, which, place));
    within(this.root, ".lab-predicted-strengths").replaceChildren(...listOfStrengths(found, which, place));
  }

  /**
   * @param {string} token
   * @param {number} place
   */
  button(token, place) {
    const button = make("button", { type: "button" }, visible(token));
    button.setAttribute("role", "radio");
    button.addEventListener("click", () => this.choose(place));
    return button;
  }

  /** @param {number} place */
  choose(place) {
    if (!this.drawn) return;
    const { key, next, tokens } = this.drawn;
    chosen = { key, place: Math.min(tokens.length - 1, Math.max(next.first, place)) };
    redraw();
  }

  /** @param {KeyboardEvent} event */
  moved(event) {
    if (!this.drawn) return;
    const [place, first] = [placeOf(this.drawn), this.drawn.next.first];
    /** @type {Record<string, number>} */
    const ways = { ArrowRight: place + 1, ArrowDown: place + 1, ArrowLeft: place - 1, ArrowUp: place - 1, Home: first, End: Infinity };
    if (!(event.key in ways)) return;
    event.preventDefault();
    this.choose(ways[event.key]);
    this.list.children[placeOf(this.drawn) - first].focus();
  }
}

/** @returns {FigureNode | null} */
const figureNode = () => document.querySelector("#noise-figure .lab-figure-plot");

part("noise-inside", (given) => {
  const { props, watch, trigger } = given;
  const panel = new Panel(given);
  /** @type {string | null} */
  let asked = null;
  watch("value", () => {
    receive(props.value || null);
    if (asked && !isHere(asked)) asked = null; // the sentence has changed since the request
    redraw();
  });
  on("figure:noise", (/** @type {NoiseMessage} */ { payload, controls, view }) => {
    const isOpen = ASKING.includes(String(view)) && Boolean(figureNode()?.clientWidth);
    const { found } = ready(payload, controls);
    panel.show(view === "next" ? found : undefined, controls);
    const now = wanted(payload, controls);
    if (!isOpen || asked === now || isHere(now)) return;
    asked = now;
    trigger("click");
  });
  // A click on the figure chooses a token.
  document.addEventListener(
    "click",
    (event) => {
      const node = figureNode();
      const axis = node?._fullLayout?.xaxis;
      if (panel.root.hidden || !node || !axis || !(event.target instanceof Node) || !node.contains(event.target)) return;
      const at = event.clientX - node.getBoundingClientRect().left - axis._offset;
      if (at >= 0 && at <= axis._length) panel.choose(Math.round(axis.p2d(at)));
    },
    true,
  );
});
