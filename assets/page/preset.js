/** Notes on the Train tab: which settings differ from the preset, and why the number of epochs is not used. */
import { within } from "./dom.js";
import { on, part } from "./parts.js";
import { resultsFirst } from "./results-first.js";
import { changedSettings, isTaken } from "./state.js";
import { agreeing, text } from "./text.js";

/**
 * Show a text, or hide its element if it is empty.
 * @param {HTMLElement} words
 * @param {string} said
 */
const show = (words, said) => {
  if (words.textContent !== said) words.textContent = said;
  words.hidden = !said;
};

part("preset-changed", ({ element, props }) => {
  resultsFirst(element);
  const words = within(element, "p");
  const labels = props.value ?? {};
  on("state", (state) => {
    const changed = changedSettings(state);
    const names = changed.map((name) => labels[name] ?? name).join(text(", "));
    const said = isTaken(state)
      ? agreeing(changed.length, "As in the study shown, 1 setting differs from this preset: {names}.", "As in the study shown, {count} settings differ from this preset: {names}.", { names })
      : agreeing(changed.length, "1 setting differs from this preset: {names}.", "{count} settings differ from this preset: {names}.", { names });
    show(words, changed.length ? said : "");
  });
});

part("epochs-unused", ({ element }) => {
  const words = within(element, "p");
  on("state", (state) => {
    const [steps, seconds] = [Number(state["train.steps"]), Number(state["train.time_budget_seconds"])];
    const said = seconds
      ? agreeing(seconds, "Not used: training lasts about 1 second (see Duration).", "Not used: training lasts about {count} seconds (see Duration).")
      : agreeing(steps, "Not used: training ends after 1 step (see Duration).", "Not used: training ends after {count} steps (see Duration).");
    show(words, seconds || steps ? said : "");
  });
});
