/** The strip: the description of the next study, and its buttons. */
import { openTab } from "./address.js";
import { copy, make, within } from "./dom.js";
import { read, watch } from "./controls.js";
import { on, part, say } from "./parts.js";
import { isProjected } from "./projector.js";
import { changeLanguage, describe, isBundled, isLinkWhole, isOfEarlierVisit, link, startAfresh, toggleProjector } from "./state.js";
import { text } from "./text.js";
import { toggleTheme } from "./theme.js";

/** The description of the next study. The server provides model, data and seed; the browser provides the noise. */
part("strip-words", ({ element, props, watch: whenever }) => {
  /** @param {Record<string, string>} words */
  const put = (words) => {
    for (const [name, said] of Object.entries(words || {})) {
      const place = element.querySelector(`[data-word=${name}]`);
      if (place && place.textContent !== said) place.textContent = said;
    }
    say("next-study", { model: within(element, "[data-word=model]").textContent, data: within(element, "[data-word=data]").textContent });
  };
  whenever("value", () => put(props.value));
  put(props.value);
  on("strip", put);
});

part("strip-tools", ({ element, props, trigger }) => {
  describe(props.value);
  const note = within(element, "[role=status]");
  if (isOfEarlierVisit()) {
    const afresh = make("button", { type: "button" }, text("Start over"));
    afresh.addEventListener("click", startAfresh);
    note.replaceChildren(text("Restored from your last visit."), " ", afresh);
    addEventListener("input", () => note.contains(afresh) && note.replaceChildren(), { capture: true, once: true });
  }
  /** @param {string} name @returns {HTMLElement} */
  const button = (name) => within(element, `[data-do=${name}]`);
  const panel = button("model");
  panel.addEventListener("click", () => {
    const open = within(document, "#lab-model").classList.toggle("open");
    panel.setAttribute("aria-expanded", String(open));
    if (open) trigger("click"); // the server then updates the card
  });
  on("model", () => panel.getAttribute("aria-expanded") === "true" || panel.click());
  button("language").addEventListener("click", changeLanguage);
  button("theme").addEventListener("click", toggleTheme);
  const projector = button("projector");
  const press = () => projector.setAttribute("aria-pressed", String(isProjected()));
  projector.addEventListener("click", toggleProjector);
  on("projector", press);
  press();
  button("link").addEventListener("click", async () => {
    const address = link();
    const copied = isLinkWhole() ? text("Link copied") : text("Link copied, without your own rows");
    say("link", address);
    note.textContent = (await copy(address)) ? copied : address;
    setTimeout(() => (note.textContent = ""), 4000);
  });
});

/** The note on the bundled model, with a button that selects a real model and opens the model panel. */
part("real-model", ({ trigger }) => {
  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element && event.target.closest("[data-do=real-model]"))) return;
    say("model", true);
    window.scrollTo({ top: 0 });
    trigger("click");
  });
});
/** The button next to a finished study: open the Train tab, and move to the conclusion, or to the state while it is judged. */
document.addEventListener("click", (event) => {
  if (!(event.target instanceof Element && event.target.closest("[data-do=result]"))) return;
  openTab("Train");
  conclude();
});

/** Scroll to the conclusion and focus it, once its tab is open. */
const conclude = (tries = 40) => {
  const place = document.getElementById("train-state");
  if (!place?.offsetParent) return void (tries && setTimeout(conclude, 50, tries - 1));
  /** @type {HTMLElement} */
  const words = place.querySelector(".lab-end") ?? place;
  words.tabIndex = -1;
  words.style.scrollMarginTop = `${(document.getElementById("lab-strip")?.offsetHeight ?? 0) + 24}px`; // the strip covers the top
  words.scrollIntoView({ block: "start" });
  words.focus({ preventScroll: true });
};
on("state", () => document.body.classList.toggle("lab-real-model", !isBundled()));

/**
 * Show in the strip the number of seeds, or the seed if there is only one.
 * @param {string | number} seed
 * @param {string | number} seeds
 */
export const seedIs = (seed, seeds) => {
  const count = Number(seeds);
  say("strip", { seed: count > 1 ? text("{count} seeds", { count }) : text("seed {seed}", { seed: seed || 0 }) });
};
watch(["train-seed", "train-seeds"], () => seedIs(read("train-seed"), read("train-seeds")));

/**
 * Replace the Stop button with the choice of how to stop, or restore it, and move the keyboard focus accordingly.
 * @param {boolean} asked
 */
export const askStop = (asked) => {
  within(document, "#lab-strip").classList.toggle("lab-asking", asked);
  const next = document.querySelector(asked ? "#lab-stop-keep" : "#lab-stop");
  /** @type {HTMLElement | null | undefined} */ (next?.closest("button") || next?.querySelector("button"))?.focus();
};
