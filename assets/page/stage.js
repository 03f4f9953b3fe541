/** Playback of the recorded study. It is shown before the framework starts, so this module and its imports are part of the
   served page (neftune_core/ui/server/first_view.py). Once the Learn tab is mounted, it reuses the same node. */
import { make, svg, wantsStillness, within } from "./dom.js";
import { offerFullScreen } from "./full-screen.js";
import { at, rounds } from "./numbers.js";
import { agreeing, text } from "./text.js";

const SECONDS = 14; // duration of the playback
const MARGIN = { left: 40, right: 10, top: 8, bottom: 24 };
const HEIGHT = 210;

/** A panel with the loss of every arm over the steps. */
class Panel {
  /**
   * @param {SVGSVGElement} root
   * @param {"train" | "held_out"} kind
   * @param {RecordedStudy} recorded
   */
  constructor(root, kind, { arms, steps }) {
    this.root = root;
    this.kind = kind;
    this.arms = arms;
    this.steps = steps;
    this.width = 0;
    /** @type {{arm: RecordedArm, line: SVGElement, dot: SVGElement}[]} */
    this.lines = [];
    this.now = svg("path", { class: "lab-stage-cursor" });
    const values = arms.flatMap((arm) => arm[kind].map(([, value]) => value));
    this.low = kind === "train" ? 0 : Math.min(...values) - 0.08;
    this.high = Math.max(...values) * 1.02;
    this.layout();
  }

  /** @param {number} step */
  x(step) {
    return MARGIN.left + (step / this.steps) * (this.width - MARGIN.left - MARGIN.right);
  }

  /** @param {number} value */
  y(value) {
    const share = (value - this.low) / (this.high - this.low);
    return HEIGHT - MARGIN.bottom - share * (HEIGHT - MARGIN.bottom - MARGIN.top);
  }

  /** Draw the axes and the complete, faint curves at the available width; `show` updates the moving parts. */
  layout() {
    this.width = Math.max(240, this.root.clientWidth || this.root.parentElement?.clientWidth || 480);
    this.root.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.root.replaceChildren();
    for (const tick of rounds(this.low, this.high)) {
      const y = this.y(tick);
      this.root.append(
        svg("path", { class: "lab-stage-grid", d: `M${MARGIN.left},${y}H${this.width - MARGIN.right}` }),
        svg("text", { class: "lab-stage-tick", x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" }, String(tick)),
      );
    }
    const below = HEIGHT - 6;
    this.root.append(
      svg("text", { class: "lab-stage-tick", x: MARGIN.left, y: below }, this.unit()),
      svg("text", { class: "lab-stage-tick", x: this.width - MARGIN.right, y: below, "text-anchor": "end" }, text("step {step}", { step: this.steps })),
    );
    // The control is drawn last and dashed, so that overlapping curves stay visible.
    this.lines = this.arms.toReversed().map((arm) => {
      const whole = arm[this.kind].map(([step, value]) => `${this.x(step)},${this.y(value)}`).join("L");
      const faint = svg("path", { class: "lab-stage-whole", d: `M${whole}` });
      const line = svg("path", { class: "lab-stage-line" });
      const dot = svg("circle", { class: "lab-stage-dot", r: 4.5 });
      if (arm === this.arms[0]) line.setAttribute("stroke-dasharray", "7 5");
      for (const node of [faint, line, dot]) node.style.setProperty("--arm", arm.colour);
      this.root.append(faint, line, dot);
      return { arm, line, dot };
    });
    this.root.append(this.now);
  }

  unit() {
    if (this.low === 0) return text("nats per token");
    return text("nats per token; the axis begins at {low}", { low: this.low.toFixed(1) });
  }

  /** @param {number} step */
  show(step) {
    for (const { arm, line, dot } of this.lines) {
      const points = arm[this.kind];
      const value = at(points, step);
      const past = points.filter(([when]) => when < step).map(([when, known]) => [this.x(when), this.y(known)]);
      past.push([this.x(step), this.y(value)]);
      line.setAttribute("d", "M" + past.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L"));
      dot.setAttribute("cx", String(this.x(step)));
      dot.setAttribute("cy", String(this.y(value)));
    }
    this.now.setAttribute("d", `M${this.x(step)},${MARGIN.top}V${HEIGHT - MARGIN.bottom}`);
  }
}

/** The stage: two panels, the slider with its button, the token norms and the current losses. */
export class Stage {
  playing = false;
  isSeen = true;
  frames = 0; // the number of the requested frame; 0 if none is requested
  step = 0;
  epoch = -1;

  /**
   * @param {HTMLElement} root
   * @param {RecordedStudy} value
   */
  constructor(root, value) {
    this.root = root;
    this.value = value;
    /** @type {HTMLInputElement} */
    this.slider = within(root, "input");
    /** @type {HTMLButtonElement} */
    this.button = within(root, "[data-do=play]");
    this.output = within(root, "output");
    for (const part of /** @type {const} */ (["about", "lead", "result", "sure", "best"]))
      within(root, ".lab-stage-" + part).textContent = value[part];
    this.slider.max = String(value.steps);
    /** @type {any[]} */
    const panels = [...root.querySelectorAll("[data-panel]")];
    this.panels = panels.map((node) => new Panel(node, node.dataset.panel, value));
    this.rows = this.legend(within(root, ".lab-stage-now"));
    this.norms = this.tokens();
    this.slider.addEventListener("input", () => {
      this.pause();
      this.show(Number(this.slider.value));
      document.dispatchEvent(new CustomEvent("lab-stage-step", { detail: this.step }));
    });
    this.button.addEventListener("click", () => (this.playing ? this.pause() : this.play()));
    offerFullScreen(root, within(root, "[data-do=full]"), () => this.resized());
    new ResizeObserver(([{ contentRect }]) => {
      this.isSeen = contentRect.width > 0; // reading it at each frame would recompute the layout of the page
      if (this.isSeen && this.playing && !this.frames) this.advance();
      this.resized();
    }).observe(root);
    this.pause();
    this.show(wantsStillness() ? value.steps : 0);
    if (!wantsStillness()) this.play();
  }

  /** Create the legend, and return the elements for the current losses. @param {HTMLElement} list */
  legend(list) {
    return this.value.arms.map((arm) => {
      const number = make("b", {});
      const held = make("b", {});
      const item = make("li", {}, make("span", { className: "lab-arm" }, arm.label), text("training loss "), number, text(" · new examples "), held);
      item.style.setProperty("--arm", arm.colour);
      list.append(item);
      return { arm, number, held };
    });
  }

  /**
   * Draw the token norms of one response as bars. Return a function that sets them to an epoch.
   * @returns {(epoch: number) => void}
   */
  tokens() {
    const { seen, arms } = this.value;
    const figure = within(this.root, ".lab-stage-norms");
    figure.hidden = !seen;
    if (!seen) return () => {};
    const loudest = arms.filter((arm) => seen.epochs[0][arm.name]).at(-1) ?? arms[0];
    // Only the response is shown, because the prompt consists mostly of the template.
    const noisy = seen.epochs.map((epoch) => epoch[loudest.name].slice(seen.response));
    const clean = seen.clean.slice(seen.response);
    const shown = [clean, ...noisy].flat();
    const most = Math.max(...shown);
    /** @param {number} norm */
    const height = (norm) => (100 * norm) / most + "%";
    const place = within(figure, ".lab-stage-tokens");
    place.style.setProperty("--arm", loudest.colour);
    const norms = { low: Math.min(...shown).toFixed(1), high: most.toFixed(1) };
    place.setAttribute(
      "aria-label",
      agreeing(
        clean.length,
        "1 token of one response; norms {low} to {high}",
        "{count} tokens of one response; norms {low} to {high}",
        norms,
      ),
    );
    const bars = seen.tokens.slice(seen.response).map((token, offset) => {
      const [before, after] = ["clean", "noisy"].map((className) => make("i", { className }));
      before.style.height = height(clean[offset]);
      const word = token.replaceAll("\n", "↵").trim() || "·";
      place.append(make("span", {}, make("span", { className: "bars" }, before, after), make("em", {}, word)));
      return after;
    });
    return (epoch) => bars.forEach((bar, offset) => (bar.style.height = height(noisy[epoch][offset])));
  }

  /** Show the state of the training at a step. @param {number} step */
  show(step) {
    this.step = step;
    this.slider.value = String(step);
    const whole = Math.round(step);
    this.output.textContent = text("step {step} of {steps}", { step: whole, steps: this.value.steps });
    for (const panel of this.panels) panel.show(step);
    for (const { arm, number, held } of this.rows) {
      number.textContent = at(arm.train, step).toFixed(2);
      held.textContent = at(arm.held_out, step).toFixed(2);
    }
    const { seen, per_epoch: size } = this.value;
    if (seen) {
      const epoch = Math.min(seen.epochs.length - 1, Math.floor(Math.max(0, step - 1) / size));
      if (epoch !== this.epoch) {
        this.epoch = epoch;
        this.norms(epoch);
        within(this.root, "[data-word=epoch]").textContent = text("epoch {epoch} of {epochs}", { epoch: epoch + 1, epochs: seen.epochs.length });
      }
    }
  }

  play() {
    this.playing = true;
    this.button.dataset.state = "playing";
    this.button.setAttribute("aria-label", text("Pause"));
    if (this.step >= this.value.steps) this.step = 0;
    if (!this.frames) this.advance();
  }

  /** Advance the playback at every frame until it is paused or hidden. */
  advance() {
    /** @type {number | null} */
    let last = null;
    /** @param {number} now */
    const frame = (now) => {
      this.frames = 0;
      if (!this.playing || !this.isSeen) return;
      const passed = last === null ? 0 : Math.min(now - last, 100) / 1000;
      last = now;
      const step = Math.min(this.value.steps, this.step + (passed / SECONDS) * this.value.steps);
      this.show(step);
      if (step >= this.value.steps) {
        this.pause();
        return this.show(step);
      }
      this.frames = requestAnimationFrame(frame);
    };
    this.frames = requestAnimationFrame(frame);
  }

  pause() {
    this.playing = false;
    this.button.dataset.state = "paused";
    this.button.setAttribute("aria-label", text("Play the training"));
  }

  resized() {
    const width = this.panels[0].root.clientWidth;
    if (!width || width === this.panels[0].width) return;
    for (const panel of this.panels) panel.layout();
    this.show(this.step);
  }
}
