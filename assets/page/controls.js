/** Reads and watches the values of controls in the browser. */
import { reaching } from "./numbers.js";

/**
 * Return the value of a control: a number for a slider, the selected value of radio buttons, a boolean for a checkbox, or text.
 * @param {string} id
 * @returns {any}
 */
export const read = (id) => {
  const root = document.getElementById(id);
  /** @param {string} selector @returns {any} */
  const found = (selector) => root?.querySelector(selector);
  const range = found("input[type=range]");
  if (range) return Number(range.value);
  if (found("input[type=radio]")) return found("input[type=radio]:checked")?.value;
  const box = found("input[type=checkbox]");
  if (box) return box.checked;
  return found("textarea, input")?.value;
};

/** @type {{ids: Set<string>, callback: (event: Event | null) => void}[]} */
const watched = [];

/**
 * Call `callback` whenever one of the controls with these ids changes.
 * @param {string[]} ids
 * @param {(event: Event | null) => void} callback
 */
export const watch = (ids, callback) => watched.push({ ids: new Set(ids), callback });

/** @param {Event} event */
const moved = (event) => {
  const target = event.target;
  if (!(target instanceof HTMLElement)) return;
  const found = watched.filter(({ ids }) => {
    for (const id of ids) if (document.getElementById(id)?.contains(target)) return true;
    return false;
  });
  if (!found.length) return;
  // A slider consists of two inputs; the framework updates the range input later.
  if (target instanceof HTMLInputElement && target.type === "number" && target.value !== "") {
    /** @type {HTMLInputElement | null | undefined} */
    const range = target.closest(".block")?.querySelector("input[type=range]");
    if (range && Number(range.value) !== Number(target.value)) range.value = target.value;
  }
  for (const { callback } of found) callback(event);
};
document.addEventListener("input", moved, true);
document.addEventListener("change", moved, true);

// The framework's reset button of a slider causes no input event, which the page and the stored state depend on.
document.addEventListener("click", ({ target }) => {
  const button = target instanceof Element ? target.closest(".reset-button") : null;
  const number = button?.closest(".block")?.querySelector("input[type=number]");
  if (number) setTimeout(() => number.dispatchEvent(new Event("input", { bubbles: true })), 60);
});

/**
 * Restore the value of a slider whose value and range were set together: the browser clamped the value to the old range.
 * @param {string} id
 */
const straightened = (id) => {
  const root = document.getElementById(id);
  /** @param {string} type @returns {HTMLInputElement | null | undefined} */
  const input = (type) => root?.querySelector(`input[type=${type}]`);
  const [range, number] = [input("range"), input("number")];
  if (range && number && number.value !== "") range.value = number.value;
};

/**
 * Notify all watchers of these ids after the framework has set values.
 * @param {string[]} ids
 */
export const changed = (...ids) => {
  setTimeout(() => {
    ids.forEach(straightened);
    for (const { ids: own, callback } of watched) if (ids.some((id) => own.has(id))) callback(null);
  }, 60);
};

/**
 * Return an update of the strength slider with the range for its unit and value, and notify watchers once it is applied.
 * @param {number} strength
 * @param {string} unit
 * @param {Record<string, Slider>} ranges
 */
export const ranged = (strength, unit, ranges) => {
  const range = reaching(ranges[unit], strength);
  /** @param {number} tries */
  const look = (tries) => {
    /** @type {HTMLInputElement | null} */
    const input = document.querySelector("#noise-strength input[type=range]");
    const isThere = Number(input?.max) === range.maximum && Number(input?.step) === range.step;
    if (isThere || !tries) changed("noise-strength");
    else setTimeout(() => look(tries - 1), 50);
  };
  look(100);
  return { __type__: "update", ...range, value: strength };
};
