/** Columns that stay in view while the settings next to them scroll. The end of a column taller than the screen stays in view. */

const HEADER = 80; // pixels above the column
const FOOT = 16; // pixels below it

/** @param {Element} column */
const place = (column) => {
  const { height } = column.getBoundingClientRect();
  if (column instanceof HTMLElement) column.style.setProperty("--lab-top", `${Math.min(HEADER, innerHeight - height - FOOT)}px`);
};
const sizes = new ResizeObserver((changed) => changed.forEach(({ target }) => place(target)));
addEventListener("resize", () => document.querySelectorAll(".lab-stays").forEach(place));

/** Keep the column of an element in view. @param {Element} element */
export const keepInSight = (element) => {
  const column = element.closest(".lab-stays");
  if (column) sizes.observe(column);
};
