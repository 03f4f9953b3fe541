/** The Learn tab: playback of the recorded study, the lessons, and their tasks.

   The finished tasks are stored in this browser; a finished task stays finished. */
import { openTab, parameter } from "./address.js";
import { make, store, stored, within } from "./dom.js";
import { fact, facts, holds, onFact, seeAnew } from "./facts.js";
import { on, part, say } from "./parts.js";
import { Stage } from "./stage.js";
import { text } from "./text.js";

/** Reuse the stage that was shown before the framework started, or create one. */
part("recorded", ({ element, props }) => {
  const place = within(element, ".lab-stage");
  if (window.LabFirst && document.contains(window.LabFirst.root)) place.replaceWith(window.LabFirst.root);
  else new Stage(place, props.value);
  document.getElementById("lab-first")?.remove();
});

/** Show one prompt of the recorded answers at a time. */
part("recorded-answers", ({ element }) => {
  /** @type {HTMLElement[]} */
  const sections = [...element.querySelectorAll(".lab-answers")].filter((section) => section instanceof HTMLElement);
  if (sections.length < 2) return;
  const opened = new Set();
  const picker = make("div", { className: "lab-picker", role: "group", ariaLabel: text("Held-out prompts") });
  /** @param {number} chosen */
  const choose = (chosen) => {
    sections.forEach((section, index) => (section.hidden = index !== chosen));
    [...picker.children].forEach((button, index) => button.setAttribute("aria-pressed", String(index === chosen)));
    opened.add(chosen);
    fact("answers.read", opened.size);
  };
  sections.forEach((section, index) => {
    const button = make("button", { type: "button" }, within(section, "h3").textContent);
    button.addEventListener("click", () => choose(index));
    picker.append(button);
  });
  sections[0].before(picker);
  choose(0);
});

/** Show the model and data that the buttons next to the recorded study use, which may differ from those of the study. */
part("next-study", ({ element, props }) => {
  const { model, data } = props.value || {};
  on("next-study", (/** @type {{model: string, data: string}} */ next) => {
    const isSame = !model || (next.model === model && next.data.startsWith(data));
    const words = isSame
      ? text("Next study: {model}, {data}", next)
      : text("Next study: {model}, {data} (not those of this recording)", next);
    Object.assign(within(element, "p"), { textContent: words, title: words });
  });
});

// ------------------------------------------------------------------ lessons
const KEPT = "neftune-lab-lessons";
const FOLDED = "neftune-lab-lesson-folded";
/** Return the tasks stored as done. @returns {Record<string, boolean>} */
const keptTasks = () => {
  try {
    return JSON.parse(stored(KEPT) || "{}") || {};
  } catch {
    return {}; // the stored text is not valid
  }
};
const done = keptTasks();
/** @param {{number: number | string}} lesson @param {number | string} task */
const nameOf = (lesson, task) => `${lesson.number}/${task}`;
/** @param {Lesson} lesson */
const isDone = (lesson) => lesson.tasks.every((_, index) => done[nameOf(lesson, index)]);
/** @type {Lesson | null} */
let open = null;
/** @type {Lesson[]} */
let lessons = [];
const sayOpen = () => say("lesson", open);

const look = () => {
  if (!open) return;
  let news = false;
  for (const [index, task] of open.tasks.entries()) {
    const name = nameOf(open, index);
    if (done[name] || !holds(task.when)) continue;
    done[name] = news = true;
  }
  if (!news) return;
  store(KEPT, JSON.stringify(done)); // if this fails, the tasks stay done until the page is closed
  sayOpen();
};
onFact(look);

/** Show the open lesson in place of the list, if the tab is mounted. */
const showOpen = () => {
  for (const lesson of lessons)
    document.getElementById(`lesson-${lesson.number}`)?.classList.toggle("open", lesson.number === open?.number);
  const home = document.getElementById("learn-home");
  home?.classList.toggle("closed", open !== null);
  home?.classList.toggle("with-stage", Boolean(open?.stage));
};

/**
 * Open a lesson by number; 0 opens the list.
 * @param {number | string | null} number
 * @param {{staysOnTab?: boolean}} [how] whether the open tab stays open
 */
export const openLesson = (number, { staysOnTab = false } = {}) => {
  const chosen = lessons.find((lesson) => lesson.number === Number(number)) || null;
  open = chosen;
  seeAnew();
  say("lesson-opened", chosen ? String(chosen.number) : "");
  showOpen();
  if (chosen && !staysOnTab) openTab("Learn");
  if (chosen) window.scrollTo({ top: 0 });
  look();
  sayOpen();
};

part("lessons", ({ element, props }) => {
  lessons = props.value;
  const list = within(element, "ol");
  for (const lesson of lessons) {
    const mark = make("span", { className: "lab-lesson-mark" });
    const words = make("span", { className: "lab-lesson-title" }, lesson.title);
    const minutes = make("span", { className: "lab-quiet" }, text("{minutes} min", { minutes: lesson.minutes }));
    const button = make("button", { type: "button" }, mark, words, minutes);
    button.addEventListener("click", () => openLesson(lesson.number));
    list.append(make("li", {}, button));
    on("lesson", () => {
      mark.textContent = isDone(lesson) ? "✓" : String(lesson.number);
      mark.classList.toggle("done", isDone(lesson));
      mark.setAttribute("aria-label", isDone(lesson) ? text("done") : "");
    });
  }
  sayOpen();
  const ready = () => void (document.getElementById(`lesson-${lessons.length}`) ? showOpen() : setTimeout(ready, 50));
  ready();
});

document.addEventListener("click", (event) => {
  const pressed = event.target instanceof Element ? event.target.closest("[data-do=lessons], [data-do=next-lesson]") : null;
  if (!(pressed instanceof HTMLElement)) return;
  event.preventDefault();
  openLesson(pressed.dataset.do === "lessons" || !open ? 0 : open.number + 1);
});

/** Scroll the tasks of the open lesson, and the top of the tab below them, into view. */
export const showDock = (tries = 40) => {
  const dock = document.querySelector(".lab-dock");
  if (!(dock instanceof HTMLElement)) return;
  if (!dock.offsetParent && tries) return void setTimeout(() => showDock(tries - 1), 50); // its tab is not open yet
  dock.style.scrollMarginTop = `${(document.getElementById("lab-strip")?.offsetHeight ?? 0) + 12}px`; // the strip covers the top
  dock.scrollIntoView({ block: "start" });
  dock.focus({ preventScroll: true });
};

part("lesson-dock", ({ element, props }) => {
  lessons = props.value;
  const dock = within(element, ".lab-dock");
  const [title, list] = [within(dock, "b"), within(dock, "ul")];
  within(dock, "[data-do=text]").addEventListener("click", () => openTab("Learn"));
  within(dock, "[data-do=close]").addEventListener("click", () => openLesson(0));
  const [fold, body, busy] = [within(dock, "[data-do=fold]"), within(dock, "#lab-dock-body"), within(dock, "[data-word=busy]")];
  /** @param {boolean} isFolded */
  const folded = (isFolded) => {
    body.hidden = isFolded;
    fold.setAttribute("aria-expanded", String(!isFolded));
    fold.textContent = isFolded ? text("Expand") : text("Collapse");
    store(FOLDED, isFolded ? "1" : "");
  };
  fold.addEventListener("click", () => folded(!body.hidden));
  folded(stored(FOLDED) === "1");
  onFact(() => (busy.hidden = !facts["study.waiting"] || !open));
  /** @param {Lesson} lesson */
  const show = (lesson) => {
    const named = { number: lesson.number, title: lesson.title };
    title.textContent = isDone(lesson) ? text("Lesson {number} is done.", named) : text("Lesson {number}: {title}", named);
    const items = lesson.tasks.map((task, index) => {
      const isTicked = Boolean(done[nameOf(lesson, index)]);
      const item = make("li", { className: isTicked ? "done" : "" }, task.text);
      if (isTicked) item.append(make("span", { className: "visually-hidden" }, text(" (done)")));
      return item;
    });
    list.replaceChildren(...items);
    const count = lesson.tasks.filter((_, index) => done[nameOf(lesson, index)]).length;
    within(dock, "[data-word=count]").textContent = text("{done} of {count} tasks", { done: count, count: lesson.tasks.length });
    const seen = within(dock, "[data-word=seen]");
    seen.textContent = lesson.seen;
    seen.hidden = !isDone(lesson);
    within(dock, "[data-do=next-lesson]").hidden = !isDone(lesson) || lesson.number >= lessons.length;
  };
  on("lesson", (/** @type {Lesson | null} */ lesson) => {
    dock.hidden = !lesson;
    for (const item of document.querySelectorAll(".lab-tasks li"))
      if (item instanceof HTMLElement)
        item.classList.toggle("done", Boolean(done[`${item.dataset.lesson}/${item.dataset.task}`]));
    if (lesson) show(lesson);
  });
  const wanted = parameter("lesson");
  const isThere = lessons.some((lesson) => String(lesson.number) === wanted);
  if (isThere) on("opened", () => openLesson(wanted, { staysOnTab: true })); // tabs.js has opened the tab
});
