/** The By row view of the Compare tab. It colours every token of a reference answer by the loss of an arm minus that of the
   control or the base, and every token of a written answer by its probability under the arm that wrote it.
   neftune_core/studies/trained measures the losses. */
import { make, saveText, within } from "./dom.js";
import { bare } from "./inside.js";
import { visible } from "./noise-words.js";
import { percent, short } from "./numbers.js";
import { part } from "./parts.js";
import { depth, sorted } from "./rows-maths.js";
import { agreeing, text } from "./text.js";
import { cell } from "./traces.js";

const AT_ONCE = 8; // number of rows shown at first, and added on request

/** @returns {Record<string, string>} */
const partNames = () => ({ held_out: text("held-out rows"), train: text("training rows"), written: text("written answers") });

/** Format a number with its sign. @param {number} value */
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + short(Math.abs(value));

/**
 * Create a table row.
 * @param {"th" | "td"} kind
 * @param {(Node | string)[]} children
 */
const tableRow = (kind, children) => make("tr", {}, ...children.map((child) => make(kind, kind === "th" ? { scope: "col" } : {}, child)));

/** Return all losses as CSV. @param {TokenLines} found */
const asCsv = (found) => {
  const rows = Object.values(found.parts).flatMap((lines) =>
    lines.flatMap((line) =>
      line.tokens.flatMap((token, place) =>
        Object.entries(line.losses).map(([arm, losses]) =>
          [line.part, line.row, line.arm, place + 1, token, line.kinds[place], arm, losses[place]].map(cell).join(","))),
    ),
  );
  return ["part,row,written by,place,token,kind,arm,loss", ...rows].join("\n") + "\n";
};

class Rows {
  /** @type {TokenLines | null} */
  found = null;
  chosen = { part: "held_out", arm: "", reference: "" };
  shown = AT_ONCE;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    this.list = within(root, ".lab-rows-list");
    for (const kind of ["pointerover", "focusin", "click"]) this.list.addEventListener(kind, (/** @type {Event} */ event) => this.describe(event.target));
    this.list.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => this.moved(event));
    within(root, "[data-more]").addEventListener("click", () => {
      this.shown += AT_ONCE;
      this.draw();
    });
    within(root, "[data-save]").addEventListener("click", () => this.found && saveText("rows.csv", asCsv(this.found)));
  }

  /** @param {TokenLines | null} found */
  show(found) {
    this.found = found;
    this.shown = AT_ONCE;
    this.root.hidden = !found || !Object.keys(found.parts).length;
    if (!this.root.hidden) this.draw();
  }

  /** Return the available arms and references, and replace choices that are unavailable. */
  choices() {
    const { parts, kinds, arms, part, arm, reference } = { ...this.data(), ...this.chosen };
    const own = part in parts ? part : Object.keys(parts)[0];
    const isWritten = own === "written";
    const measured = new Set(parts[own].flatMap((line) => Object.keys(line.losses)));
    const offered = isWritten ? ["base", ...arms].filter((name) => measured.has(name)) : Object.keys(kinds[own] ?? {});
    const usual = isWritten ? offered[offered.length - 1] : offered.find((name) => name !== arms[0]) ?? offered[0];
    const mine = offered.includes(arm) ? arm : usual;
    const references = isWritten ? [] : Object.keys(kinds[own]?.[mine] ?? {});
    this.chosen = { part: own, arm: mine, reference: references.includes(reference) ? reference : references[0] ?? "" };
    return { offered, references };
  }

  data() {
    if (!this.found) throw new Error("nothing to draw");
    return this.found;
  }

  draw() {
    const { offered, references } = this.choices();
    const { part, arm, reference } = this.chosen;
    const { parts, kinds, names } = this.data();
    const rows = sorted(parts[part], arm, reference);
    const own = partNames();
    this.select(offered, references, own);
    this.root.style.setProperty("--arm", this.data().colours[arm] ?? "var(--lab-text)");
    const measured = reference ? kinds[part][arm][reference] : null;
    within(this.root, ".lab-rows-summary").textContent = measured
      ? this.summary(measured, rows.length)
      : text("Each word of the answers written by {arm}, coloured by the probability that {arm} gave it: the stronger the colour, the less likely the word. The repetition penalty is not included.", { arm: names[arm] ?? arm });
    within(this.root, ".lab-rows-kinds").replaceChildren(...(measured ? this.table(measured, names) : []));
    within(this.root, ".lab-rows-legend").replaceChildren(...(measured ? this.legend() : []));
    within(this.root, ".lab-rows-about").textContent = text("Point at or tap a word, or move to it with the arrow keys, to see its losses.");
    this.list.replaceChildren(...rows.slice(0, this.shown).map((row) => this.row(row)));
    within(this.root, "[data-more]").hidden = rows.length <= this.shown;
  }

  /**
   * Show the choices of part, arm and reference.
   * @param {string[]} arms
   * @param {string[]} references
   * @param {Record<string, string>} own names of the parts
   */
  select(arms, references, own) {
    const holder = within(this.root, ".lab-rows-choices");
    /** @param {string} label @param {"part" | "arm" | "reference"} name @param {string[]} values @param {Record<string, string>} [words] */
    const one = (label, name, values, words = {}) => {
      const options = values.map((value) => make("option", { value, selected: value === this.chosen[name] }, words[value] ?? value));
      const select = make("select", { name }, ...options);
      select.addEventListener("change", () => {
        this.chosen = { ...this.chosen, [name]: select.value };
        this.shown = AT_ONCE;
        this.draw();
        within(holder, `[name=${name}]`)?.focus();
      });
      return make("label", {}, make("span", {}, label), select);
    };
    const { names } = this.data();
    const against = references.length ? [one(text("compared with"), "reference", references, names)] : [];
    holder.replaceChildren(one(text("Answers of"), "part", Object.keys(this.data().parts), own), one(text("Arm"), "arm", arms, names), ...against);
  }

  /**
   * Summarise the difference between an arm and its reference.
   * @param {Record<string, OfKind>} measured
   * @param {number} rows
   */
  summary(measured, rows) {
    const { arm, reference, part } = this.chosen;
    const { all, ...each } = measured;
    const ranked = Object.entries(each).sort(([, one], [, other]) => other.difference - one.difference);
    const [most, least] = [ranked[0], ranked[ranked.length - 1]];
    const { names } = this.data();
    const of = agreeing(rows, "{count} row ({part}, {tokens} tokens)", "{count} rows ({part}, {tokens} tokens)", { part: partNames()[part], tokens: all.tokens });
    const ends = all.low === null || all.high === null ? "" : text(" ({low} to {high})", { low: signed(all.low), high: signed(all.high) });
    const main = text("{rows}: the loss of {arm} minus that of {reference} is {difference} nats per token{ends}.", { rows: of, arm: names[arm] ?? arm, reference: names[reference] ?? reference, difference: signed(all.difference), ends });
    if (!most || most === least) return main;
    return `${main} ${text("The difference is highest for {most} ({high}) and lowest for {least} ({low}).", { most: names[most[0]], high: signed(most[1].difference), least: names[least[0]], low: signed(least[1].difference) })}`;
  }

  /**
   * Return the table of differences by kind of token.
   * @param {Record<string, OfKind>} measured
   * @param {Record<string, string>} names
   */
  table(measured, names) {
    const rows = Object.entries(measured).map(([kind, { tokens, difference, low, high }]) => {
      const ends = low === null || high === null ? "–" : text("{low} to {high}", { low: signed(low), high: signed(high) });
      const made = tableRow("td", [names[kind] ?? kind, String(tokens), signed(difference), ends]);
      made.dataset.gains = difference < 0 ? "yes" : "no";
      return made;
    });
    const head = tableRow("th", [text("kind of token"), text("tokens"), text("difference, nats per token"), text("95% interval over rows")]);
    return [make("caption", {}, text("Which kinds of tokens gained or lost")), make("thead", {}, head), make("tbody", {}, ...rows)];
  }

  legend() {
    const { arm, reference } = this.chosen;
    const { names } = this.data();
    const compared = { arm: names[arm] ?? arm, reference: names[reference] ?? reference };
    return [
      make("span", { className: "lab-rows-token lab-gain" }, text("{arm} has a lower loss than {reference}", compared)),
      make("span", { className: "lab-rows-token lab-loss" }, text("higher loss")),
    ];
  }

  /** @param {ReturnType<typeof sorted>[number]} row */
  row({ line, own, mean }) {
    const { reference } = this.chosen;
    const tokens = line.tokens.map((token, place) => {
      const node = make("span", { className: `lab-rows-token ${own[place] < 0 ? "lab-gain" : "lab-loss"}`, tabIndex: place ? -1 : 0 }, visible(token));
      node.style.setProperty("--depth", depth(own[place]).toFixed(3));
      node.dataset.losses = this.words(line, own, place);
      node.setAttribute("role", "listitem");
      node.setAttribute("aria-label", node.dataset.losses);
      return node;
    });
    const number = reference
      ? text("row {row}: {difference} nats per token", { row: line.row, difference: signed(mean) })
      : text("answer {row}: {loss} nats per token", { row: line.row, loss: short(mean) });
    const answer = make("div", { className: "lab-rows-answer" }, ...tokens);
    answer.setAttribute("role", "list");
    return make("li", {}, make("h4", {}, line.prompt), make("span", { className: "lab-rows-number" }, number), answer);
  }

  /**
   * Describe the losses of one token.
   * @param {TokenLine} line
   * @param {number[]} own
   * @param {number} place
   */
  words({ tokens, kinds, losses }, own, place) {
    const { arm, reference } = this.chosen;
    const { names } = this.data();
    const each = Object.entries(losses).map(([name, values]) => text("{arm} {loss} nats ({chance})", { arm: names[name] ?? name, loss: short(values[place]), chance: percent(Math.exp(-values[place])) }));
    const difference = reference ? text(" {arm} minus {reference}: {difference}.", { arm: names[arm] ?? arm, reference: names[reference] ?? reference, difference: signed(own[place]) }) : "";
    return text("“{token}” ({kind}): {losses}.", { token: bare(tokens[place]), kind: names[kinds[place]], losses: each.join(text(", ")) }) + difference;
  }

  /** @param {EventTarget | null} target */
  describe(target) {
    const token = target instanceof HTMLElement ? target.closest(".lab-rows-answer .lab-rows-token") : null;
    if (!(token instanceof HTMLElement)) return;
    within(this.root, ".lab-rows-about").textContent = token.dataset.losses;
    this.list.querySelector("[data-now]")?.removeAttribute("data-now");
    token.dataset.now = "";
  }

  /** @param {KeyboardEvent} event */
  moved(event) {
    const token = event.target;
    if (!(token instanceof HTMLElement) || !token.dataset.losses) return;
    const all = [...(token.parentElement?.children ?? [])];
    const at = all.indexOf(token);
    /** @type {Record<string, number>} */
    const ways = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 };
    const next = all[ways[event.key]];
    if (!(next instanceof HTMLElement)) return;
    event.preventDefault();
    token.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}

part("compare-rows", ({ element, props, watch }) => {
  const rows = new Rows(within(element, ".lab-rows"));
  const draw = () => rows.show(props.value || null);
  watch("value", draw);
  draw();
});
