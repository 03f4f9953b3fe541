/** While a page that shows the visitor's own study opens: a placeholder in place of the recorded results, until the own ones
   have arrived or failed. style.css shows it, depending on an attribute of the body. */
import { parameter } from "./address.js";
import { keptTab, keptValue } from "./state.js";
import { text } from "./text.js";

const LONGEST = 30_000; // milliseconds after which the recorded results are shown in any case
const DRAWN = 5000; // milliseconds after which results that have arrived are drawn
/** @type {Record<string, string>} */
const PLACES = { train: "#train-state", compare: "#compare-answers", sweep: "#sweep-state" };
const RECORDED = "recorded/";

const study = parameter("job");
const sweep = keptValue("sweep.shown") || (keptTab() === "Sweep" && study);
const named = { train: study, compare: study || keptValue("compare.record"), sweep: sweep && !sweep.startsWith(RECORDED) };
const awaited = new Set(Object.entries(named).flatMap(([tab, is]) => (is ? [tab] : [])));

const mark = () => {
  if (awaited.size) document.body.dataset.labAwaits = [...awaited].join(" ");
  else delete document.body.dataset.labAwaits;
};
document.documentElement.style.setProperty("--lab-awaited", JSON.stringify(text("Loading your study …")));
mark();

/**
 * Show the results of a tab, which have arrived or failed. Arrived results may be drawn a little later.
 * @param {string} tab
 * @param {number} until time until which recorded results are still hidden
 */
export const arrived = (tab, until = performance.now() + DRAWN) => {
  if (!awaited.has(tab)) return;
  const isRecorded = document.querySelector(`${PLACES[tab]} .lab-recorded`);
  if (isRecorded && performance.now() < until) return void setTimeout(arrived, 50, tab, until);
  awaited.delete(tab);
  mark();
};
setTimeout(() => [...awaited].forEach((tab) => arrived(tab)), LONGEST);

/** Replace the recorded study with the placeholder, because a study of the visitor has started. */
export const expect = () => {
  if (!document.querySelector("#train-state .lab-recorded")) return;
  awaited.add("train");
  mark();
  setTimeout(arrived, LONGEST, "train");
};
