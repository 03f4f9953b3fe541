/** The Escape key closes a message, the choice of how to stop, the model panel, or the list of a lesson's tasks. */
import { within } from "./dom.js";
import { askStop } from "./strip.js";

/** @returns {HTMLElement | null} the button that closes the open panel or list and then gets the focus */
const closing = () => {
  const focused = document.activeElement;
  const dock = document.querySelector(".lab-dock:has(#lab-dock-body:not([hidden]))");
  if (dock?.contains(focused)) return within(dock, "[data-do=fold]");
  return document.querySelector("#lab-tools [data-do=model][aria-expanded=true]");
};

document.addEventListener("keydown", (event) => {
  const { key, target, defaultPrevented } = event;
  const isOfOthers = target instanceof Element && target.closest("[role=combobox][aria-expanded=true], .lab-full, .lab-link-code");
  if (key !== "Escape" || defaultPrevented || isOfOthers || document.fullscreenElement) return;
  const message = target instanceof Element ? target.closest(".lab-message") : null;
  if (message) return within(message, "button").click();
  if (within(document, "#lab-strip").classList.contains("lab-asking")) return askStop(false);
  const button = closing();
  button?.click();
  button?.focus();
});
