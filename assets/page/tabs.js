/** Opens the tab that a link names, and hides the tabs that it excludes. */
import { currentTab, openTab, parameter } from "./address.js";
import { make } from "./dom.js";
import { say } from "./parts.js";
import { loadPlotly } from "./plotly.js";
import { keptTab } from "./state.js";

// On a narrow page the row of tabs overflows: scroll the open one into view.
document.addEventListener("click", (event) => {
  const tab = event.target instanceof Element ? event.target.closest("#lab-tabs > .tab-wrapper [role=tab]") : null;
  if (tab) setTimeout(() => tab.scrollIntoView({ block: "nearest", inline: "center" }), 50);
});

/** Tabs hidden by a parameter such as `?hide=data,runs`; Learn cannot be hidden. */
const hidden = (parameter("hide") || "").toLowerCase().split(",").filter((name) => /^[a-z]+$/.test(name) && name !== "learn");
if (hidden.length) {
  const rules = hidden.map((name) => `#tab-${name}-button, [data-hides="${name}"]`).join(", ");
  document.head.append(make("style", {}, `${rules} { display: none !important; }`));
}

const OF_NOISE = /^(noise\.|view$|text$)/;
const wanted = () => {
  const query = new URLSearchParams(location.search);
  const tab = keptTab() || query.get("tab"); // after a reload, the last open tab takes precedence
  if (tab) return tab;
  return [...query.keys()].some((name) => OF_NOISE.test(name)) && !query.get("job") && !query.get("lesson") ? "Noise" : "Learn";
};
const first = wanted();
// The framework mounts the content of a tab when it opens. Noise is mounted first, because the strip always shows the noise.
let tries = 0;
const opening = () => {
  if (!document.getElementById("noise-figure")) return void setTimeout(opening, 20);
  if (/^[a-z]+$/i.test(first) && tries++ < 100 && currentTab()?.toLowerCase() !== first.toLowerCase()) {
    openTab(first);
    return void setTimeout(opening, 20);
  }
  if (currentTab() !== "Learn") document.getElementById("lab-first")?.remove(); // for example after a reload
  document.body.dataset.labOpened = first;
  say("opened", first);
};
opening();

// Most tabs contain a figure: load Plotly when a visitor is about to open one.
const soon = () => loadPlotly().catch(() => {}); // figures report the error
for (const event of ["pointerover", "focusin"])
  document.addEventListener(event, ({ target }) => {
    if (target instanceof Element && target.closest("#lab-tabs > .tab-wrapper [role=tab]")) soon();
  });
