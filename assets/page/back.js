/** Support for the browser's Back and Forward buttons: every tab or lesson that a visitor opens adds a history entry.

   Tabs that the page opens by itself, and values of controls, change the current entry instead. Back and Forward change the tab
   and the lesson; all other settings stay. */
import { currentTab, openTab, parameter, setParameters } from "./address.js";
import { openLesson } from "./learn.js";
import { on } from "./parts.js";
import { isTouched } from "./state.js";

/** The tab and lesson of the current entry. @type {{tab: string, lesson: string} | null} */
let shown = null;
let lesson = parameter("lesson") || "";
/** A tab that the page is about to open by itself. */
let arriving = "";

/** @param {{isStep?: boolean, state?: any}} entry */
const put = (entry) => setParameters({ tab: shown?.tab === "Learn" ? "" : shown?.tab, lesson }, entry);

const record = () => {
  const tab = currentTab();
  if (!tab || (shown?.tab === tab && shown.lesson === lesson)) return;
  const isStep = shown !== null && isTouched() && tab !== arriving;
  arriving = "";
  shown = { tab, lesson };
  put({ isStep, state: { ...history.state, place: shown } });
};
/** Record after a delay, because a lesson and its tab change one after the other but make one entry. */
const soon = () => void setTimeout(record, 0);

on("arriving", (tab) => (arriving = tab === currentTab() ? "" : tab));
on("lesson-opened", (number) => {
  lesson = number;
  soon();
});
on("opened", () => {
  const tabs = document.getElementById("lab-tabs");
  if (tabs) new MutationObserver(soon).observe(tabs, { subtree: true, attributeFilter: ["aria-selected"] });
  record();
});

addEventListener("popstate", ({ state }) => {
  if (!state?.place) return; // an anchor on the page
  shown = state.place;
  openTab(state.place.tab);
  if (state.place.lesson !== lesson) openLesson(state.place.lesson, { staysOnTab: true });
  lesson = state.place.lesson;
  put({ state });
});
