/* The live figure: one Plotly node for the life of the component, redrawn with Plotly.react.

   Its value is a figure {name, data, layout, narrow, summary}, or {source, controls, payload, ...shell}: then
   Lab.sources[source](payload, controls) makes {data, layout, summary} here, again at every move of a control. */
(() => {
  "use strict";
  const NARROW = 640;
  const CONFIG = {
    displaylogo: false,
    responsive: false,
    showSendToCloud: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "toImage", "autoScale2d", "hoverClosestCartesian", "hoverCompareCartesian"],
  };

  // Plotly's own words, those of them that can be seen here.
  const LOCALE = {
    moduleType: "locale",
    name: LabLanguage.tag,
    dictionary: {
      Zoom: Lab.text("Zoom"),
      Pan: Lab.text("Pan"),
      "Zoom in": Lab.text("Zoom in"),
      "Zoom out": Lab.text("Zoom out"),
      "Reset axes": Lab.text("Reset axes"),
      "Double-click to zoom back out": Lab.text("Double-click to zoom back out"),
      "Double-click on legend to isolate one trace": Lab.text("Double-click on the legend to see one curve alone"),
    },
    format: {},
  };
  let registered = false;
  const locale = () => {
    if (!registered) Lab.Plotly.register(LOCALE);
    registered = true;
    return LOCALE.name;
  };

  const isTable = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

  const merged = (under, over) => {
    const result = { ...under };
    for (const [key, value] of Object.entries(over || {}))
      result[key] = isTable(value) && isTable(result[key]) ? merged(result[key], value) : value;
    return result;
  };

  Lab.merged = merged;

  /** A copy with every `var(--lab-...)` replaced by what the page's theme says now. Long lists of numbers pass as they are. */
  const coloured = (value, style) => {
    if (typeof value === "string")
      return value.startsWith("var(--") ? style.getPropertyValue(value.slice(4, -1)).trim() : value;
    if (Array.isArray(value))
      return value.length && typeof value[0] === "number" ? value : value.map((part) => coloured(part, style));
    if (!isTable(value)) return value;
    const result = {};
    for (const key in value) result[key] = coloured(value[key], style);
    return result;
  };

  /** Traces whose uid can be part of a class name: Plotly looks for its own nodes by it. */
  const named = (traces) => traces.map((trace) => ({ ...trace, uid: String(trace.uid).replace(/[^\w-]/g, coded) }));
  const coded = (letter) => "_" + letter.codePointAt(0).toString(16);

  class LiveFigure {
    constructor({ element, props, watch }) {
      this.node = element.querySelector(".lab-figure-plot");
      this.summary = element.querySelector(".lab-figure-summary");
      this.props = props;
      this.choices = element.querySelector(".lab-figure-choices");
      this.chosen = {}; // by the reader, for each figure that is shown here: `log` and `smoothing`
      this.redraws = 0;
      this.watching = false;
      this.node.labFigure = this;
      watch("value", () => this.receive());
      Lab.on("theme", () => this.draw());
      Lab.on("plotly", () => this.failure && this.draw());
      new ResizeObserver(() => this.resized()).observe(this.node.parentElement);
      this.choices.addEventListener("input", ({ target }) => {
        this.choice()[target.dataset.choice] = target.type === "checkbox" ? target.checked : Number(target.value);
        this.draw({ moving: true });
      });
      element.querySelector(".lab-figure-tools").addEventListener("click", (event) => {
        const format = event.target.dataset.format;
        if (format) this.download(format);
      });
      this.receive();
    }

    receive() {
      const given = this.props.value;
      this.value = given?.source || given?.data?.length ? given : null;
      this.node.parentElement.classList.toggle("lab-empty", !this.value);
      if (!this.value) return this.clear();
      if (this.value.controls && !this.watching) {
        this.watching = true;
        const ids = Object.values(this.value.controls).map(({ id }) => id);
        Lab.watch(ids, (event) => {
          this.touched = true;
          // Radios of the framework have names of their own: until it has heard of the choice, two of them are checked.
          if (event?.target.type === "radio") setTimeout(() => this.draw(), 0);
          else this.draw({ moving: true });
        });
      }
      this.draw();
    }

    /** No value, no drawing: neither axes without a curve nor the curves of something else. */
    clear() {
      clearTimeout(this.later);
      cancelAnimationFrame(this.frame);
      if (this.drawn) Lab.Plotly.purge(this.node);
      this.drawn = this.width = undefined;
      this.failure?.remove();
      this.failure = null;
      this.node.style.minHeight = "";
      this.tell("");
    }

    /** The figure as it stands: as sent, or as its source computes it from the controls. */
    current() {
      const value = this.value;
      if (!value.source) return value;
      const controls = {};
      // While the page mounts, its inputs are there before their values are: until one is touched, the declared value holds.
      for (const [name, { id, value: declared }] of Object.entries(value.controls))
        controls[name] = (this.touched ? Lab.read(id) : undefined) ?? declared;
      const made = Lab.sources[value.source](value.payload, controls);
      Lab.say("figure:" + value.name, made);
      return { ...value, ...made, layout: merged(value.layout, made.layout) };
    }

    /** `moving`: more moves are to be expected, so that Plotly draws no oftener than the screen is. */
    draw({ moving = false } = {}) {
      if (!this.value) return;
      const figure = this.current();
      this.tell(figure.summary);
      const width = this.node.clientWidth;
      if (!width) return; // a figure of a closed tab; it is drawn when the tab opens
      const layout = this.laidOut(figure, width);
      this.offer(figure);
      if (!Lab.Plotly) {
        this.beforePlotly(figure, layout, moving);
      } else if (!this.moveBars(figure, layout)) {
        cancelAnimationFrame(this.frame);
        if (moving) this.frame = requestAnimationFrame(() => this.react(figure, layout));
        else this.react(figure, layout);
      }
      this.redraws += 1;
      this.node.dataset.drawn = "yes";
    }

    laidOut(figure, width) {
      const narrow = width < NARROW;
      const layout = narrow ? merged(figure.layout, figure.narrow) : { ...figure.layout };
      layout.width = this.width = width;
      this.node.style.minHeight = layout.height + "px";
      return this.isLogarithmic(figure) ? onLogarithms(layout, figure.data) : layout;
    }

    choice() {
      return (this.chosen[this.value.name] ??= {});
    }

    isLogarithmic(figure) {
      return figure.log !== undefined && (this.choice().log ?? figure.log);
    }

    /** The scale and the smoothing, where the figure is one of curves over steps. */
    offer(figure) {
      const offered = figure.log !== undefined;
      if (this.choices.hidden === offered) this.choices.hidden = !offered;
      const [log, smoothing] = this.choices.querySelectorAll("input");
      log.checked = this.isLogarithmic(figure);
      smoothing.value = this.choice().smoothing ?? 0;
      const isNoisy = offered && figure.data.some((trace) => trace.meta?.noisy);
      if (smoothing.parentElement.hidden === isNoisy) smoothing.parentElement.hidden = !isNoisy;
    }

    react(figure, layout) {
      clearTimeout(this.later);
      cancelAnimationFrame(this.frame);
      this.failure?.remove();
      this.failure = null;
      const style = getComputedStyle(document.body);
      if (this.sketched) this.node.replaceChildren();
      this.sketched = false;
      const config = { ...CONFIG, locale: locale(), displayModeBar: layout.width < NARROW ? false : "hover" }; // it would cover the legend
      Lab.Plotly.react(this.node, coloured(named(smoothed(figure.data, this.choice().smoothing)), style), coloured(layout, style), config);
      const { value } = this;
      this.drawn = { value, view: figure.view, range: String(layout.yaxis?.range), width: layout.width, dark: Lab.isDark() };
    }

    beforePlotly(figure, layout, moving) {
      this.sketched = sketch(this.node, figure.data, layout);
      if (!this.sketched) this.node.replaceChildren(); // what an earlier view had left
      if (this.asked || (moving && this.failure)) return;
      this.asked = true;
      // After the next frame, so that the sketch is seen first.
      requestAnimationFrame(() => setTimeout(() => this.fetch(), 0));
    }

    fetch() {
      Lab.loadPlotly().then(
        () => this.draw(),
        (error) => this.tellFailure(error.message),
      );
    }

    /** A sentence in the figure, and a button for another try; the next thing that draws it tries again too. */
    tellFailure(words) {
      this.asked = false;
      if (this.failure) return;
      const again = Object.assign(document.createElement("button"), { type: "button", textContent: Lab.text("Try again") });
      again.addEventListener("click", () => this.fetch());
      this.failure = Object.assign(document.createElement("p"), { className: "lab-warning", textContent: words + " " });
      this.failure.setAttribute("role", "status");
      this.failure.append(again);
      this.node.before(this.failure);
    }

    /** While a control moves, only the heights of bars change: they are set in the kept drawing, in a millisecond or two,
        and Plotly draws the whole again when the control rests. Gives whether that was possible. */
    moveBars(figure, layout) {
      const { drawn } = this;
      const same =
        drawn &&
        drawn.value === this.value &&
        drawn.view === figure.view &&
        drawn.range === String(layout.yaxis?.range) &&
        drawn.width === layout.width &&
        drawn.dark === Lab.isDark();
      if (!this.value.source || !same || !setHeights(this.node, figure.data)) return false;
      clearTimeout(this.later);
      this.later = setTimeout(() => this.react(figure, layout), 150);
      return true;
    }

    tell(text) {
      if (text === undefined || this.summary.textContent === text) return;
      this.summary.textContent = text;
      this.node.setAttribute("aria-label", text);
    }

    resized() {
      if (this.node.clientWidth && this.node.clientWidth !== this.width) this.draw();
    }

    download(format) {
      if (!this.value) return undefined;
      const { name = "figure", data } = this.current();
      if (format === "csv") return save(new Blob([csv(data)], { type: "text/csv" }), name + ".csv");
      return Lab.Plotly?.downloadImage(this.node, {
        format,
        filename: name,
        width: this.node.clientWidth,
        height: this.node.clientHeight,
        scale: format === "png" ? 2 : 1,
      });
    }
  }

  /** Every vertical axis logarithmic, with ticks at 1, 2 and 5 where it is long enough for them; what was zoomed on the
      other scale is not kept. */
  const onLogarithms = (layout, traces) => {
    const result = { ...layout };
    for (const name of Object.keys(layout)) {
      if (!name.startsWith("yaxis")) continue;
      const mine = traces.filter((trace) => "yaxis" + (trace.yaxis ?? "y").slice(1) === name);
      const values = mine.flatMap((trace) => trace.y).filter((value) => value > 0);
      const [least, most] = values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, 0]);
      const ticks = most >= 10 * least ? { dtick: "D2" } : {};
      result[name] = { ...layout[name], ...ticks, type: "log", rangemode: "normal", tickformat: "~g", uirevision: "log" };
    }
    return result;
  };

  /** Noisy traces as running means in which each value weighs `past` times the one after it; the start is not pulled to zero. */
  const smoothed = (traces, past) => {
    if (!past) return traces;
    const means = (values) => {
      let [sum, mass] = [0, 0];
      return values.map((value) => {
        if (!Number.isFinite(value)) return value;
        [sum, mass] = [past * sum + value, past * mass + 1];
        return sum / mass;
      });
    };
    return traces.map((trace) => (trace.meta?.noisy ? { ...trace, y: means(trace.y) } : trace));
  };

  const svg = (name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text) node.textContent = text;
    return node;
  };

  /** Bars over one pair of axes, where Plotly will put them, for the second before it is there. Gives whether it could. */
  const sketch = (node, traces, layout) => {
    const { xaxis, yaxis, margin, width, height } = layout;
    if (!traces.length || !traces.every((trace) => trace.type === "bar") || !xaxis?.range || !yaxis?.range) return false;
    const x = (value) =>
      margin.l + ((value - xaxis.range[0]) / (xaxis.range[1] - xaxis.range[0])) * (width - margin.l - margin.r);
    const bottom = height - margin.b;
    const y = (value) => bottom - (value / yaxis.range[1]) * (bottom - margin.t);
    const root = svg("svg", { width, height, class: "lab-sketch", "aria-hidden": "true" });
    root.append(svg("path", { d: `M${margin.l},${bottom}H${width - margin.r}`, stroke: "var(--lab-line)" }));
    for (const { x: places, y: values, base, width: bar, marker } of traces) {
      values.forEach((value, index) => {
        const left = x(places[index] - bar / 2);
        const from = base?.[index] ?? 0;
        root.append(
          svg("rect", {
            x: left,
            y: y(from + value),
            width: x(places[index] + bar / 2) - left,
            height: y(from) - y(from + value),
            fill: marker.color,
          }),
        );
      });
    }
    node.replaceChildren(root);
    return true;
  };

  const BAR = /^M([-\d.]+),([-\d.]+)V[-\d.]+H([-\d.]+)V/;

  /** Set the bars of a drawn figure to the heights of `traces`. Gives false, having changed nothing, where the drawing is
      not as expected. */
  const setHeights = (node, traces) => {
    const axis = node._fullLayout?.yaxis;
    if (!axis) return false;
    const groups = node.querySelectorAll(".barlayer .trace");
    if (groups.length !== traces.length) return false;
    const changes = [];
    for (let index = 0; index < traces.length; index += 1) {
      const paths = groups[index].querySelectorAll(".point > path");
      const { type, y, base } = traces[index];
      if (type !== "bar" || paths.length !== y.length) return false;
      for (let point = 0; point < y.length; point += 1) {
        const found = BAR.exec(paths[point].getAttribute("d"));
        if (!found) return false;
        const [, left, drawn, right] = found;
        const bottom = base ? axis.l2p(base[point]).toFixed(2) : drawn;
        const top = axis.l2p((base?.[point] ?? 0) + y[point]).toFixed(2);
        changes.push([paths[point], `M${left},${bottom}V${top}H${right}V${bottom}Z`]);
      }
    }
    for (const [path, shape] of changes) path.setAttribute("d", shape);
    return true;
  };

  /** One row a point: the trace, what it is called, x and y, and where a bar begins that does not stand on zero. */
  const csv = (traces) => {
    const cell = (value) => {
      // A spreadsheet runs what begins like a formula, and texts of visitors are among the tokens.
      const text = (typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? "'" : "") + (value ?? "");
      return /[",\n\r]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
    };
    const rows = [["trace", "label", "x", "y", "base"]];
    for (const { uid, name, x, y = [], text, customdata, base, meta } of traces)
      (meta?.level ? y.slice(0, 1) : y).forEach((value, index) =>
        rows.push([uid || name, (customdata || text)?.[index], x[index], value, base?.[index]]),
      );
    return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
  };

  const save = (blob, name) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };

  Lab.part("figure", (given) => new LiveFigure(given));
})();
