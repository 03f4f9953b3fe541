/* The page's own small kit: parts that mount themselves, the controls as the browser sees them, theme, owner key, links.

   A part is what a gr.HTML component becomes. Its `js_on_load` hands over {part, element, props, watch, trigger}; parts that
   arrive before this file wait in `window.labWaiting`. */
(() => {
  "use strict";
  const here = document.currentScript.src;
  const Lab = (window.Lab = { parts: {}, sources: {}, waiting: {} });
  /** The English text in the language of the page, with `values` in place of the names in braces (language.js). */
  Lab.text = LabLanguage.text;

  Lab.mount = (given) => {
    const part = Lab.parts[given.part];
    if (part) part(given);
    else (Lab.waiting[given.part] ||= []).push(given);
  };

  /** Register a part; components that came before it are mounted now. */
  Lab.part = (name, mount) => {
    Lab.parts[name] = mount;
    for (const given of Lab.waiting[name] || []) mount(given);
    delete Lab.waiting[name];
  };

  // ------------------------------------------------------------------ Plotly, ours, under our own name
  // Fetched at once, run only when asked for: running it takes a second of a small machine, and something can be seen before.
  const plotlyAddress = new URL("plotly.min.js" + new URL(here).search, here).href;
  document.head.appendChild(Object.assign(document.createElement("link"), { rel: "preload", as: "script", href: plotlyAddress }));

  let loading = null;
  /** A promise that our Plotly is there as `Lab.Plotly`. */
  Lab.loadPlotly = () => {
    loading ||= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = plotlyAddress;
      script.onload = () => {
        resolve((Lab.Plotly = window.Plotly));
        Lab.say("plotly", true);
      };
      script.onerror = () => {
        script.remove();
        loading = null; // whoever asks again tries again
        reject(new Error(Lab.text("The figure library could not be loaded.")));
      };
      document.head.appendChild(script);
    });
    return loading;
  };

  // ------------------------------------------------------------------ messages between parts
  const listeners = {};
  const last = {};
  /** Call `callback` with every message of that name, and at once with the last one if there was any. */
  Lab.on = (name, callback) => {
    (listeners[name] ||= []).push(callback);
    if (name in last) callback(last[name]);
  };
  Lab.say = (name, message) => {
    last[name] = message;
    for (const callback of listeners[name] || []) callback(message);
  };

  // ------------------------------------------------------------------ controls, read where the browser keeps them
  /** The value of the control with that id: a number from a slider, the chosen value of a radio, else text. */
  Lab.read = (id) => {
    const root = document.getElementById(id);
    if (!root) return undefined;
    const range = root.querySelector("input[type=range]");
    if (range) return Number(range.value);
    const radio = root.querySelector("input[type=radio]");
    if (radio) return root.querySelector("input[type=radio]:checked")?.value;
    const box = root.querySelector("input[type=checkbox]");
    if (box) return box.checked;
    return root.querySelector("textarea, input")?.value;
  };

  /** The range of a slider as it must be to show `value`: longer where it is beyond the end, finer where it is between two
      steps, down to its third digit. */
  Lab.reaching = (range, value) => {
    if (!(value > 0)) return range;
    const stops = value / range.step;
    const isStop = stops > 0.5 && Math.abs(stops - Math.round(stops)) < 1e-6;
    const third = Number(`1e${Math.floor(Math.log10(value)) - 2}`);
    return { ...range, maximum: Math.max(range.maximum, value), step: isStop ? range.step : Math.min(range.step, third) };
  };

  /** The slider of the strength with the range that its unit and its value want. */
  Lab.ranged = (strength, unit, ranges) => {
    const range = Lab.reaching(ranges[unit], strength);
    const look = (tries) => {
      const input = document.querySelector("#noise-strength input[type=range]");
      const isThere = Number(input?.max) === range.maximum && Number(input?.step) === range.step;
      if (isThere || !tries) Lab.changed("noise-strength");
      else setTimeout(() => look(tries - 1), 50);
    };
    look(100);
    return { __type__: "update", ...range, value: strength };
  };

  const watched = [];
  /** Call `callback` as soon as one of the controls with these ids is moved, typed into or chosen. */
  Lab.watch = (ids, callback) => watched.push({ ids: new Set(ids), callback });

  const moved = (event) => {
    const target = event.target;
    const found = watched.filter(({ ids }) => {
      for (const id of ids) if (document.getElementById(id)?.contains(target)) return true;
      return false;
    });
    if (!found.length) return;
    // A slider has two inputs of one value; the one that was not touched follows only later.
    if (target.type === "number" && target.value !== "") {
      const range = target.closest(".block")?.querySelector("input[type=range]");
      if (range && Number(range.value) !== Number(target.value)) range.value = target.value;
    }
    for (const { callback } of found) callback(event);
  };
  document.addEventListener("input", moved, true);
  document.addEventListener("change", moved, true);

  /** A slider that got a new value and a new range at once: the browser bent the value to the old range. */
  const straightened = (id) => {
    const root = document.getElementById(id);
    const [range, number] = ["range", "number"].map((type) => root?.querySelector(`input[type=${type}]`));
    if (range && number && number.value !== "") range.value = number.value;
  };

  /** For values that were set by an event of the framework: everything that watches these ids looks again. */
  Lab.changed = (...ids) => {
    setTimeout(() => {
      ids.forEach(straightened);
      for (const { ids: own, callback } of watched) if (ids.some((id) => own.has(id))) callback(null);
    }, 60);
  };

  // ------------------------------------------------------------------ theme
  const stored = (name) => {
    try {
      return localStorage.getItem(name);
    } catch {
      return null; // storage is forbidden in some embedded pages
    }
  };
  const store = (name, value) => {
    try {
      localStorage.setItem(name, value);
    } catch {
      /* as above: the choice then holds for this page only */
    }
  };

  Lab.isDark = () => document.body.classList.contains("dark");
  Lab.setTheme = (theme) => {
    document.body.classList.toggle("dark", theme === "dark");
    store("neftune-lab-theme", theme);
  };
  Lab.toggleTheme = () => Lab.setTheme(Lab.isDark() ? "light" : "dark");
  const wanted = stored("neftune-lab-theme");
  if (wanted && !new URLSearchParams(location.search).has("__theme")) Lab.setTheme(wanted);
  new MutationObserver(() => Lab.say("theme", Lab.isDark())).observe(document.body, {
    attributes: true,
    attributeFilter: ["class"],
  });

  // ------------------------------------------------------------------ whose records these are
  /** An unguessable key made here once and kept by this browser; also on plain http, where crypto.subtle is missing. */
  Lab.ownerKey = () => {
    const known = stored("neftune-lab-owner");
    if (known && /^[0-9a-f]{64}$/.test(known)) return known;
    const bytes = crypto.getRandomValues(new Uint8Array(32));
    const key = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    store("neftune-lab-owner", key);
    return key;
  };

  // ------------------------------------------------------------------ links
  const linked = {};
  /** `parameters` maps a parameter of the link to {id, value}: what stands at that value is left out. */
  Lab.linkControls = (parameters) => Object.assign(linked, parameters);

  Lab.link = () => {
    const query = new URLSearchParams();
    for (const [name, { id, value: usual }] of Object.entries(linked)) {
      const value = Lab.read(id);
      if (value !== undefined && String(value) !== String(usual)) query.set(name, value);
    }
    const kept = { tab: Lab.currentTab?.(), lesson: Lab.parameter("lesson"), hide: Lab.parameter("hide") };
    if (kept.tab === "Learn") delete kept.tab; // what the page opens with
    for (const [name, value] of Object.entries(kept)) if (value) query.set(name, value);
    const text = query.toString();
    return location.origin + location.pathname + (text ? "?" + text : "");
  };

  // ------------------------------------------------------------------ what was set, kept over a reload of this tab
  const FORM = "neftune-lab-form";
  let touched = false; // what the page itself sets as it opens is nobody's wish
  for (const gesture of ["pointerdown", "keydown"]) addEventListener(gesture, () => (touched = true), true);

  const inSession = (work) => {
    try {
      return work(sessionStorage);
    } catch {
      return null; // storage is forbidden, or full
    }
  };
  const isLinked = () => Object.keys(linked).some((name) => Lab.parameter(name) !== null);

  let keeping = null;
  /** Keep the values of the controls with these ids; a link in the address follows them. */
  Lab.remember = (ids, values) => {
    clearTimeout(keeping);
    keeping = setTimeout(() => {
      if (!touched) return;
      const form = Object.fromEntries(ids.map((id, place) => [id, values[place]]));
      inSession((session) => session.setItem(FORM, JSON.stringify(form)));
      if (!isLinked()) return;
      const current = new URL(Lab.link()).searchParams;
      for (const name of Object.keys(linked)) Lab.setParameter(name, current.get(name));
    }, 200);
  };

  /** The page in the other language is the same page: the open tab and what was set come along. */
  const CHANGED = "neftune-lab-language-changed";
  const changeLanguage = () => {
    inSession((session) => session.setItem(CHANGED, "yes"));
    Lab.setParameter("tab", Lab.currentTab() === "Learn" ? "" : Lab.currentTab());
    LabLanguage.change();
  };
  const isChanged = inSession((session) => session.getItem(CHANGED)) !== null;
  inSession((session) => session.removeItem(CHANGED));

  const isReload = isChanged || ["reload", "back_forward"].includes(performance.getEntriesByType("navigation")[0]?.type);
  const kept = (isReload && inSession((session) => JSON.parse(session.getItem(FORM)))) || null;
  /** Whether this page goes on with what was set before it was loaded again. */
  Lab.isRemembered = () => kept !== null;

  /** What the controls had, and last of all the strengths with their unit, and the model and the data in use; nothing
      where the page is opened anew. */
  Lab.remembered = (ids, ranges) => {
    const nothing = { __type__: "update" };
    const given = ids.map((id) => {
      if (!kept || kept[id] === undefined || (id.startsWith("noise-") && isLinked())) return nothing;
      const range = id === "noise-strength" ? ranges[kept["noise-unit"]] : null;
      return { ...nothing, value: kept[id], ...(range && Lab.reaching(range, kept[id])) };
    });
    const together = { strengths: kept?.["train-strengths"], unit: kept?.["noise-unit"], made: performance.timeOrigin };
    return [...given, kept ? JSON.stringify(together) : nothing, kept?.["lab-in-use"] || nothing];
  };

  /** One parameter of the address as it stands. */
  Lab.parameter = (name) => new URLSearchParams(location.search).get(name);

  /** Put one parameter into the address, so that a reload finds the same; nothing is loaded. */
  Lab.setParameter = (name, value) => {
    const address = new URL(location.href);
    if (value) address.searchParams.set(name, value);
    else address.searchParams.delete(name);
    history.replaceState(null, "", address);
  };

  /** Open the tab with that name, as a click would. */
  Lab.openTab = (name) => {
    document.getElementById(`tab-${name.toLowerCase()}-button`)?.click();
  };

  /** Save a text as a file of that name; nothing where there is none. */
  Lab.saveText = (name, text) => {
    if (!text) return;
    const blob = new Blob([text], { type: "text/plain;charset=utf-8" });
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };

  /** Put the choice of how to stop in the place of Stop, or Stop back in its own; whoever types stays where they are. */
  Lab.askStop = (asked) => {
    document.getElementById("lab-strip").classList.toggle("lab-asking", asked);
    const next = document.querySelector(asked ? "#lab-stop-keep" : "#lab-stop");
    (next?.closest("button") || next?.querySelector("button"))?.focus();
  };

  Lab.copy = async (text) => {
    if (navigator.clipboard) {
      try {
        await navigator.clipboard.writeText(text);
        return true;
      } catch {
        /* not allowed here: the older way below */
      }
    }
    const area = Object.assign(document.createElement("textarea"), { value: text });
    area.style.cssText = "position:fixed;opacity:0";
    document.body.appendChild(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };

  // ------------------------------------------------------------------ the strip
  /** The experiment in words: what the server says of model, data and seed; the noise as the browser has it. */
  Lab.part("strip-words", ({ element, props, watch }) => {
    const put = (words) => {
      for (const [name, text] of Object.entries(words || {})) {
        const place = element.querySelector(`[data-word=${name}]`);
        if (place && place.textContent !== text) place.textContent = text;
      }
    };
    watch("value", () => put(props.value));
    put(props.value);
    Lab.on("strip", put);
  });

  Lab.part("strip-tools", ({ element, props, trigger }) => {
    Lab.linkControls(props.value || {});
    const note = element.querySelector("[role=status]");
    const panel = element.querySelector("[data-do=model]");
    panel.addEventListener("click", () => {
      const open = document.getElementById("lab-model").classList.toggle("open");
      panel.setAttribute("aria-expanded", String(open));
      if (open) trigger("click"); // the card is made anew, with what is known by now
    });
    element.querySelector("[data-do=language]").addEventListener("click", changeLanguage);
    element.querySelector("[data-do=theme]").addEventListener("click", Lab.toggleTheme);
    element.querySelector("[data-do=link]").addEventListener("click", async () => {
      const link = Lab.link();
      note.textContent = (await Lab.copy(link)) ? Lab.text("Link copied") : link;
      setTimeout(() => (note.textContent = ""), 4000);
    });
  });

  /** The seed as the Train tab has it. */
  Lab.seedIs = (seed) => Lab.say("strip", { seed: Lab.text("seed {seed}", { seed: seed || 0 }) });
  Lab.watch(["train-seed"], () => Lab.seedIs(Lab.read("train-seed")));

  // ------------------------------------------------------------------ small parts of several tabs
  /** A button that shows and hides the column it names; what is hidden can still be read. */
  Lab.part("unfold", ({ element }) => {
    const button = element.querySelector("button");
    button.addEventListener("click", () => {
      const open = document.getElementById(button.getAttribute("aria-controls")).classList.toggle("open");
      button.setAttribute("aria-expanded", String(open));
    });
  });

  /** Answers that can be voted on: a click says the line and the vote. */
  Lab.part("ballots", ({ element, trigger }) => {
    element.addEventListener("click", (event) => {
      const button = event.target.closest("[data-vote]");
      if (button) trigger("click", { line: Number(button.dataset.line), vote: button.dataset.vote });
    });
  });

  // ------------------------------------------------------------------ the list of studies
  const make = (name, attributes, ...children) => {
    const node = Object.assign(document.createElement(name), attributes);
    node.append(...children);
    return node;
  };

  /** One button a study; a click says its id. The list is drawn from texts only, so nothing in it is ever markup. */
  Lab.part("runs", ({ element, props, watch, trigger }) => {
    const list = element.querySelector("ul");
    let chosen = null;
    const entry = ({ id, when, about, arms, state, word }) => {
      const dots = arms.map(({ name, colour }) => {
        const arm = make("span", { className: "lab-arm" }, name);
        arm.style.setProperty("--arm", colour);
        return arm;
      });
      const button = make(
        "button",
        { type: "button" },
        make("span", { className: "lab-run-when" }, when),
        make("span", { className: "lab-run-about" }, about),
        make("span", { className: "lab-run-arms" }, ...dots),
        make("span", { className: "lab-run-state" }, word),
      );
      button.dataset.state = state;
      button.setAttribute("aria-pressed", String(id === chosen));
      button.addEventListener("click", () => {
        chosen = id;
        for (const other of list.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
        trigger("click", { id });
      });
      return make("li", {}, button);
    };
    const draw = () => {
      const rows = props.value || [];
      list.replaceChildren(...rows.map(entry));
      element.querySelector(".lab-runs-empty").hidden = rows.length > 0;
    };
    watch("value", draw);
    draw();
  });

  for (const given of window.labWaiting || []) Lab.mount(given);
  window.labWaiting = { push: Lab.mount };
})();
