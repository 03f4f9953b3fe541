/** A column that stays in view while the settings beside it scroll; if it is taller than the screen, its end stays in view. */

const HEADER = 80; // pixels above it
const FOOT = 16;

/** @param {Element} column */
const place = (column) => {
  const { height } = column.getBoundingClientRect();
  if (column instanceof HTMLElement) column.style.setProperty("--lab-top", `${Math.min(HEADER, innerHeight - height - FOOT)}px`);
};
const sizes = new ResizeObserver((changed) => changed.forEach(({ target }) => place(target)));
addEventListener("resize", () => document.querySelectorAll(".lab-stays").forEach(place));

/** @param {Element} element something in the column */
export const keepInSight = (element) => {
  const column = element.closest(".lab-stays");
  if (column) sizes.observe(column);
};
