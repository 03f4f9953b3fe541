/** Progress in the page title, and a notification when a study ends. */
import { make, within } from "./dom.js";
import { fact } from "./facts.js";
import { text } from "./text.js";

const NAME = "NEFTune Lab"; // the framework sets the page title only after this script has run
const LONG_SECONDS = 90;

/**
 * Show a notification. Return false if the constructor throws, as on phones, where only service workers may notify.
 * @param {string} words
 */
const notify = (words) => {
  try {
    new Notification(words, { tag: "study" });
    return true;
  } catch {
    return false;
  }
};
/** @type {boolean | null} */
let notifies = null;
/**
 * Return whether notifications are supported and have this permission.
 * @param {NotificationPermission} permission
 */
const mayNotify = (permission) =>
  "Notification" in window && Notification.permission === permission && (permission === "granted" || (notifies ??= notify(NAME)));

let running = false;
let lost = false;
const glance = () => {
  const strip = within(document, "#lab-progress .lab-progress");
  const share = strip?.querySelector("progress");
  if (strip?.dataset.state === "lost") {
    document.title = `${text("No answer")} · ${NAME}`;
    lost = true;
    return;
  }
  if (lost) document.title = NAME; // in case a study began and ended meanwhile
  lost = false;
  const left = strip?.querySelector(".lab-progress-left");
  const word = strip?.querySelector("b")?.textContent;
  offers(left);
  if (strip?.dataset.state === "waiting") fact("study.waiting", 1);
  if (strip?.dataset.state === "running" && share) {
    running = true;
    document.title = `${Math.round(100 * share.value)}%${left ? `, ${left.textContent}` : ""} · ${NAME}`;
  } else if (running) {
    running = false;
    document.title = document.hidden && word ? `${word} · ${NAME}` : NAME; // a discarded study has no text
    if (document.hidden && word && mayNotify("granted"))
      notify(`${word}${text(": ")}${strip.querySelector(".lab-progress-about")?.textContent || text("your study")}`);
  }
};
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !running) document.title = NAME;
});
const watched = { childList: true, subtree: true, characterData: true, attributeFilter: ["data-state"] };
new MutationObserver(glance).observe(document.body, watched);

// Browsers allow a request for permission only after a click; the button is offered only for long studies.
const offer = make("button", { type: "button", hidden: true, className: "lab-offer" }, text("Notify me when it ends"));
offer.addEventListener("click", () => Notification.requestPermission().then(glance));
/** @param {HTMLElement | undefined} left */
const offers = (left) => {
  const tools = document.querySelector(".lab-tools");
  if (tools && !offer.isConnected) tools.prepend(offer);
  const wanted = running && Number(left?.dataset.seconds) >= LONG_SECONDS && mayNotify("default");
  if (offer.hidden === wanted) offer.hidden = !wanted;
};
