/** Messages of the server and of the framework, each shown next to its control until the control is used again or the message
   is closed. Keyboard focus does not move unless the focused element is gone; the message then receives it. Closing a message
   returns the focus to its control.

   The framework shows messages as notices at the edge of the page. style.css hides the notices, and this module moves their
   texts. The server's messages name their control (neftune_core/ui/parts/wiring.py); the framework's own are about uploads. */
import { make, within } from "./dom.js";
import { text } from "./text.js";

const GRACE = 1500; // milliseconds in which a repeated call may fail again, so that an unchanged message does not flicker
const TALL = 300; // height in pixels above which a message is placed before its control

/** @typedef {{words: string, kind: string, by: string, at: Element | null}} Message */

/** @type {Set<HTMLElement>} */
const shown = new Set();

/** @param {HTMLElement} message */
const remove = (message) => {
  shown.delete(message);
  message.remove();
  for (const control of document.querySelectorAll(`[aria-describedby="${message.id}"]`)) control.removeAttribute("aria-describedby");
};

/** Return whether an element is visible. @param {Element} element */
const isSeen = (element) => element.checkVisibility({ visibilityProperty: true });

/**
 * Place a message after its control, or before a tall one. If the control is not visible, place it at the top of its tab or
 * below the strip.
 * @param {HTMLElement} message
 * @param {Element | null} control
 */
const put = (message, control) => {
  const tab = control?.closest("[role=tabpanel]");
  if (control?.matches("[role=tabpanel]")) control.prepend(message);
  else if (!control || control.closest("#lab-strip") || !(isSeen(control) || tab)) within(document, "#lab-strip").after(message);
  else if (!isSeen(control) && tab && isSeen(tab)) tab.prepend(message);
  else if (control.getBoundingClientRect().height > TALL) control.before(message);
  else control.after(message);
};

let count = 0;
/** @param {Message} message */
const show = ({ words, kind, by, at }) => {
  for (const old of shown) {
    if (old.dataset.by === by && old.dataset.words === words && old.isConnected) return void delete old.dataset.stale;
    if ((by && old.dataset.by === by) || old.dataset.words === words) remove(old);
  }
  const close = make("button", { type: "button" }, text("Close"));
  const message = make("div", { className: "lab-problem lab-message", id: `lab-message-${++count}`, tabIndex: -1 }, make("p", {}, words), close);
  message.setAttribute("role", ["error", "warning"].includes(kind) ? "alert" : "status");
  Object.assign(message.dataset, { by, words });
  shown.add(message);
  put(message, at);
  /** @type {HTMLElement | null | undefined} */
  const control = at?.matches("button, input, textarea") ? /** @type {any} */ (at) : at?.querySelector("input, textarea, button");
  control?.setAttribute("aria-describedby", message.id);
  close.addEventListener("click", () => {
    remove(message);
    control?.focus();
  });
  if (document.activeElement === document.body) message.focus({ preventScroll: true });
  if (isSeen(message)) message.scrollIntoView({ block: "nearest" });
};

// ------------------------------------------------------------------ notices of the framework
/** @type {Element | null} */
let uploading = null;

/** Move the messages of a notice to their controls, and close the notice. @param {Element} notice */
const move = (notice) => {
  for (const item of notice.querySelectorAll(".toast-message-text")) {
    const named = item.querySelector("span[title]");
    const [by, place] = named?.getAttribute("title")?.split(" ") ?? [];
    const kind = ["error", "warning", "info"].find((name) => item.classList.contains(name)) ?? "info";
    const words = (item.textContent ?? "").trim();
    const at = place ? document.getElementById(place) : uploading;
    if (words) show({ words: named ? words : LabLanguage.fromFramework(words), kind, by: by ?? at?.id ?? "", at });
  }
  /** @type {HTMLElement | null} */ (notice.querySelector(".toast-close"))?.click();
};
new MutationObserver((changes) => {
  const isNotice = changes.some(({ target }) => target instanceof Element && target.closest(".toast-wrap"));
  const isNew = changes.some(({ addedNodes }) => [...addedNodes].some((node) => node instanceof Element && node.querySelector(".toast-body")));
  if (isNotice || isNew) document.querySelectorAll(".toast-body").forEach(move);
}).observe(document.body, { childList: true, subtree: true });

// ------------------------------------------------------------------ when a message is removed
/** Remove the messages of an upload control when a file is chosen. @param {Event} event */
const chosen = ({ target }) => {
  const block = target instanceof Element ? target.closest(".block[id]") : null;
  if (!block?.querySelector("input[type=file]")) return;
  uploading = block;
  for (const message of [...shown]) if (message.dataset.by === block.id) remove(message);
};
document.addEventListener("drop", chosen, true);
document.addEventListener("change", chosen, true);

/** Remove messages of a component whose event is sent again, unless they recur. @param {string} by its id */
const asksAgain = (by) => {
  for (const message of shown) {
    if (message.dataset.by !== by) continue;
    message.dataset.stale = "yes";
    setTimeout(() => message.dataset.stale && remove(message), GRACE);
  }
};

const asking = window.fetch;
window.fetch = async (place, options) => {
  const address = String(place instanceof Request ? place.url : place);
  if (address.includes("/queue/join") && typeof options?.body === "string") asksAgain(String(JSON.parse(options.body).trigger_id));
  const answer = await asking(place, options);
  if (address.includes("/gradio_api/upload") && answer.ok) uploading = null;
  return answer;
};
