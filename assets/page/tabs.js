/** The tab opened by a link, and the tabs hidden by it. */
import { openTab, parameter } from "./address.js";
import { make } from "./dom.js";
import { loadPlotly } from "./plotly.js";
import { keptTab } from "./state.js";

// On a narrow page the row of tabs overflows: scroll the open one into view.
document.addEventListener("click", (event) => {
  const tab = event.target instanceof Element ? event.target.closest("#lab-tabs > .tab-wrapper [role=tab]") : null;
  if (tab) setTimeout(() => tab.scrollIntoView({ block: "nearest", inline: "center" }), 50);
});

/** `?hide=data,runs` leaves these tabs out; Learn always stays. */
const hidden = (parameter("hide") || "").toLowerCase().split(",").filter((name) => /^[a-z]+$/.test(name) && name !== "learn");
if (hidden.length) {
  const rules = hidden.map((name) => `#tab-${name}-button, [data-hides="${name}"]`).join(", ");
  document.head.append(make("style", {}, `${rules} { display: none !important; }`));
}

const OF_NOISE = /^(noise\.|view$|text$)/;
const wanted = () => {
  const query = new URLSearchParams(location.search);
  const tab = keptTab() || query.get("tab"); // the address names the tab that the page was opened with
  if (tab) return tab;
  return [...query.keys()].some((name) => OF_NOISE.test(name)) && !query.get("job") && !query.get("lesson") ? "Noise" : "Learn";
};
const first = wanted();
// The framework mounts a tab when it is opened: Noise is mounted first, since the strip shows it on every tab.
const opening = () => {
  if (!document.getElementById("noise-figure")) return void setTimeout(opening, 20);
  if (/^[a-z]+$/i.test(first)) openTab(first);
  document.body.dataset.labOpened = first;
};
opening();

// A lesson has no figure, but the tab that it leads to does.
const soon = () => setTimeout(() => loadPlotly().catch(() => {}), 1500); // a figure that needs it reports the error
if (document.readyState === "complete") soon();
else addEventListener("load", soon);
