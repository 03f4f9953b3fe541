/** Small components of several tabs: expandable columns, answers to vote on, the list of studies. */
import { grow, make, within } from "./dom.js";
import { part } from "./parts.js";

/** A button that shows and hides a table column; screen readers can still read a hidden one. */
part("unfold", ({ element }) => {
  const button = within(element, "button");
  button.addEventListener("click", () => {
    const open = document.getElementById(button.getAttribute("aria-controls"))?.classList.toggle("open");
    button.setAttribute("aria-expanded", String(open));
  });
});

/** Why data cannot be used; its button opens the choice of columns and goes there. */
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

/** Answers, whole or in pieces, that grow where they stand; a click on a vote sends it with its line. */
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

/** A button that stops an arm asks once more before it does. */
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

/** One button per study; a click sends its id. The list is built from text nodes only, so its content is never parsed as markup. */
part("runs", ({ element, props, watch, trigger }) => {
  const list = within(element, "ul");
  /** @type {string | null} */
  let chosen = null;
  /** @param {{id: string, when: string, about: string, arms: {name: string, colour: string}[], state: string, word: string}} run */
  const entry = ({ id, when, about, arms, state, word }) => {
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
