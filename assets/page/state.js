/** The state of the page: all values that a visitor can set, by name, with the model and the data in use.

   The server describes the values (neftune_core/ui/page_state.py). This module stores them for a reload of this tab and for the
   next visit, and writes them into links. When the page opens, it restores the state of this tab on a reload, otherwise the
   state in the link, otherwise the last one stored in this browser. */
import { currentTab, openTab, parameter, setParameter } from "./address.js";
import { read } from "./controls.js";
import { store, stored } from "./dom.js";
import { say } from "./parts.js";
import { isProjected, project } from "./projector.js";

const KEPT = "neftune-lab-state";
const STARTER = "starter:";
/** Parameters of the URL that are not values of the state. */
const OTHERS = new Set(["tab", "lesson", "hide", "job", "shared", "class", "lang", "__theme"]);

/** @type {Described} */
let described = { fields: {}, in_use: { model: {}, data: {} }, presets: {}, server: "" };
/** @type {Record<string, any>} */
const values = {};

/** @param {Described} found where every value is shown, and its initial value */
export const describe = (found) => (described = found);

// Every call names the server process that the page was opened on; a restarted server refuses it, as its sessions are lost.
const asking = window.fetch;
window.fetch = (place, options) => {
  const isCall = String(place instanceof Request ? place.url : place).includes("/queue/join");
  if (!isCall || !described.server) return asking(place, options);
  const headers = new Headers(options?.headers);
  headers.set("x-lab-server", described.server);
  return asking(place, { ...options, headers });
};

/** The component of every value of the state, by name. */
export const fields = () => described.fields;

/**
 * @template Found
 * @param {(session: Storage) => Found} work
 */
const inSession = (work) => {
  try {
    return work(sessionStorage);
  } catch {
    return null; // storage is forbidden, or full
  }
};

/** @param {string | null} said @returns {Record<string, any> | null} */
const understood = (said) => {
  try {
    const found = JSON.parse(said || "null");
    return found && typeof found === "object" ? found : null;
  } catch {
    return null; // the stored text is not valid
  }
};

// ------------------------------------------------------------------ the state restored when the page opens
const CHANGED = "neftune-lab-language-changed";
const isLanguageChanged = inSession((session) => session.getItem(CHANGED)) !== null;
inSession((session) => session.removeItem(CHANGED));

const [navigation] = /** @type {PerformanceNavigationTiming[]} */ (performance.getEntriesByType("navigation"));
const isReload = isLanguageChanged || ["reload", "back_forward"].includes(navigation?.type);
const ofLink = () => Object.fromEntries([...new URLSearchParams(location.search)].filter(([name]) => !OTHERS.has(name)));

const ofEntry = history.state?.place?.tab;
const linked = ofLink();
const isLinked = Object.keys(linked).length > 0;
const ofTab = understood(inSession((session) => session.getItem(KEPT)));
const ofBrowser = isLinked || parameter("job") ? null : understood(stored(KEPT));
/** The stored state that the page restores, or null. */
const kept = isReload || !isLinked ? (ofTab ?? ofBrowser) : null;

project((kept ?? linked).projector === "1");

/** Whether the page restores a stored state. */
export const isKept = () => kept !== null;
/** Whether the restored state is from an earlier visit or from another tab. */
export const isOfEarlierVisit = () => kept !== null && kept === ofBrowser;
/** The tab that was open before a reload: that of the history entry (back.js), otherwise the last one. */
export const keptTab = () => (isReload ? ofEntry ?? kept?.tab : null);
/** @param {string} tab opened for the study of a link, unless the page restores another one */
export const openUnlessKept = (tab) => {
  if (keptTab()) return;
  say("arriving", tab);
  openTab(tab);
};
/** The state for the server to show, as JSON; empty for the default page. */
export const opened = () => (kept ? JSON.stringify(kept) : isLinked ? JSON.stringify(linked) : "");

/** Let the controls be used: the stored state is shown. */
export const restored = () => void delete document.body.dataset.labRestoring;
// Until then they take no clicks, because the stored state would replace what is set meanwhile.
if (opened()) {
  document.body.dataset.labRestoring = "yes";
  setTimeout(restored, 5000); // at the latest: the server may not answer
}

// ------------------------------------------------------------------ storage
let touched = false; // values that the page sets while it opens are not stored
/** Whether the visitor has clicked or pressed a key. */
export const isTouched = () => touched;
for (const gesture of ["pointerdown", "keydown"]) addEventListener(gesture, () => (touched = true), true);

let keeping = 0;
const write = () => {
  if (!touched || !Object.keys(values).length) return;
  const said = JSON.stringify({ ...kept, ...values, tab: currentTab() });
  inSession((session) => session.setItem(KEPT, said));
  store(KEPT, said);
  if (!Object.keys(ofLink()).length) return;
  const { query } = asked();
  for (const name of [...Object.keys(ofLink()), ...query.keys()])
    if (!OTHERS.has(name)) setParameter(name, query.get(name));
};
const soon = () => {
  clearTimeout(keeping);
  keeping = window.setTimeout(write, 200);
};
addEventListener("pagehide", write);
document.addEventListener("click", soon); // the open tab is part of the state

/** All values of the state, also those that nobody has changed. */
const all = () => ({ ...Object.fromEntries(Object.entries(described.fields).map(([name, { value }]) => [name, value])), ...values });

/**
 * Store the value of a name.
 * @param {string} name
 * @param {any} value
 */
export const keep = (name, value) => {
  values[name] = value;
  say("state", all());
  soon();
};

/** Switch the projector mode on or off, in the URL too, so that a reload starts with it. */
export const toggleProjector = () => {
  project(!isProjected());
  say("projector", isProjected());
  values.projector = isProjected() ? "1" : "";
  setParameter("projector", values.projector);
  soon();
};

/** Delete the stored state; the next change stores it again. */
export const forget = () => {
  touched = false;
  inSession((session) => session.removeItem(KEPT));
  store(KEPT, "null");
};

/** Delete the stored state, and open the default page. */
export const startAfresh = () => {
  forget();
  location.assign(location.origin + location.pathname);
};

// ------------------------------------------------------------------ links
/** @param {any} value */
const plain = (value) => String(value ?? "");

/** The query of a link to the current state, and whether it includes the data in use (uploads are never included). */
const asked = () => {
  const query = new URLSearchParams();
  for (const [name, { id, value: usual, listed }] of Object.entries(described.fields)) {
    const value = (listed ? undefined : read(id)) ?? values[name];
    if (value !== undefined && plain(value) !== plain(usual)) query.set(name, plain(value));
  }
  const { model, data } = understood(values.in_use) ?? described.in_use;
  if (model.source !== described.in_use.model.source) query.set("model.source", plain(model.source));
  const isOpen = plain(data.source).startsWith(STARTER);
  for (const [name, value] of Object.entries(isOpen ? data : {})) {
    if (typeof value === "object" || value === described.in_use.data[name]) continue;
    if (name === "source") query.set("data", plain(value).slice(STARTER.length));
    else query.set("data." + name, plain(value));
  }
  if (isProjected()) query.set("projector", "1");
  return { query, isWhole: isOpen };
};

/** A link to the current state. */
export const link = () => {
  const { query } = asked();
  const tab = currentTab();
  for (const [name, value] of Object.entries({ tab, lesson: parameter("lesson"), hide: parameter("hide"), class: parameter("class") }))
    if (value && value !== "Learn") query.set(name, value); // the page opens with Learn
  const text = query.toString();
  return location.origin + location.pathname + (text ? "?" + text : "");
};

/** Whether the model in use is the bundled one. */
export const isBundled = () => {
  const { model } = understood(values.in_use) ?? described.in_use;
  return model.source === described.in_use.model.source;
};

/** Whether a link includes the data in use; uploaded rows belong to their owner only. */
export const isLinkWhole = () => asked().isWhole;

/** Switching the language keeps the open tab and all settings. */
export const changeLanguage = () => {
  write();
  inSession((session) => session.setItem(CHANGED, "yes"));
  setParameter("tab", currentTab() === "Learn" ? "" : currentTab());
  LabLanguage.change();
};

// ------------------------------------------------------------------ presets
/**
 * How many training settings differ from the chosen preset.
 * @param {Record<string, any>} state
 */
export const changedSettings = (state) => {
  const of = isBundled() ? "bundled" : "others";
  const preset = described.presets[state["train.preset"]]?.[of] ?? {};
  return Object.keys(preset).filter((name) => name in state && plain(state[name]) !== plain(preset[name])).length;
};
