/** An addition to choices of the framework: groups of views. */
import { make, within } from "./dom.js";
import { part } from "./parts.js";

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
