/** The live figure: one Plotly node for the lifetime of the component, redrawn with Plotly.react.

   Its value is a figure {name, data, layout, narrow, summary}, or {source, controls, payload, ...shell}. In the second case,
   sources[source](payload, controls) computes {data, layout, summary} in the browser whenever a control changes. */
import { read, watch as watchControls } from "./controls.js";
import { make, save, store, stored, within } from "./dom.js";
import { isFull, offerFullScreen } from "./full-screen.js";
import { grown } from "./growth.js";
import { on, part, say } from "./parts.js";
import { loadPlotly, plotly } from "./plotly.js";
import { magnification } from "./projector.js";
import { setHeights, sketch } from "./sketch.js";
import { keepInSight } from "./stay.js";
import { text } from "./text.js";
import { isDark } from "./theme.js";
import { coloured, csv, laidOut, magnified, merged, named, NARROW, smoothed } from "./traces.js";

/**
 * Functions that compute figures in the browser, by name.
 * @type {Record<string, (payload: any, controls: any) => Drawn>}
 */
export const sources = {};

const CONFIG = {
  displaylogo: false,
  responsive: false,
  showSendToCloud: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "toImage", "autoScale2d", "hoverClosestCartesian", "hoverCompareCartesian"],
};

// Translations of Plotly's texts that appear on the page.
const LOCALE = {
  moduleType: "locale",
  name: LabLanguage.tag,
  dictionary: {
    Zoom: text("Zoom"),
    Pan: text("Pan"),
    "Zoom in": text("Zoom in"),
    "Zoom out": text("Zoom out"),
    "Reset axes": text("Reset axes"),
    "Double-click to zoom back out": text("Double-click to zoom back out"),
    "Double-click on legend to isolate one trace": text("Double-click the legend to isolate one curve"),
  },
  format: {},
};
let registered = false;
const locale = () => {
  if (!registered) plotly().register(LOCALE);
  registered = true;
  return LOCALE.name;
};

/** Factor by which type is larger in full screen. */
const FULL_SCREEN = 1.3;
/** Figures at least as wide as this, on a screen at least as high, are drawn higher by this factor, because there is room below. */
const LARGE = { width: 900, height: 1000, factor: 1.3 };

const SCALES = "neftune-lab-scales";
const MOST_SCALES = 200; // stored at once, the newest last

/** Return the scales stored in this browser, by figure and study. @returns {Record<string, boolean>} */
const storedScales = () => {
  try {
    return JSON.parse(stored(SCALES) || "{}") || {};
  } catch {
    return {}; // the stored text is not valid
  }
};

/**
 * Return whether the vertical axis of a figure is logarithmic before the user chooses. For the figure of a study, this is
 * decided when this browser first shows it, so that neither the end of the study nor a reload changes it.
 * @param {Figure} figure
 * @returns {boolean}
 */
const firstScale = ({ name, study, log = false }) => {
  if (!study) return log;
  const [scales, key] = [storedScales(), `${name} ${study}`];
  if (!(key in scales)) store(SCALES, JSON.stringify(Object.fromEntries([...Object.entries(scales), [key, log]].slice(-MOST_SCALES))));
  return scales[key] ?? log;
};

class LiveFigure {
  /** @type {any} the figure that is shown (Computed), or null */
  value = null;
  /** @type {any} the last figure received, even if it is empty */
  held = null;
  redraws = 0;
  watching = false;
  touched = false;
  sketched = false;
  asked = false;
  /** Whether the figure has changed while it was hidden. */
  missed = false;
  /** @type {IntersectionObserver | undefined} */
  sight;
  frame = 0;
  later = 0;
  /** @type {number | undefined} */
  width;
  /** Current magnification of the type. */
  factor = 1;
  /** @type {{value: any, view?: string, range: string, width: number, dark: boolean} | undefined} */
  drawn;
  /** @type {HTMLElement | null} */
  failure = null;
  /**
   * The user's choices for each figure shown here.
   * @type {Record<string, {log?: boolean, smoothing?: number} & Record<string, any>>}
   */
  chosen = {};

  /**
   * Whether the vertical axis of each figure of each study is logarithmic at first.
   * @type {Record<string, boolean>}
   */
  scales = {};

  /** @param {Given} given */
  constructor({ element, props, watch }) {
    /** @type {FigureNode & {parentElement: HTMLElement}} */
    this.node = within(element, ".lab-figure-plot");
    this.summary = within(element, ".lab-figure-summary");
    this.props = props;
    /** @type {HTMLElement} */
    this.choices = within(element, ".lab-figure-choices");
    this.node.labFigure = this;
    keepInSight(element);
    watch("value", () => this.receive());
    on("theme", () => this.draw());
    on("projector", () => this.draw());
    const full = within(element, ".lab-figure-tools [data-do=full]");
    offerFullScreen(this.node.parentElement, full, () => this.draw());
    on("plotly", () => this.failure && this.draw());
    on("opened", () => this.draw());
    new ResizeObserver(() => this.resized()).observe(this.node.parentElement);
    this.choices.addEventListener("input", ({ target }) => {
      if (!(target instanceof HTMLInputElement)) return;
      this.choice()[String(target.dataset.choice)] = target.type === "checkbox" ? target.checked : Number(target.value);
      this.draw({ moving: true });
    });
    within(element, ".lab-figure-tools").addEventListener("click", (/** @type {MouseEvent} */ event) => {
      const format = event.target instanceof HTMLElement ? event.target.dataset.format : "";
      if (format) this.download(format);
    });
    this.receive();
  }

  /** Receive a figure or changes to the current figure; ignore changes to a different one. */
  receive() {
    const given = this.props.value;
    if (given?.since === undefined) this.held = given;
    else if (given.since === this.held?.tag) this.held = grown(this.held, given);
    else return;
    this.take(this.held);
  }

  /** Show a figure, or nothing if it is empty. @param {any} given */
  take(given) {
    this.value = given?.source || given?.data?.length ? given : null;
    this.node.parentElement.classList.toggle("lab-empty", !this.value);
    if (!this.value) return this.clear();
    if (this.value.controls && !this.watching) {
      this.watching = true;
      const ids = Object.values(this.value.controls).map((/** @type {any} */ { id }) => id);
      watchControls(ids, (event) => {
        this.touched = true;
        // Until the framework has processed the choice, two radio buttons can be checked.
        if (event?.target instanceof HTMLInputElement && event.target.type === "radio") setTimeout(() => this.draw(), 0);
        else this.draw({ moving: true });
      });
    }
    this.draw();
  }

  /** Remove the drawing, including axes and the curves of an earlier figure. */
  clear() {
    clearTimeout(this.later);
    cancelAnimationFrame(this.frame);
    if (this.drawn) plotly().purge(this.node);
    this.drawn = this.width = undefined;
    this.failure?.remove();
    this.failure = null;
    this.node.style.minHeight = "";
    this.tell("");
  }

  /**
   * Return the current figure, as received or as computed from the controls.
   * @returns {Figure}
   */
  current() {
    const value = this.value;
    if (!value.source) return value;
    /** @type {Record<string, any>} */
    const controls = {};
    // While the page mounts, inputs exist before they have values, so declared values are used until an input changes.
    for (const [name, { id, value: declared }] of Object.entries(/** @type {Record<string, any>} */ (value.controls)))
      controls[name] = (this.touched ? read(id) : undefined) ?? declared;
    const made = sources[value.source](value.payload, controls);
    say("figure:" + value.name, made);
    return { ...value, ...made, layout: merged(value.layout, made.layout) };
  }

  /** Draw the figure; if `moving`, more changes are expected, so Plotly draws at most once per animation frame. */
  draw({ moving = false } = {}) {
    if (!this.value) return;
    const figure = this.current();
    this.tell(figure.summary);
    const width = this.node.clientWidth;
    this.missed = !width; // its tab is closed: it is drawn once it has a width again
    if (!width) return;
    const layout = this.laidOut(figure, width);
    this.offer(figure);
    if (!plotly()) {
      this.beforePlotly(figure, layout, moving);
    } else if (!this.moveBars(figure, layout)) {
      cancelAnimationFrame(this.frame);
      if (moving) this.frame = requestAnimationFrame(() => this.react(figure, layout));
      else this.react(figure, layout);
    }
    this.redraws += 1;
    this.node.dataset.drawn = "yes";
  }

  /**
   * Return the layout at a width, magnified.
   * @param {Figure} figure
   * @param {number} width
   */
  laidOut(figure, width) {
    const isWhole = isFull(this.node.parentElement);
    this.factor = magnification() * (isWhole ? FULL_SCREEN : 1);
    const layout = magnified(laidOut(figure, width / this.factor, this.isLogarithmic(figure)), this.factor);
    layout.width = this.width = width;
    if (innerHeight >= LARGE.height && width >= LARGE.width) layout.height = Math.round(layout.height * LARGE.factor);
    if (isWhole) layout.height = this.node.clientHeight;
    else this.node.style.minHeight = layout.height + "px";
    return layout;
  }

  choice() {
    return (this.chosen[this.value.name] ??= {});
  }

  /**
   * Return whether the vertical axis is logarithmic: as chosen by the user, otherwise as the figure was first received.
   * @param {Figure} figure
   * @returns {boolean}
   */
  isLogarithmic(figure) {
    if (figure.log === undefined) return false;
    return this.choice().log ?? (this.scales[`${figure.name} ${figure.study ?? ""}`] ??= firstScale(figure));
  }

  /**
   * Show the controls for scale and smoothing if the figure shows curves over steps.
   * @param {Figure} figure
   */
  offer(figure) {
    const offered = figure.log !== undefined;
    if (this.choices.hidden === offered) this.choices.hidden = !offered;
    const [log, smoothing] = this.choices.querySelectorAll("input");
    log.checked = this.isLogarithmic(figure);
    smoothing.value = String(this.choice().smoothing ?? 0);
    const isNoisy = offered && figure.data.some((trace) => trace.meta?.noisy);
    const label = smoothing.parentElement;
    if (label && label.hidden === isNoisy) label.hidden = !isNoisy;
  }

  /**
   * Draw the figure with Plotly.
   * @param {Figure} figure
   * @param {Layout} layout
   */
  react(figure, layout) {
    clearTimeout(this.later);
    cancelAnimationFrame(this.frame);
    this.failure?.remove();
    this.failure = null;
    const style = getComputedStyle(document.body);
    if (this.sketched) this.node.replaceChildren();
    this.sketched = false;
    const config = { ...CONFIG, locale: locale(), displayModeBar: layout.width < NARROW ? false : "hover" }; // the mode bar would cover the legend
    const traces = magnified(named(smoothed(figure.data, this.choice().smoothing)), this.factor);
    plotly().react(this.node, coloured(traces, style), coloured(layout, style), config);
    const { value } = this;
    this.drawn = { value, view: figure.view, range: String(layout.yaxis?.range), width: layout.width, dark: isDark() };
  }

  /**
   * Sketch the figure if possible, and load Plotly.
   * @param {Figure} figure
   * @param {Layout} layout
   * @param {boolean} moving
   */
  beforePlotly(figure, layout, moving) {
    this.sketched = sketch(this.node, figure.data, layout);
    if (!this.sketched) this.node.replaceChildren(); // remains of an earlier view
    if (this.asked || (moving && this.failure)) return;
    // Load Plotly once the figure is in view, after the frame that shows the sketch.
    this.sight?.disconnect();
    this.sight = new IntersectionObserver((found) => found.at(-1)?.isIntersecting && this.isSeen() && this.fetch());
    this.sight.observe(this.node);
  }

  fetch() {
    this.sight?.disconnect();
    this.asked = true;
    loadPlotly().then(
      () => this.draw(),
      (error) => this.tellFailure(error.message),
    );
  }

  /**
   * Show an error and a retry button in the figure; the next redraw also retries.
   * @param {string} words
   */
  tellFailure(words) {
    this.asked = false;
    if (this.failure) return;
    const again = make("button", { type: "button" }, text("Try again"));
    again.addEventListener("click", () => this.fetch());
    this.failure = make("p", { className: "lab-warning", role: "status" }, words + " ", again);
    this.node.before(this.failure);
  }

  /**
   * Set new bar heights in the existing drawing, which takes one or two milliseconds. Plotly redraws everything when the
   * control rests. Return whether this was possible.
   * @param {Figure} figure
   * @param {Layout} layout
   */
  moveBars(figure, layout) {
    const { drawn } = this;
    const same =
      drawn &&
      drawn.value === this.value &&
      drawn.view === figure.view &&
      drawn.range === String(layout.yaxis?.range) &&
      drawn.width === layout.width &&
      drawn.dark === isDark();
    if (!this.value.source || !same || !setHeights(this.node, figure.data)) return false;
    clearTimeout(this.later);
    this.later = window.setTimeout(() => this.react(figure, layout), 150);
    return true;
  }

  /** Show the summary, and use it as the label for screen readers. @param {string | undefined} words */
  tell(words) {
    if (words === undefined || this.summary.textContent === words) return;
    this.summary.textContent = words;
    this.node.setAttribute("aria-label", words);
  }

  resized() {
    const isChanged = this.node.clientWidth !== this.width || isFull(this.node.parentElement);
    if (this.isSeen() && (isChanged || this.missed || !this.drawn)) this.draw(); // also if its tab was closed before Plotly had loaded
  }

  /** Return whether the figure is visible; while the page opens, the tab mounted first may not be the requested one. */
  isSeen() {
    return "labOpened" in document.body.dataset && this.node.clientWidth > 0;
  }

  /** @param {string} format */
  download(format) {
    if (!this.value) return undefined;
    const { name = "figure", data } = this.current();
    if (format === "csv") return save(new Blob([csv(data)], { type: "text/csv" }), name + ".csv");
    return plotly()?.downloadImage(this.node, {
      format,
      filename: name,
      width: this.node.clientWidth,
      height: this.node.clientHeight,
      scale: format === "png" ? 2 : 1,
    });
  }
}

/**
 * Return the version of a figure's content, to which the next changes apply; "" if there is none.
 * @param {string} id
 * @returns {string}
 */
export const figureTag = (id) => {
  /** @type {any} */
  const node = document.querySelector(`#${id} .lab-figure-plot`);
  return node?.labFigure?.held?.tag ?? "";
};

part("figure", (given) => new LiveFigure(given));
