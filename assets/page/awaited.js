/** While a page that shows the visitor's own study opens: a placeholder in place of the recorded results, until the own ones
   have arrived or failed. style.css shows it, depending on an attribute of the body. */
import { parameter } from "./address.js";
import { keptTab, keptValue } from "./state.js";
import { text } from "./text.js";

const LONGEST = 30_000; // milliseconds after which the recorded results are shown in any case
const RECORDED = "recorded/";

const study = parameter("job");
const sweep = keptValue("sweep.shown") || (keptTab() === "Sweep" && study);
const named = { train: study, compare: study || keptValue("compare.record"), sweep: sweep && !sweep.startsWith(RECORDED) };
const awaited = new Set(Object.entries(named).flatMap(([tab, is]) => (is ? [tab] : [])));

const show = () => {
  if (awaited.size) document.body.dataset.labAwaits = [...awaited].join(" ");
  else delete document.body.dataset.labAwaits;
};
document.documentElement.style.setProperty("--lab-awaited", JSON.stringify(text("Loading your study …")));
show();

/** Show the results of a tab, which have arrived or failed. @param {string} tab */
export const arrived = (tab) => {
  if (awaited.delete(tab)) show();
};
setTimeout(() => [...awaited].forEach(arrived), LONGEST);

/** Replace the recorded study with the placeholder, because a study of the visitor has started. */
export const expect = () => {
  if (!document.querySelector("#train-state .lab-recorded")) return;
  awaited.add("train");
  show();
  setTimeout(arrived, LONGEST, "train");
};
