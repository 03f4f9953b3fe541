/* The live figure: one Plotly node for the life of the component, redrawn with Plotly.react.

   Its value is a figure {name, data, layout, narrow, summary}, or {source, controls, payload, ...shell}: then
   Lab.sources[source](payload, controls) makes {data, layout, summary} here, again at every move of a control. */
(() => {
  "use strict";
  const NARROW = 640;
  const CONFIG = {
    displaylogo: false,
    responsive: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "toImage", "autoScale2d", "hoverClosestCartesian", "hoverCompareCartesian"],
  };

  const isTable = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

  const merged = (under, over) => {
    const result = { ...under };
    for (const [key, value] of Object.entries(over || {}))
      result[key] = isTable(value) && isTable(result[key]) ? merged(result[key], value) : value;
    return result;
  };

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

  class LiveFigure {
    constructor({ element, props, watch }) {
      this.node = element.querySelector(".lab-figure-plot");
      this.summary = element.querySelector(".lab-figure-summary");
      this.props = props;
      this.redraws = 0;
      this.watching = false;
      this.node.labFigure = this;
      watch("value", () => this.receive());
      Lab.on("theme", () => this.draw());
      new ResizeObserver(() => this.resized()).observe(this.node.parentElement);
      element.querySelector(".lab-figure-tools").addEventListener("click", (event) => {
        const format = event.target.dataset.format;
        if (format) this.download(format);
      });
      this.receive();
    }

    receive() {
      this.value = this.props.value;
      if (!this.value) return;
      if (this.value.controls && !this.watching) {
        this.watching = true;
        const ids = Object.values(this.value.controls).map(({ id }) => id);
        Lab.watch(ids, () => {
          this.touched = true;
          this.draw();
        });
      }
      this.draw();
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

    draw() {
      if (!this.value) return;
      const figure = this.current();
      this.tell(figure.summary);
      const width = this.node.clientWidth;
      // A figure of a closed tab has no width; it is drawn when the tab opens.
      if (!Lab.Plotly || !width) {
        Lab.plotly.then(() => this.node.clientWidth && !this.redraws && this.draw());
        return;
      }
      this.narrow = width < NARROW;
      const style = getComputedStyle(document.body);
      const layout = coloured(this.narrow ? merged(figure.layout, figure.narrow) : figure.layout, style);
      layout.width = width;
      this.width = width;
      this.node.style.minHeight = layout.height + "px";
      Lab.Plotly.react(this.node, coloured(figure.data, style), layout, CONFIG);
      this.redraws += 1;
      this.node.dataset.drawn = "yes";
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
      const name = this.value?.name || "figure";
      if (format === "csv") return save(new Blob([csv(this.current().data)], { type: "text/csv" }), name + ".csv");
      return Lab.Plotly?.downloadImage(this.node, {
        format,
        filename: name,
        width: this.node.clientWidth,
        height: this.node.clientHeight,
        scale: format === "png" ? 2 : 1,
      });
    }
  }

  /** One row a point: the trace, x and y. */
  const csv = (traces) => {
    const cell = (value) => (/[",\n]/.test(String(value)) ? '"' + String(value).replaceAll('"', '""') + '"' : value);
    const rows = [["trace", "x", "y"]];
    for (const trace of traces)
      (trace.y || []).forEach((y, index) => rows.push([trace.uid || trace.name, trace.text?.[index] ?? trace.x[index], y]));
    return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
  };

  const save = (blob, name) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };

  Lab.part("figure", (given) => new LiveFigure(given));
})();
