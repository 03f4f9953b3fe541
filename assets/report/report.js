/** Draws the figures of an exported report, each at the width of its container. Printed figures are narrower and always light.
   The module and its imports are written into the report as one script. */
import { coloured, laidOut, NARROW } from "../page/traces.js";

const CONFIG = { displaylogo: false, showSendToCloud: false, responsive: false };
const PAPER = NARROW + 40;

/** @param {number} [width] */
const draw = (width) => {
  const style = getComputedStyle(document.documentElement);
  /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".plot")).forEach((node) => {
    const figure = FIGURES[Number(node.dataset.figure)];
    const layout = laidOut(figure, width || node.clientWidth, Boolean(figure.log));
    Plotly.react(node, coloured(figure.data, style), coloured(layout, style), CONFIG);
  });
};
draw();
addEventListener("resize", () => draw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
addEventListener("beforeprint", () => draw(PAPER));
addEventListener("afterprint", () => draw());
