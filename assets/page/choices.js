/** Additions to choices of the framework: groups of views, and the unit of a sweep's strengths. */
import { read, watch } from "./controls.js";
import { make, within } from "./dom.js";
import { part } from "./parts.js";
import { text, unitName } from "./text.js";

/** Group the choices of a view by the question that they answer. */
part("view-groups", ({ props }) => {
  const { of, groups } = props.value;
  const mounted = () => {
    const row = document.querySelector(`#${of} label`)?.parentElement;
    if (!row) return void setTimeout(mounted, 50);
    for (const { words, names } of groups) {
      const group = make("div", { className: "lab-view-group", role: "group", ariaLabel: words }, make("span", { ariaHidden: "true" }, words));
      group.append(...names.map((/** @type {string} */ name) => within(row, `label:has(input[value="${name}"])`)));
      row.append(group);
    }
  };
  mounted();
});

/** The unit of the strengths of a sweep, which is that of the Noise tab. */
part("sweep-unit", ({ element }) => {
  const show = () => (within(element, "p").textContent = text("Strengths are in {unit}, the unit on the Noise tab.", { unit: unitName(String(read("noise-unit") || "alpha")) }));
  watch(["noise-unit"], show);
  show();
});
