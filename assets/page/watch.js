/** Follows studies by requesting the new events of their logs once a second (neftune_core/ui/watching.py).

   If the shown state is older than two seconds, the page shows the time of the last answer. */
import { arrived } from "./awaited.js";
import { read } from "./controls.js";
import { escaped, within } from "./dom.js";
import { grown } from "./growth.js";
import { ownerKey } from "./owner.js";
import { part } from "./parts.js";
import { text } from "./text.js";

const PAUSE = 1000; // milliseconds from one call to the next
const SOON = 50; // the same while a figure waits for its first point; the server then delays its answer
const OLDEST = 2000; // age in milliseconds above which a state is no longer current
const PATIENCE = 10_000; // milliseconds after which a call is aborted
const NOTIFY_AGAIN = 5000; // minimum milliseconds between requests to update buttons and verdict
const ADDRESS = new URL("../../page-study/", import.meta.url).href;

/** Properties of components that both the server and the watchers update, by id. @type {Record<string, {value: any}>} */
const texts = {};
part("watched", ({ element, props }) => {
  const block = element.parentElement?.closest("[id]");
  if (block) texts[block.id] = props;
});

class Watcher {
  /** @type {{figure?: any, tag?: string, view?: string}} */
  held = {};
  /** The last texts shown, by name. @type {Record<string, string> | null} */
  lastTexts = null;
  isOn = false;
  isLost = false;
  isSettled = false;
  id = "";
  size = -1;
  heard = 0;
  when = new Date();
  notifiedAt = 0;

  /** @param {Given} given */
  constructor({ element, props, watch, trigger }) {
    /** @type {Record<string, string>} */
    this.places = { ...within(element, "[data-state]").dataset };
    this.trigger = trigger;
    watch("value", () => this.follow(props.value));
    this.follow(props.value);
  }

  /** @param {{id: string, on: boolean, known: boolean} | null} value */
  follow(value) {
    this.isOn = Boolean(value?.on && value.id);
    if (this.isLost && this.isOn) this.restore();
    this.isLost = false; // the event that ends watching also sets the texts
    if (!this.isOn) return;
    const isOther = this.id !== value?.id; // the server itself displays a new study
    if (isOther) this.held = {};
    if (isOther) pause = SOON;
    this.isSettled = isOther || Boolean(value?.known);
    this.id = String(value?.id);
    this.lastTexts = null;
    this.size = -1;
    this.notifiedAt = 0;
    this.hear();
    begin();
  }

  hear() {
    this.heard = performance.now();
    this.when = new Date();
  }

  /** Return whether the figure waits for its first point. */
  isBare() {
    return Boolean(this.places.figure) && !this.held.figure?.data.length;
  }

  view() {
    return this.places.figure ? read(this.places.view) || "losses" : "";
  }

  /** Return the version that the page has: the tag of the figure, or the size of the log. */
  tag() {
    if (!this.places.figure) return String(this.size);
    return this.held.view === this.view() ? this.held.tag || "" : "";
  }

  /** Show news of the study. @param {StudyNews} news @param {string} view the view that was requested */
  show(news, view) {
    this.hear();
    this.isLost = false;
    if (news.gone) return this.settle();
    this.lastTexts = { state: news.state, progress: news.progress, arms: news.arms };
    this.put(this.lastTexts);
    if (this.places.figure && view === this.view()) {
      this.draw(news, view);
      arrived("train");
    }
    const hasGrown = this.size >= 0 && news.size !== this.size;
    this.size = news.size;
    if (!news.running || !this.isSettled || (!this.places.figure && hasGrown)) this.settle();
  }

  /** Let the server update everything that depends on whether the study is running: buttons, verdict, other tabs. */
  settle() {
    if (performance.now() - this.notifiedAt < NOTIFY_AGAIN) return;
    this.notifiedAt = performance.now();
    this.trigger("click");
  }

  /** Show texts in their places, by name. @param {Record<string, string>} shown */
  put(shown) {
    for (const [name, words] of Object.entries(shown)) {
      const place = texts[this.places[name]];
      if (place && place.value !== words) place.value = words;
    }
  }

  /** @param {StudyNews} news @param {string} view */
  draw({ figure, changes, tag }, view) {
    const whole = figure || (changes && this.held.figure ? grown(this.held.figure, changes) : this.held.figure);
    this.held = { figure: whole, tag, view };
    if (!figure && !changes) return;
    /** @type {any} */
    const node = document.querySelector(`#${this.places.figure} .lab-figure-plot`);
    node?.labFigure?.take(whole);
  }

  /** Show a warning that the state is no longer current. */
  lose() {
    if (this.isLost) return;
    this.isLost = true;
    const time = this.when.toLocaleTimeString(LabLanguage.tag);
    const words = escaped(text("No answer from the server since {time}: it is busy or cannot be reached. The page shows the state at that time. A study continues without the page.", { time }));
    this.lastTexts ??= { state: texts[this.places.state]?.value || "", progress: texts[this.places.progress]?.value || "" };
    this.put({
      state: `<p class="lab-warning" role="alert">${words}</p>${this.lastTexts.state}`,
      progress: `<span class="lab-progress" data-state="lost"><span><b>${escaped(text("No answer"))}</b></span></span>`,
    });
  }

  restore() {
    this.isLost = false;
    if (this.lastTexts) this.put(this.lastTexts);
  }
}

/** @type {Watcher[]} */
const watchers = [];
part("watcher", (given) => watchers.push(new Watcher(given)));

let turn = 0;
let asking = false;
let asked = -PAUSE;
let pause = PAUSE;
/** @type {number | undefined} */
let next;

/** Return the ids of the followed studies, which are requested one after another. */
const followed = () => [...new Set(watchers.filter((one) => one.isOn).map((one) => one.id))];

const begin = () => {
  clearTimeout(next);
  if (asking || !followed().length) return;
  next = window.setTimeout(ask, Math.max(0, asked + pause - performance.now()));
};

const ask = async () => {
  const ids = followed();
  const id = ids[turn++ % ids.length];
  const mine = watchers.filter((one) => one.isOn && one.id === id);
  const drawing = mine.find((one) => one.places.figure) || mine[0];
  if (!drawing) return;
  const [view, tag] = [drawing.view(), drawing.tag()];
  asking = true;
  asked = performance.now();
  pause = PAUSE;
  try {
    const query = new URLSearchParams({ view, tag, language: LabLanguage.code });
    const headers = { "x-lab-owner": ownerKey() };
    const answer = await fetch(`${ADDRESS}${encodeURIComponent(id)}?${query}`, { headers, signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(String(answer.status));
    const news = await answer.json();
    for (const one of mine) if (one.isOn && one.id === id) one.show(news, view);
    if (news.running && drawing.isBare()) pause = SOON;
  } catch {
    /* the age of the shown state is checked below */
  }
  asking = false;
  begin();
};

setInterval(() => {
  const now = performance.now();
  const oldest = OLDEST * Math.max(1, followed().length);
  for (const one of watchers) if (one.isOn && now - one.heard > oldest) one.lose();
}, 250);
document.addEventListener("visibilitychange", () => document.hidden || begin());
