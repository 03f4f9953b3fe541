/** The link to the page as a QR code, which the server draws. */
import { svg, within } from "./dom.js";
import { on, part } from "./parts.js";

const MARGIN = 4; // modules that a reader of codes needs around them

part("link-code", ({ element, props, watch, trigger }) => {
  const panel = within(element, ".lab-link-code");
  const [image, words] = [within(panel, "svg"), within(panel, ".lab-link-code-text")];
  const about = within(panel, "[data-word=about]");
  const usual = about.textContent;
  const close = () => (panel.hidden = true);
  within(panel, "[data-do=close]").addEventListener("click", close);
  panel.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape") close();
  });
  on("link", (/** @type {string} */ link) => {
    words.textContent = link;
    trigger("click", { link });
  });
  watch("value", () => {
    const { size, path, problem } = props.value || {};
    about.textContent = problem || usual;
    image.toggleAttribute("hidden", !path);
    image.setAttribute("viewBox", `${-MARGIN} ${-MARGIN} ${size + 2 * MARGIN} ${size + 2 * MARGIN}`);
    const paper = svg("rect", { x: -MARGIN, y: -MARGIN, width: size + 2 * MARGIN, height: size + 2 * MARGIN, fill: "#fff" });
    image.replaceChildren(paper, svg("path", { d: path || "", fill: "#000" }));
    panel.hidden = false;
    panel.focus();
  });
});
