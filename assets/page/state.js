/** The state of the page: all values that a visitor can set, by name, and the model and data in use.

   The server describes the values (neftune_core/ui/page_state.py). This module stores them for a reload of this browser tab
   and for the next visit, and writes them into links. When the page opens, it restores the first of these that exists: the
   state of this browser tab (only after a reload if the link contains a state), the state in the link, and the last state
   stored in this browser. */
import { currentTab, openTab, parameter, setParameter } from "./address.js";
import { read } from "./controls.js";
import { store, stored } from "./dom.js";
import { say } from "./parts.js";
import { isProjected, project } from "./projector.js";

const KEPT = "neftune-lab-state";
const STARTER = "starter:";
/** Parameters of the URL that are not part of the state. */
const OTHERS = new Set(["tab", "lesson", "hide", "job", "shared", "class", "lang", "__theme"]);

/** @type {Described} */
let described = { fields: {}, in_use: { model: {}, data: {} }, presets: {}, server: "" };
/** @type {Record<string, any>} */
const values = {};

/** Set the description of the state. @param {Described} found the component and the initial value of each name */
export const describe = (found) => (described = found);

// Every call identifies the server process that served the page. A restarted server has lost its sessions and refuses the call.
const asking = window.fetch;
window.fetch = (place, options) => {
  const isCall = String(place instanceof Request ? place.url : place).includes("/queue/join");
  if (!isCall || !described.server) return asking(place, options);
  const headers = new Headers(options?.headers);
  headers.set("x-lab-server", described.server);
  const answer = asking(place, { ...options, headers });
  if (isRestoring(options?.body)) answer.then(({ ok }) => ok || restored(), restored); // a refused or failed call restores nothing
  return answer;
};

/** Return the component of every value of the state, by name. */
export const fields = () => described.fields;

/**
 * Use the session storage; return null if it is forbidden or full.
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

/** Parse stored JSON; return null if it is not an object. @param {string | null} said @returns {Record<string, any> | null} */
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

/** Return whether the page restores a stored state. */
export const isKept = () => kept !== null;
/** Return whether the restored state is from an earlier visit or another browser tab. */
export const isOfEarlierVisit = () => kept !== null && kept === ofBrowser;
/** Return a value of the restored state by name. @param {string} name @returns {any} */
export const keptValue = (name) => kept?.[name];
/** Return the tab that was open before a reload: that of the history entry (back.js), otherwise the stored one. */
export const keptTab = () => (isReload ? ofEntry ?? kept?.tab : null);
/** Open the tab for the study of a link, unless the page restores another tab. @param {string} tab */
export const openUnlessKept = (tab) => {
  if (keptTab()) return;
  say("arriving", tab);
  openTab(tab);
};
/** Return the state that the server should show, as JSON; empty for the default page. */
export const opened = () => (kept ? JSON.stringify(kept) : isLinked ? JSON.stringify(linked) : "");

/**
 * Return whether a call restores the stored state, which is its first value.
 * @param {any} body the body of the request
 */
const isRestoring = (body) => "labRestoring" in document.body.dataset && understood(body)?.data?.[0] === opened();
/** Enable the controls once the stored state is shown. */
export const restored = () => void delete document.body.dataset.labRestoring;
// Until then, the controls ignore clicks, because the stored state would overwrite new values.
if (opened()) {
  document.body.dataset.labRestoring = "yes";
  setTimeout(restored, 30000); // in case the server accepts the call and never answers
}

// ------------------------------------------------------------------ storage
let touched = false; // until then, nothing is stored: the page itself sets values while it opens
/** Return whether the visitor has clicked or pressed a key. */
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

/** Return all values of the state, including unchanged ones. */
const all = () => ({ ...Object.fromEntries(Object.entries(described.fields).map(([name, { value }]) => [name, value])), ...values });

/**
 * Set and store a value of the state.
 * @param {string} name
 * @param {any} value
 */
export const keep = (name, value) => {
  values[name] = value;
  say("state", all());
  soon();
};

/** Toggle projector mode, and set it in the URL, so that a reload keeps it. */
export const toggleProjector = () => {
  project(!isProjected());
  say("projector", isProjected());
  values.projector = isProjected() ? "1" : "";
  setParameter("projector", values.projector);
  soon();
};

/** Delete the stored state until the next change. */
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

/** Return the query of a link to the current state, and whether it includes the data in use (never uploads). */
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

/** Return a link to the current state. */
export const link = () => {
  const { query } = asked();
  const tab = currentTab();
  for (const [name, value] of Object.entries({ tab, lesson: parameter("lesson"), hide: parameter("hide"), class: parameter("class") }))
    if (value && value !== "Learn") query.set(name, value); // Learn is the default tab
  const text = query.toString();
  return location.origin + location.pathname + (text ? "?" + text : "");
};

/** Return whether the model in use is the bundled one. */
export const isBundled = () => {
  const { model } = understood(values.in_use) ?? described.in_use;
  return model.source === described.in_use.model.source;
};

/** Return whether a link includes the data in use; uploaded rows are never included. */
export const isLinkWhole = () => asked().isWhole;

/** Switch the language, and keep the open tab and all settings. */
export const changeLanguage = () => {
  write();
  inSession((session) => session.setItem(CHANGED, "yes"));
  setParameter("tab", currentTab() === "Learn" ? "" : currentTab());
  LabLanguage.change();
};

// ------------------------------------------------------------------ presets
const TAKEN = "neftune-lab-taken";
/** The settings that were taken from a study, and its id. @type {Record<string, any>} */
let taken = understood(inSession((session) => session.getItem(TAKEN))) ?? {};

/** Note that settings were taken from the study in the URL. @param {string} said the settings as JSON */
export const take = (said) => {
  taken = { job: parameter("job"), settings: understood(said) };
  inSession((session) => session.setItem(TAKEN, JSON.stringify(taken)));
  say("state", all());
};

/** Return whether all settings are those of the study in the URL. @param {Record<string, any>} state */
export const isTaken = (state) => {
  const names = Object.keys(taken.settings ?? {}).filter((name) => name in state);
  const isShown = names.length > 0 && taken.job === parameter("job");
  return isShown && names.every((name) => plain(state[name]) === plain(taken.settings[name]));
};

/**
 * Return the names of the training settings that differ from the chosen preset.
 * @param {Record<string, any>} state
 */
export const changedSettings = (state) => {
  const of = isBundled() ? "bundled" : "others";
  const preset = described.presets[state["train.preset"]]?.[of] ?? {};
  return Object.keys(preset).filter((name) => name in state && plain(state[name]) !== plain(preset[name]));
};
