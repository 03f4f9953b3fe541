/** Small components of several tabs, such as answers to vote on and the list of studies. */
import { grow, make, within } from "./dom.js";
import { part } from "./parts.js";
import { text } from "./text.js";

/** A button that shows or hides further controls. */
part("unfold", ({ element }) => {
  const button = within(element, "button");
  button.addEventListener("click", () => {
    const open = document.getElementById(button.getAttribute("aria-controls"))?.classList.toggle("open");
    button.setAttribute("aria-expanded", String(open));
  });
});

/** An explanation of why data cannot be used, with a button that opens the choice of columns and scrolls to it. */
part("data-problem", ({ element }) => {
  element.addEventListener("click", (event) => {
    if (!(event.target instanceof Element && event.target.closest("[data-do=columns]"))) return;
    const fold = document.querySelector("#data-by-hand button.label-wrap");
    if (fold instanceof HTMLElement && !fold.classList.contains("open")) fold.click();
    setTimeout(() => {
      const layout = document.querySelector("#data-layout input");
      if (!(layout instanceof HTMLElement)) return;
      layout.scrollIntoView({ block: "center" });
      layout.focus({ preventScroll: true });
    }, 100);
  });
});

/** Answers, as one text or in pieces, that are extended in place; a click on a vote button sends the vote and its line. */
part("answers", ({ element, props, watch, trigger }) => {
  const holder = within(element, "div");
  const draw = () => {
    const wanted = document.createElement("template");
    wanted.innerHTML = [props.value || ""].flat().join("");
    grow(holder, wanted.content);
  };
  watch("value", draw);
  draw();
  element.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("[data-vote]") : null;
    if (button instanceof HTMLElement) trigger("click", { line: Number(button.dataset.line), vote: button.dataset.vote });
  });
});

/** Buttons that stop an arm after a second click, as confirmation. */
part("arm-rows", ({ element, trigger }) => {
  element.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("[data-arm]") : null;
    if (!(button instanceof HTMLElement)) return;
    if (button.dataset.sure) {
      button.textContent = button.dataset.sure;
      button.removeAttribute("aria-label");
      delete button.dataset.sure;
    } else trigger("click", { arm: button.dataset.arm });
  });
});

/** A list with one button per study; a click sends its id. It is built from text nodes, so no content is parsed as markup. */
part("runs", ({ element, props, watch, trigger }) => {
  const list = within(element, "ul");
  /** @type {string | null} */
  let chosen = null;
  /** @param {{id: string, when: string, about: string, arms: {name: string, colour: string}[], state: string, word: string, result?: string}} run */
  const entry = ({ id, when, about, arms, state, word, result }) => {
    const dots = arms.map(({ name, colour }) => {
      const arm = make("span", { className: "lab-arm" }, name);
      arm.style.setProperty("--arm", colour);
      return arm;
    });
    const button = make(
      "button",
      { type: "button" },
      make("span", { className: "lab-run-when" }, when),
      make("span", { className: "lab-run-about" }, about),
      make("span", { className: "lab-run-arms" }, ...dots),
      make("span", { className: "lab-run-state" }, word),
      make("span", { className: "lab-run-open" }, text("Open")),
      ...(result ? [make("span", { className: "lab-run-result" }, result)] : []),
    );
    button.dataset.state = state;
    button.setAttribute("aria-pressed", String(id === chosen));
    button.addEventListener("click", () => {
      chosen = id;
      for (const other of list.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
      trigger("click", { id });
    });
    return make("li", {}, button);
  };
  const draw = () => {
    const rows = props.value || [];
    list.replaceChildren(...rows.map(entry));
    within(element, ".lab-runs-empty").hidden = rows.length > 0;
  };
  watch("value", draw);
  draw();
});
