/** On narrow screens, results come before the settings, in the same order for the keyboard and for screen readers. */

const narrow = matchMedia("(max-width: 700px)"); // as in style.css

/**
 * Keep the two columns of a tab in this order from now on.
 * @param {Element} element an element in one of the columns
 */
export const resultsFirst = (element) => {
  const place = () => {
    const row = element.closest(".lab-two");
    if (!row || row.children.length < 2) return void setTimeout(place, 50);
    const settings = row.querySelector(":scope > .lab-side");
    const results = row.querySelector(":scope > .column:not(.lab-side)");
    const [first, last] = narrow.matches ? [results, settings] : [settings, results];
    if (first && last && row.firstElementChild !== first) row.insertBefore(first, last);
  };
  narrow.addEventListener("change", place);
  place();
};
