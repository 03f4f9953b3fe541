/* The recorded study as it plays. It needs nothing else, so that it can be there before the framework is: the page is served
   with it (neftune_core/ui/server/first_view.py), and the Learn tab takes the very node over once it is mounted. */
(() => {
  "use strict";
  if (window.LabStage) return;
  const SVG = "http://www.w3.org/2000/svg";
  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  const svg = (name, attributes, text) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const make = (name, attributes, ...children) => {
    const node = Object.assign(document.createElement(name), attributes);
    node.append(...children);
    return node;
  };

  const SECONDS = 14; // of the whole training, as it is played
  const MARGIN = { left: 40, right: 10, top: 8, bottom: 24 };
  const HEIGHT = 210;

  /** The value of [[step, value], ...] at a step between its points. */
  const at = (points, step) => {
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

  /** Round numbers between two values, four or five of them. */
  const rounds = (low, high) => {
    const rough = (high - low) / 4;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((found) => found >= rough);
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high + 1e-9; value += step) found.push(Number(value.toPrecision(6)));
    return found;
  };

  class Panel {
    constructor(root, kind, { arms, steps }) {
      Object.assign(this, { root, kind, arms, steps });
      const values = arms.flatMap((arm) => arm[kind].map(([, value]) => value));
      this.low = kind === "train" ? 0 : Math.min(...values) - 0.08;
      this.high = Math.max(...values) * 1.02;
      this.layout();
    }

    x(step) {
      return MARGIN.left + (step / this.steps) * (this.width - MARGIN.left - MARGIN.right);
    }

    y(value) {
      const share = (value - this.low) / (this.high - this.low);
      return HEIGHT - MARGIN.bottom - share * (HEIGHT - MARGIN.bottom - MARGIN.top);
    }

    /** Axes and whole curves at the width that there is; what moves comes over them. */
    layout() {
      this.width = Math.max(240, this.root.clientWidth || this.root.parentElement.clientWidth || 480);
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
        svg("text", { class: "lab-stage-tick", x: this.width - MARGIN.right, y: below, "text-anchor": "end" }, LabLanguage.text("step {step}", { step: this.steps })),
      );
      // The control last, and dashed: where the curves meet, both are seen.
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
      this.now = svg("path", { class: "lab-stage-cursor" });
      this.root.append(this.now);
    }

    unit() {
      if (this.low === 0) return LabLanguage.text("nats per token");
      return LabLanguage.text("nats per token; the axis begins at {low}", { low: this.low.toFixed(1) });
    }

    show(step) {
      for (const { arm, line, dot } of this.lines) {
        const points = arm[this.kind];
        const value = at(points, step);
        const past = points.filter(([when]) => when < step).map(([when, known]) => [this.x(when), this.y(known)]);
        past.push([this.x(step), this.y(value)]);
        line.setAttribute("d", "M" + past.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L"));
        dot.setAttribute("cx", this.x(step));
        dot.setAttribute("cy", this.y(value));
      }
      this.now.setAttribute("d", `M${this.x(step)},${MARGIN.top}V${HEIGHT - MARGIN.bottom}`);
    }
  }

  class Stage {
    constructor(root, value) {
      this.root = root;
      this.value = value;
      this.slider = root.querySelector("input");
      this.button = root.querySelector("[data-do=play]");
      this.output = root.querySelector("output");
      for (const part of ["about", "lead", "result"]) root.querySelector(".lab-stage-" + part).textContent = value[part];
      this.slider.max = value.steps;
      this.panels = [...root.querySelectorAll("[data-panel]")].map((node) => new Panel(node, node.dataset.panel, value));
      this.rows = this.legend(root.querySelector(".lab-stage-now"));
      this.tokens();
      this.slider.addEventListener("input", () => {
        this.pause();
        this.show(Number(this.slider.value));
      });
      this.button.addEventListener("click", () => (this.playing ? this.pause() : this.play()));
      new ResizeObserver(() => this.resized()).observe(root);
      this.pause();
      this.show(still() ? value.steps : 0);
      if (!still()) this.play();
    }

    legend(list) {
      return this.value.arms.map((arm) => {
        const number = make("b", {});
        const held = make("b", {});
        const item = make("li", {}, make("span", { className: "lab-arm" }, arm.name), LabLanguage.text("training loss "), number, LabLanguage.text(" · new examples "), held);
        item.style.setProperty("--arm", arm.colour);
        list.append(item);
        return { arm, number, held };
      });
    }

    tokens() {
      const seen = this.value.seen;
      const figure = this.root.querySelector(".lab-stage-norms");
      figure.hidden = !seen;
      if (!seen) return;
      const loudest = this.value.arms.filter((arm) => seen.epochs[0][arm.name]).at(-1);
      const shown = [seen.clean, ...seen.epochs.map((epoch) => epoch[loudest.name])].flatMap((norms) => norms.slice(seen.response));
      const most = Math.max(...shown);
      const place = figure.querySelector(".lab-stage-tokens");
      place.style.setProperty("--arm", loudest.colour);
      const norms = { count: seen.tokens.length - seen.response, low: Math.min(...shown).toFixed(1), high: most.toFixed(1) };
      place.setAttribute("aria-label", LabLanguage.text("{count} tokens of one response; norms {low} to {high}", norms));
      // The response: the prompt before it is mostly the template's.
      this.bars = seen.tokens.slice(seen.response).map((token, offset) => {
        const index = seen.response + offset;
        const noisy = make("i", { className: "noisy" });
        const clean = make("i", { className: "clean" });
        clean.style.height = (100 * seen.clean[index]) / most + "%";
        const word = token.replaceAll("\n", "↵").trim() || "·";
        place.append(make("span", {}, make("span", { className: "bars" }, clean, noisy), make("em", {}, word)));
        return noisy;
      });
      this.norms = (epoch) =>
        this.bars.forEach((bar, offset) => (bar.style.height = (100 * seen.epochs[epoch][loudest.name][seen.response + offset]) / most + "%"));
    }

    show(step) {
      this.step = step;
      this.slider.value = step;
      const whole = Math.round(step);
      this.output.textContent = LabLanguage.text("step {step} of {steps}", { step: whole, steps: this.value.steps });
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
          this.root.querySelector("[data-word=epoch]").textContent = LabLanguage.text("epoch {epoch} of {epochs}", { epoch: epoch + 1, epochs: seen.epochs.length });
        }
      }
      if (!this.playing) window.Lab?.fact?.("recorded.step", whole);
    }

    play() {
      this.playing = true;
      this.button.dataset.state = "playing";
      this.button.setAttribute("aria-label", LabLanguage.text("Pause"));
      if (this.step >= this.value.steps) this.step = 0;
      let last = null;
      const frame = (now) => {
        if (!this.playing) return;
        const passed = last === null ? 0 : Math.min(now - last, 100) / 1000;
        last = now;
        const step = Math.min(this.value.steps, this.step + (passed / SECONDS) * this.value.steps);
        if (this.root.clientWidth) this.show(step); // what nobody sees waits
        if (step >= this.value.steps) {
        this.pause();
        return this.show(step);
      }
        requestAnimationFrame(frame);
      };
      requestAnimationFrame(frame);
    }

    pause() {
      this.playing = false;
      this.button.dataset.state = "paused";
      this.button.setAttribute("aria-label", LabLanguage.text("Play the training"));
    }

    resized() {
      const width = this.panels[0].root.clientWidth;
      if (!width || width === this.panels[0].width) return;
      for (const panel of this.panels) panel.layout();
      this.show(this.step);
    }
  }

  window.LabStage = Stage;

  // ------------------------------------------------------------------ before anything else is there
  const OTHERS = /^(noise\..*|view|text|tab|job|lesson)$/;
  const first = document.getElementById("lab-first");
  if (!first) return;
  let stored = null;
  try {
    stored = localStorage.getItem("neftune-lab-theme");
  } catch {
    /* storage is forbidden in some embedded pages */
  }
  const dark = stored ? stored === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const leads = [...new URLSearchParams(location.search).keys()].some((name) => OTHERS.test(name));
  if (leads) return first.remove();
  first.classList.toggle("dark", dark);
  first.hidden = false;
  const root = first.querySelector(".lab-stage");
  const value = JSON.parse(first.querySelector("script").textContent);
  window.LabFirst = { root, stage: new Stage(root, value) };
  setTimeout(() => first.remove(), 60_000); // nothing came to take it over: what is there must be seen
})();
