/** Bars without Plotly: a sketch until Plotly has loaded, and new bar heights in a finished drawing. */
import { svg } from "./dom.js";

/**
 * Sketch bars where Plotly will draw them. Return whether this was possible.
 * @param {HTMLElement} node
 * @param {Trace[]} traces
 * @param {Layout} layout
 */
export const sketch = (node, traces, layout) => {
  const { xaxis, yaxis, margin, width, height } = layout;
  if (!traces.length || !traces.every((trace) => trace.type === "bar") || !xaxis?.range || !yaxis?.range) return false;
  /** @param {number} value */
  const x = (value) => margin.l + ((value - xaxis.range[0]) / (xaxis.range[1] - xaxis.range[0])) * (width - margin.l - margin.r);
  const bottom = height - margin.b;
  /** @param {number} value */
  const y = (value) => bottom - (value / yaxis.range[1]) * (bottom - margin.t);
  const root = svg("svg", { width, height, class: "lab-sketch", "aria-hidden": "true" });
  root.append(svg("path", { d: `M${margin.l},${bottom}H${width - margin.r}`, stroke: "var(--lab-line)" }));
  for (const { x: places, y: values, base, width: bar, marker } of traces) {
    values.forEach((/** @type {number} */ value, /** @type {number} */ index) => {
      const left = x(places[index] - bar / 2);
      const from = base?.[index] ?? 0;
      const size = { width: x(places[index] + bar / 2) - left, height: y(from) - y(from + value) };
      root.append(svg("rect", { x: left, y: y(from + value), ...size, fill: marker.color }));
    });
  }
  node.replaceChildren(root);
  return true;
};

const BAR = /^M([-\d.]+),([-\d.]+)V[-\d.]+H([-\d.]+)V/;

/**
 * Set the bars of a drawn figure to the heights of `traces`. If the drawing has an unexpected form, change nothing and
 * return false.
 * @param {FigureNode} node
 * @param {Trace[]} traces
 */
export const setHeights = (node, traces) => {
  const axis = node._fullLayout?.yaxis;
  if (!axis) return false;
  const groups = node.querySelectorAll(".barlayer .trace");
  if (groups.length !== traces.length) return false;
  /** @type {[Element, string][]} */
  const changes = [];
  for (let index = 0; index < traces.length; index += 1) {
    const paths = groups[index].querySelectorAll(".point > path");
    const { type, y, base } = traces[index];
    if (type !== "bar" || paths.length !== y.length) return false;
    for (let point = 0; point < y.length; point += 1) {
      const found = BAR.exec(paths[point].getAttribute("d") || "");
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
