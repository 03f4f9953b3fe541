/* The Learn tab: the recorded study as it plays, the lessons, and the facts of the page that tick their tasks off.

   A fact is a name with a number or a word (neftune_core/lessons/facts.py has the table). A task's condition is one or more
   comparisons joined by `and`; a task once done stays done, kept by this browser. */
(() => {
  "use strict";
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

  // ------------------------------------------------------------------ the recorded study
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
        svg("text", { class: "lab-stage-tick", x: MARGIN.left, y: below }, "nats a token"),
        svg("text", { class: "lab-stage-tick", x: this.width - MARGIN.right, y: below, "text-anchor": "end" }, `step ${this.steps}`),
      );
      this.lines = this.arms.map((arm) => {
        const whole = arm[this.kind].map(([step, value]) => `${this.x(step)},${this.y(value)}`).join("L");
        const faint = svg("path", { class: "lab-stage-whole", d: `M${whole}` });
        const line = svg("path", { class: "lab-stage-line" });
        const dot = svg("circle", { class: "lab-stage-dot", r: 4.5 });
        for (const node of [faint, line, dot]) node.style.setProperty("--arm", arm.colour);
        this.root.append(faint, line, dot);
        return { arm, line, dot };
      });
      this.now = svg("path", { class: "lab-stage-cursor" });
      this.root.append(this.now);
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
      root.querySelector(".lab-stage-about").textContent = value.about;
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
        const item = make("li", {}, make("span", { className: "lab-arm" }, arm.name), number, " training ", held, " held out");
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
      place.setAttribute("aria-label", `${seen.tokens.length - seen.response} tokens of one response; norms ${Math.min(...shown).toFixed(1)} to ${most.toFixed(1)}`);
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
      this.output.textContent = `step ${whole} of ${this.value.steps}`;
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
          this.root.querySelector("[data-word=epoch]").textContent = `epoch ${epoch + 1} of ${seen.epochs.length}`;
        }
      }
      if (!this.playing) Lab.fact("recorded.step", whole);
    }

    play() {
      this.playing = true;
      this.button.dataset.state = "playing";
      this.button.setAttribute("aria-label", "Pause");
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
      this.button.setAttribute("aria-label", "Play the training");
    }

    resized() {
      const width = this.panels[0].root.clientWidth;
      if (!width || width === this.panels[0].width) return;
      for (const panel of this.panels) panel.layout();
      this.show(this.step);
    }
  }

  Lab.part("recorded", ({ element, props }) => new Stage(element.querySelector(".lab-stage"), props.value));

  /** One prompt of the recorded answers at a time. */
  Lab.part("recorded-answers", ({ element }) => {
    const sections = [...element.querySelectorAll(".lab-answers")];
    if (sections.length < 2) return;
    const opened = new Set();
    const picker = make("div", { className: "lab-picker" });
    picker.setAttribute("role", "group");
    picker.setAttribute("aria-label", "Prompts that were held out");
    const choose = (chosen) => {
      sections.forEach((section, index) => (section.hidden = index !== chosen));
      [...picker.children].forEach((button, index) => button.setAttribute("aria-pressed", String(index === chosen)));
      opened.add(chosen);
      Lab.fact("answers.read", opened.size);
    };
    sections.forEach((section, index) => {
      const button = make("button", { type: "button" }, section.querySelector("h3").textContent);
      button.addEventListener("click", () => choose(index));
      picker.append(button);
    });
    sections[0].before(picker);
    choose(0);
  });

  // ------------------------------------------------------------------ facts
  const facts = {};
  const asked = [];
  const OPERATORS = {
    ">=": (known, wanted) => Number(known) >= Number(wanted),
    "<=": (known, wanted) => Number(known) <= Number(wanted),
    "=": (known, wanted) => String(known) === wanted || Number(known) === Number(wanted),
    "!=": (known, wanted) => String(known) !== wanted,
  };
  /** Whether a condition holds of the facts as they are. */
  const holds = (condition) =>
    condition.split(" and ").every((part) => {
      const [name, operator, value] = part.trim().split(" ");
      return name in facts && OPERATORS[operator](facts[name], value);
    });
  Lab.facts = facts;
  Lab.holds = holds;
  Lab.fact = (name, value) => {
    if (facts[name] === value) return;
    facts[name] = value;
    for (const look of asked) look();
  };

  Lab.part("facts", ({ props, watch }) => {
    const take = () => {
      for (const [name, value] of Object.entries(props.value || {})) Lab.fact(name, value);
    };
    watch("value", take);
    take();
  });

  const seenKinds = new Set();
  const seenLengths = new Set();
  Lab.on("figure:noise", ({ payload, controls, told, result, view }) => {
    const { strength, unit, kind, length_rule: rule } = controls;
    seenKinds.add(kind);
    seenLengths.add(payload.length);
    const known = { strength, unit, kind, length_rule: rule, view: view || controls.view, length: payload.length };
    Object.assign(known, { share: told.share, angle: told.angle, kinds_seen: seenKinds.size, lengths_seen: seenLengths.size });
    known.flips = Lab.noise.flips ? Lab.noise.flips(payload, controls, result) : 0;
    for (const [name, value] of Object.entries(known)) Lab.fact("noise." + name, value);
  });
  for (const [name, id] of [["train.epochs", "train-epochs"], ["train.seeds", "train-seeds"]])
    Lab.watch([id], () => Lab.fact(name, Lab.read(id)));

  // ------------------------------------------------------------------ lessons
  const KEPT = "neftune-lab-lessons";
  let done = {};
  try {
    done = JSON.parse(localStorage.getItem(KEPT)) || {};
  } catch {
    /* nothing kept, or nothing may be */
  }
  const isDone = (lesson) => lesson.tasks.every((_, index) => done[`${lesson.number}/${index}`]);
  let open = null;
  let lessons = [];
  const say = () => Lab.say("lesson", { open, lessons });

  const look = () => {
    if (!open) return;
    let news = false;
    open.tasks.forEach((task, index) => {
      const key = `${open.number}/${index}`;
      if (done[key] || !holds(task.when)) return;
      done[key] = news = true;
    });
    if (!news) return;
    try {
      localStorage.setItem(KEPT, JSON.stringify(done));
    } catch {
      /* it then holds for this page only */
    }
    say();
  };
  asked.push(look);

  /** Open a lesson by its number, or with 0 the list of them. */
  Lab.openLesson = (number, { read = true } = {}) => {
    open = lessons.find((lesson) => lesson.number === Number(number)) || null;
    seenKinds.clear();
    seenLengths.clear();
    Lab.setParameter("lesson", open ? String(open.number) : "");
    for (const lesson of lessons)
      document.getElementById(`lesson-${lesson.number}`)?.classList.toggle("open", lesson === open);
    document.getElementById("learn-home")?.classList.toggle("closed", open !== null);
    if (open && read) Lab.openTab("Learn");
    if (open && read) window.scrollTo({ top: 0 });
    look();
    say();
  };

  Lab.part("lessons", ({ element, props }) => {
    lessons = props.value;
    const list = element.querySelector("ol");
    for (const lesson of lessons) {
      const mark = make("span", { className: "lab-lesson-mark" });
      const words = make("span", { className: "lab-lesson-title" }, lesson.title);
      const button = make("button", { type: "button" }, mark, words, make("span", { className: "lab-quiet" }, `${lesson.minutes} min`));
      button.addEventListener("click", () => Lab.openLesson(lesson.number));
      list.append(make("li", {}, button));
      Lab.on("lesson", () => {
        mark.textContent = isDone(lesson) ? "✓" : lesson.number;
        mark.classList.toggle("done", isDone(lesson));
        mark.setAttribute("aria-label", isDone(lesson) ? "done" : "");
      });
    }
    say();
    const wanted = Lab.parameter("lesson");
    const ready = () => (document.getElementById(`lesson-${lessons.length}`) ? Lab.openLesson(wanted) : setTimeout(ready, 50));
    if (lessons.some((lesson) => String(lesson.number) === wanted)) ready();
  });

  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("[data-do=lessons]")) return;
    event.preventDefault();
    Lab.openLesson(0);
  });

  Lab.part("lesson-dock", ({ element }) => {
    const dock = element.querySelector(".lab-dock");
    const [title, list] = [dock.querySelector("b"), dock.querySelector("ul")];
    dock.querySelector("[data-do=text]").addEventListener("click", () => Lab.openTab("Learn"));
    dock.querySelector("[data-do=close]").addEventListener("click", () => Lab.openLesson(0));
    Lab.on("lesson", ({ open: lesson }) => {
      dock.hidden = !lesson;
      document.body.classList.toggle("lab-docked", Boolean(lesson));
      for (const item of document.querySelectorAll(".lab-tasks li"))
        item.classList.toggle("done", Boolean(done[`${item.dataset.lesson}/${item.dataset.task}`]));
      if (!lesson) return;
      title.textContent = isDone(lesson) ? `Lesson ${lesson.number} is done.` : `Lesson ${lesson.number}: ${lesson.title}`;
      list.replaceChildren(
        ...lesson.tasks.map((task, index) => {
          const item = make("li", {}, task.text);
          item.classList.toggle("done", Boolean(done[`${lesson.number}/${index}`]));
          if (done[`${lesson.number}/${index}`]) item.append(make("span", { className: "visually-hidden" }, " (done)"));
          return item;
        }),
      );
    });
  });

  // ------------------------------------------------------------------ the tab that a link opens, and tabs that it hides
  const tabs = () => [...document.querySelectorAll("#lab-tabs > .tab-wrapper [role=tab]")];
  Lab.currentTab = () => tabs().find((tab) => tab.getAttribute("aria-selected") === "true")?.textContent.trim();

  /** `?hide=data,runs` leaves these tabs out; Learn always stays. */
  const hide = (Lab.parameter("hide") || "").toLowerCase().split(",").filter((name) => /^[a-z]+$/.test(name) && name !== "learn");
  if (hide.length) {
    const rules = hide.map((name) => `#tab-${name}-button, [data-hides="${name}"]`).join(", ");
    document.head.append(make("style", {}, `${rules} { display: none !important; }`));
  }

  const OF_NOISE = /^(noise\.|view$|text$)/;
  const wanted = () => {
    const query = new URLSearchParams(location.search);
    if (query.get("tab")) return query.get("tab");
    return [...query.keys()].some((name) => OF_NOISE.test(name)) && !query.get("job") && !query.get("lesson") ? "Noise" : "";
  };
  const first = wanted();
  const opening = () => (tabs().length > 4 ? Lab.openTab(first[0].toUpperCase() + first.slice(1).toLowerCase()) : setTimeout(opening, 20));
  if (/^[a-z]+$/i.test(first)) opening();

  // A lesson shows no figure, but the tab that it leads to will.
  addEventListener("load", () => setTimeout(() => Lab.loadPlotly(), 1500));

  // ------------------------------------------------------------------ progress in the title of the page, and its end
  const NAME = document.title;
  let running = false;
  const glance = () => {
    const strip = document.querySelector("#lab-progress .lab-progress");
    const share = strip?.querySelector("progress");
    const left = /·\s*([^·]+ left)\s*$/.exec(strip?.innerText || "")?.[1];
    const word = strip?.querySelector("b")?.textContent;
    offers(left);
    if (strip?.dataset.state === "running" && share) {
      running = true;
      document.title = `${Math.round(100 * share.value)} %${left ? `, ${left}` : ""} · ${NAME}`;
    } else if (running && strip) {
      running = false;
      document.title = document.hidden ? `${word} · ${NAME}` : NAME;
      if (document.hidden && "Notification" in window && Notification.permission === "granted")
        new Notification(`${word}: ${strip.querySelector(".lab-progress-about")?.textContent || "your study"}`, { tag: "study" });
    }
  };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !running) document.title = NAME;
  });
  new MutationObserver(glance).observe(document.body, { childList: true, subtree: true, characterData: true, attributeFilter: ["data-state"] });
  // A notice may be asked for only in answer to a click, and is worth asking for where there is long to wait.
  const offer = make("button", { type: "button", hidden: true, className: "lab-offer" }, "Tell me when it ends");
  offer.addEventListener("click", () => Notification.requestPermission().then(glance));
  const offers = (left) => {
    const tools = document.querySelector(".lab-tools");
    if (tools && !offer.isConnected) tools.prepend(offer);
    const wanted = running && /min|h/.test(left || "") && "Notification" in window && Notification.permission === "default";
    if (offer.hidden === wanted) offer.hidden = !wanted;
  };
})();
