/** A figure on the full screen, or over the whole page where the browser does not allow that. Escape ends it. */
import { text } from "./text.js";

const FULL = "lab-full";

/** @param {Element} figure */
export const isFull = (figure) => figure.classList.contains(FULL);

/**
 * Let a button show a figure on the full screen, and back.
 * @param {HTMLElement} figure
 * @param {HTMLElement} button inside the figure, so that it keeps the focus
 * @param {() => void} redraw
 */
export const offerFullScreen = (figure, button, redraw) => {
  /** @param {boolean} full */
  const set = (full) => {
    figure.classList.toggle(FULL, full);
    button.setAttribute("aria-pressed", String(full));
    button.setAttribute("aria-label", full ? text("Exit full screen") : text("Full screen"));
    button.title = button.ariaLabel || "";
    redraw();
  };
  const leave = () => {
    if (document.fullscreenElement === figure) document.exitFullscreen();
    set(false);
  };
  button.addEventListener("click", () => {
    if (isFull(figure)) return leave();
    set(true);
    figure.requestFullscreen?.().catch(() => {}); // not allowed, as in some frames: it covers the page
  });
  document.addEventListener("fullscreenchange", () => {
    if (isFull(figure) && document.fullscreenElement !== figure) set(false);
  });
  document.addEventListener("keydown", ({ key }) => {
    if (key === "Escape" && isFull(figure)) leave();
  });
};
