/* The Learn tab: the recorded study as it plays, the lessons, and the facts of the page that tick their tasks off.

   A fact is a name with a number or a word (neftune_core/lessons/facts.py has the table). A task's condition is one or more
   comparisons joined by `and`; a task once done stays done, kept by this browser. */
(() => {
  "use strict";
  const make = (name, attributes, ...children) => {
    const node = Object.assign(document.createElement(name), attributes);
    node.append(...children);
    return node;
  };

  // ------------------------------------------------------------------ the recorded study
  /** What was there before the framework goes on in its place; else it begins here. */
  Lab.part("recorded", ({ element, props }) => {
    const place = element.querySelector(".lab-stage");
    if (window.LabFirst && document.contains(window.LabFirst.root)) place.replaceWith(window.LabFirst.root);
    else new window.LabStage(place, props.value);
    document.getElementById("lab-first")?.remove();
  });

  /** One prompt of the recorded answers at a time. */
  Lab.part("recorded-answers", ({ element }) => {
    const sections = [...element.querySelectorAll(".lab-answers")];
    if (sections.length < 2) return;
    const opened = new Set();
    const picker = make("div", { className: "lab-picker" });
    picker.setAttribute("role", "group");
    picker.setAttribute("aria-label", Lab.text("Held-out prompts"));
    const choose = (chosen) => {
      sections.forEach((section, index) => (section.hidden = index !== chosen));
      [...picker.children].forEach((button, index) => button.setAttribute("aria-pressed", String(index === chosen)));
      opened.add(chosen);
      Lab.fact("answers.read", opened.size);
    };
    sections.forEach((section, index) => {
      const button = make("button", { type: "button" }, section.querySelector("h3").textContent);
      button.addEventListener("click", () => choose(index));
      picker.append(button);
    });
    sections[0].before(picker);
    choose(0);
  });

  // ------------------------------------------------------------------ facts
  const facts = {};
  const asked = [];
  const OPERATORS = {
    ">=": (known, wanted) => Number(known) >= Number(wanted),
    "<=": (known, wanted) => Number(known) <= Number(wanted),
    "=": (known, wanted) => String(known) === wanted || Number(known) === Number(wanted),
    "!=": (known, wanted) => String(known) !== wanted,
  };
  /** Whether a condition holds of the facts as they are. */
  const holds = (condition) =>
    condition.split(" and ").every((part) => {
      const [name, operator, value] = part.trim().split(" ");
      return name in facts && OPERATORS[operator](facts[name], value);
    });
  Lab.facts = facts;
  Lab.holds = holds;
  Lab.fact = (name, value) => {
    if (facts[name] === value) return;
    facts[name] = value;
    for (const look of asked) look();
  };

  Lab.part("facts", ({ props, watch }) => {
    const take = () => {
      for (const [name, value] of Object.entries(props.value || {})) Lab.fact(name, value);
    };
    watch("value", take);
    take();
  });

  const seenKinds = new Set();
  const seenLengths = new Set();
  Lab.on("figure:noise", ({ payload, controls, told, result, view }) => {
    const { strength, unit, kind, length_rule: rule } = controls;
    seenKinds.add(kind);
    seenLengths.add(payload.length);
    const known = { strength, unit, kind, length_rule: rule, view: view || controls.view, length: payload.length };
    Object.assign(known, { share: told.share, angle: told.angle, kinds_seen: seenKinds.size, lengths_seen: seenLengths.size });
    known.flips = Lab.noise.flips ? Lab.noise.flips(payload, controls, result) : 0;
    for (const [name, value] of Object.entries(known)) Lab.fact("noise." + name, value);
  });
  for (const [name, id] of [["train.epochs", "train-epochs"], ["train.seeds", "train-seeds"]])
    Lab.watch([id], () => Lab.fact(name, Lab.read(id)));

  // ------------------------------------------------------------------ lessons
  const KEPT = "neftune-lab-lessons";
  let done = {};
  try {
    done = JSON.parse(localStorage.getItem(KEPT)) || {};
  } catch {
    /* nothing kept, or nothing may be */
  }
  const isDone = (lesson) => lesson.tasks.every((_, index) => done[`${lesson.number}/${index}`]);
  let open = null;
  let lessons = [];
  const say = () => Lab.say("lesson", { open, lessons });

  const look = () => {
    if (!open) return;
    let news = false;
    open.tasks.forEach((task, index) => {
      const key = `${open.number}/${index}`;
      if (done[key] || !holds(task.when)) return;
      done[key] = news = true;
    });
    if (!news) return;
    try {
      localStorage.setItem(KEPT, JSON.stringify(done));
    } catch {
      /* it then holds for this page only */
    }
    say();
  };
  asked.push(look);

  /** Open a lesson by its number, or with 0 the list of them. */
  Lab.openLesson = (number, { read = true } = {}) => {
    open = lessons.find((lesson) => lesson.number === Number(number)) || null;
    seenKinds.clear();
    seenLengths.clear();
    Lab.setParameter("lesson", open ? String(open.number) : "");
    for (const lesson of lessons)
      document.getElementById(`lesson-${lesson.number}`)?.classList.toggle("open", lesson === open);
    document.getElementById("learn-home")?.classList.toggle("closed", open !== null);
    if (open && read) Lab.openTab("Learn");
    if (open && read) window.scrollTo({ top: 0 });
    look();
    say();
  };

  Lab.part("lessons", ({ element, props }) => {
    lessons = props.value;
    const list = element.querySelector("ol");
    for (const lesson of lessons) {
      const mark = make("span", { className: "lab-lesson-mark" });
      const words = make("span", { className: "lab-lesson-title" }, lesson.title);
      const button = make("button", { type: "button" }, mark, words, make("span", { className: "lab-quiet" }, Lab.text("{minutes} min", { minutes: lesson.minutes })));
      button.addEventListener("click", () => Lab.openLesson(lesson.number));
      list.append(make("li", {}, button));
      Lab.on("lesson", () => {
        mark.textContent = isDone(lesson) ? "✓" : lesson.number;
        mark.classList.toggle("done", isDone(lesson));
        mark.setAttribute("aria-label", isDone(lesson) ? Lab.text("done") : "");
      });
    }
    say();
    const wanted = Lab.parameter("lesson");
    const isThere = () => document.body.dataset.labOpened && document.getElementById(`lesson-${lessons.length}`);
    const ready = () => (isThere() ? Lab.openLesson(wanted) : setTimeout(ready, 50));
    if (lessons.some((lesson) => String(lesson.number) === wanted)) ready();
  });

  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("[data-do=lessons]")) return;
    event.preventDefault();
    Lab.openLesson(0);
  });

  Lab.part("lesson-dock", ({ element }) => {
    const dock = element.querySelector(".lab-dock");
    const [title, list] = [dock.querySelector("b"), dock.querySelector("ul")];
    dock.querySelector("[data-do=text]").addEventListener("click", () => Lab.openTab("Learn"));
    dock.querySelector("[data-do=close]").addEventListener("click", () => Lab.openLesson(0));
    Lab.on("lesson", ({ open: lesson }) => {
      dock.hidden = !lesson;
      document.body.classList.toggle("lab-docked", Boolean(lesson));
      for (const item of document.querySelectorAll(".lab-tasks li"))
        item.classList.toggle("done", Boolean(done[`${item.dataset.lesson}/${item.dataset.task}`]));
      if (!lesson) return;
      title.textContent = isDone(lesson)
        ? Lab.text("Lesson {number} is done.", { number: lesson.number })
        : Lab.text("Lesson {number}: {title}", { number: lesson.number, title: lesson.title });
      list.replaceChildren(
        ...lesson.tasks.map((task, index) => {
          const item = make("li", {}, task.text);
          item.classList.toggle("done", Boolean(done[`${lesson.number}/${index}`]));
          if (done[`${lesson.number}/${index}`]) item.append(make("span", { className: "visually-hidden" }, Lab.text(" (done)")));
          return item;
        }),
      );
    });
  });

  // ------------------------------------------------------------------ the tab that a link opens, and tabs that it hides
  const tabs = () => [...document.querySelectorAll("#lab-tabs > .tab-wrapper [role=tab]")];
  /** The English name of the open tab, which links have; its button is called tab-noise-button. */
  Lab.currentTab = () => {
    const open = tabs().find((tab) => tab.getAttribute("aria-selected") === "true");
    const name = /^tab-(\w+)-button$/.exec(open?.id || "")?.[1];
    return name && name[0].toUpperCase() + name.slice(1);
  };

  // On a narrow page the row of tabs is longer than the page: the open one is brought into view.
  document.addEventListener("click", (event) => {
    const tab = event.target.closest?.("#lab-tabs > .tab-wrapper [role=tab]");
    if (tab) setTimeout(() => tab.scrollIntoView({ block: "nearest", inline: "center" }), 50);
  });

  /** `?hide=data,runs` leaves these tabs out; Learn always stays. */
  const hide = (Lab.parameter("hide") || "").toLowerCase().split(",").filter((name) => /^[a-z]+$/.test(name) && name !== "learn");
  if (hide.length) {
    const rules = hide.map((name) => `#tab-${name}-button, [data-hides="${name}"]`).join(", ");
    document.head.append(make("style", {}, `${rules} { display: none !important; }`));
  }

  const OF_NOISE = /^(noise\.|view$|text$)/;
  const wanted = () => {
    const query = new URLSearchParams(location.search);
    if (query.get("tab")) return query.get("tab");
    return [...query.keys()].some((name) => OF_NOISE.test(name)) && !query.get("job") && !query.get("lesson") ? "Noise" : "Learn";
  };
  const first = wanted();
  // The framework mounts what a tab holds once it is open: Noise is mounted first, for the strip tells of it on every tab.
  const opening = () => {
    if (!document.getElementById("noise-figure")) return setTimeout(opening, 20);
    if (/^[a-z]+$/i.test(first)) Lab.openTab(first[0].toUpperCase() + first.slice(1).toLowerCase());
    document.body.dataset.labOpened = first;
  };
  opening();

  // A lesson shows no figure, but the tab that it leads to will.
  const soon = () => setTimeout(() => Lab.loadPlotly().catch(() => {}), 1500); // a figure that needs it says so
  if (document.readyState === "complete") soon();
  else addEventListener("load", soon);

  // ------------------------------------------------------------------ progress in the title of the page, and its end
  const NAME = "NEFTune Lab"; // the framework gives the page its title only after this script has run
  const LONG_SECONDS = 90;
  /** A notice of that text; false where the browser has them for service workers alone, as on phones: there it throws. */
  const notify = (words) => {
    try {
      new Notification(words, { tag: "study" });
      return true;
    } catch {
      return false;
    }
  };
  let notifies = null;
  /** Whether notices have that permission, and can be made at all; without leave to show one, making it shows nothing. */
  const mayNotify = (permission) =>
    "Notification" in window && Notification.permission === permission && (permission === "granted" || (notifies ??= notify(NAME)));
  let running = false;
  const glance = () => {
    const strip = document.querySelector("#lab-progress .lab-progress");
    const share = strip?.querySelector("progress");
    const left = strip?.querySelector(".lab-progress-left");
    const word = strip?.querySelector("b")?.textContent;
    offers(left);
    if (strip?.dataset.state === "running" && share) {
      running = true;
      document.title = `${Math.round(100 * share.value)} %${left ? `, ${left.textContent}` : ""} · ${NAME}`;
    } else if (running) {
      running = false;
      document.title = document.hidden && word ? `${word} · ${NAME}` : NAME; // a study that was discarded leaves no word
      if (document.hidden && word && mayNotify("granted"))
        notify(`${word}: ${strip.querySelector(".lab-progress-about")?.textContent || Lab.text("your study")}`);
    }
  };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !running) document.title = NAME;
  });
  new MutationObserver(glance).observe(document.body, { childList: true, subtree: true, characterData: true, attributeFilter: ["data-state"] });
  // A notice may be asked for only in answer to a click, and is worth asking for where there is long to wait.
  const offer = make("button", { type: "button", hidden: true, className: "lab-offer" }, Lab.text("Notify me when it ends"));
  offer.addEventListener("click", () => Notification.requestPermission().then(glance));
  const offers = (left) => {
    const tools = document.querySelector(".lab-tools");
    if (tools && !offer.isConnected) tools.prepend(offer);
    const wanted = running && left?.dataset.seconds >= LONG_SECONDS && mayNotify("default");
    if (offer.hidden === wanted) offer.hidden = !wanted;
  };
})();
