/** Shows a figure in full screen, or over the whole page if the browser does not allow that. Escape exits. */
import { text } from "./text.js";

const FULL = "lab-full";

/** Return whether a figure is in full screen. @param {Element} figure */
export const isFull = (figure) => figure.classList.contains(FULL);

/**
 * Let a button switch full screen on and off for a figure.
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
    figure.requestFullscreen?.().catch(() => {}); // not allowed, for example in some frames: the figure covers the page
  });
  document.addEventListener("fullscreenchange", () => {
    if (isFull(figure) && document.fullscreenElement !== figure) set(false);
  });
  document.addEventListener("keydown", ({ key }) => {
    if (key === "Escape" && isFull(figure)) leave();
  });
};
