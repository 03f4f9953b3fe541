/** The panel of a link, with its QR code, which the server computes, and further ways of sharing. */
import { parameter } from "./address.js";
import { copy, svg, within } from "./dom.js";
import { on, part } from "./parts.js";

const MARGIN = 4; // width of the empty border that QR code readers need, in modules
const ACTIONS = ["share", "withdraw", "class"];

part("link-code", ({ element, props, watch, trigger }) => {
  const panel = within(element, ".lab-link-code");
  const [image, words] = [within(panel, "svg"), within(panel, ".lab-link-code-text")];
  /** @param {string} name @returns {HTMLButtonElement} */
  const button = (name) => within(panel, `[data-do=${name}]`);
  /** Send an action, or "", and request the current state of the link. @param {string} action */
  const ask = (action) => trigger("click", { link: settings, job: parameter("job") || "", action });
  let settings = "";
  const close = () => (panel.hidden = true);
  for (const action of ACTIONS) button(action).addEventListener("click", () => ask(action));
  button("open").addEventListener("click", () => location.assign(props.value.link));
  button("close").addEventListener("click", close);
  panel.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape") close();
  });
  on("link", (/** @type {string} */ link) => {
    settings = link;
    ask("");
  });
  watch("value", () => {
    const { link, size, path, problem, about, offers = [], copied } = props.value || {};
    words.textContent = link;
    if (copied) copy(link);
    within(panel, "[data-word=about]").textContent = problem || about;
    for (const name of [...ACTIONS, "open"]) button(name).hidden = !offers.includes(name);
    image.toggleAttribute("hidden", !path);
    image.setAttribute("viewBox", `${-MARGIN} ${-MARGIN} ${size + 2 * MARGIN} ${size + 2 * MARGIN}`);
    const paper = svg("rect", { x: -MARGIN, y: -MARGIN, width: size + 2 * MARGIN, height: size + 2 * MARGIN, fill: "#fff" });
    image.replaceChildren(paper, svg("path", { d: path || "", fill: "#000" }));
    panel.hidden = false;
    panel.focus();
  });
});
