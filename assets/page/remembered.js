/** Links to the page as it is set, and what was set, kept over a reload of this tab. */
import { currentTab, parameter, setParameter } from "./address.js";
import { read } from "./controls.js";
import { reaching } from "./numbers.js";

/** @type {Record<string, {id: string, value: any}>} */
const linked = {};
/**
 * `parameters` maps a parameter of the link to {id, value}: what stands at that value is left out.
 * @param {Record<string, {id: string, value: any}>} parameters
 */
export const linkControls = (parameters) => Object.assign(linked, parameters);

export const link = () => {
  const query = new URLSearchParams();
  for (const [name, { id, value: usual }] of Object.entries(linked)) {
    const value = read(id);
    if (value !== undefined && String(value) !== String(usual)) query.set(name, value);
  }
  const kept = { tab: currentTab(), lesson: parameter("lesson"), hide: parameter("hide") };
  if (kept.tab === "Learn") delete kept.tab; // what the page opens with
  for (const [name, value] of Object.entries(kept)) if (value) query.set(name, value);
  const text = query.toString();
  return location.origin + location.pathname + (text ? "?" + text : "");
};

const FORM = "neftune-lab-form";
let touched = false; // what the page itself sets as it opens is nobody's wish
for (const gesture of ["pointerdown", "keydown"]) addEventListener(gesture, () => (touched = true), true);

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
const isLinked = () => Object.keys(linked).some((name) => parameter(name) !== null);

let keeping = 0;
/**
 * Keep the values of the controls with these ids; a link in the address follows them.
 * @param {string[]} ids
 * @param {any[]} values
 */
export const remember = (ids, values) => {
  clearTimeout(keeping);
  keeping = window.setTimeout(() => {
    if (!touched) return;
    const form = Object.fromEntries(ids.map((id, place) => [id, values[place]]));
    inSession((session) => session.setItem(FORM, JSON.stringify(form)));
    if (!isLinked()) return;
    const current = new URL(link()).searchParams;
    for (const name of Object.keys(linked)) setParameter(name, current.get(name));
  }, 200);
};

const CHANGED = "neftune-lab-language-changed";
/** The page in the other language is the same page: the open tab and what was set come along. */
export const changeLanguage = () => {
  inSession((session) => session.setItem(CHANGED, "yes"));
  setParameter("tab", currentTab() === "Learn" ? "" : currentTab());
  LabLanguage.change();
};
const isChanged = inSession((session) => session.getItem(CHANGED)) !== null;
inSession((session) => session.removeItem(CHANGED));

const [navigation] = /** @type {PerformanceNavigationTiming[]} */ (performance.getEntriesByType("navigation"));
const isReload = isChanged || ["reload", "back_forward"].includes(navigation?.type);
/** @type {Record<string, any> | null} */
const kept = (isReload && inSession((session) => JSON.parse(session.getItem(FORM) || "null"))) || null;
/** Whether this page goes on with what was set before it was loaded again. */
export const isRemembered = () => kept !== null;

/**
 * What the controls had, and last of all the strengths with their unit, and the model and the data in use; nothing where
 * the page is opened anew.
 * @param {string[]} ids
 * @param {Record<string, Slider>} ranges
 */
export const remembered = (ids, ranges) => {
  const nothing = { __type__: "update" };
  const given = ids.map((id) => {
    if (!kept || kept[id] === undefined || (id.startsWith("noise-") && isLinked())) return nothing;
    const range = id === "noise-strength" ? ranges[kept["noise-unit"]] : null;
    return { ...nothing, value: kept[id], ...(range && reaching(range, kept[id])) };
  });
  const together = { strengths: kept?.["train-strengths"], unit: kept?.["noise-unit"], made: performance.timeOrigin };
  return [...given, kept ? JSON.stringify(together) : nothing, kept?.["lab-in-use"] || nothing];
};
