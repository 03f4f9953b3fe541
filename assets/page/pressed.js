/** Shows at once that a button was pressed, without waiting for the server. Until its call is answered, the button is marked as
   busy and ignores further presses. If the call is refused or the connection is lost, the button returns. The same holds for
   buttons inside HTML components, once their script sends a call.

   Buttons that start a training return as soon as the server has accepted it, because their calls may last as long as the
   training. */
import { on } from "./parts.js";
import { text } from "./text.js";

const UNSENT = 2000; // milliseconds after which a press that has sent no call is over
const SETTLED = 600; // milliseconds from the answer to a start until the page shows the study
const SENDS_WITHIN = 1000; // milliseconds within which the press of a button inside an HTML component sends its call
const LONGEST = 600_000; // milliseconds after which a button returns in any case
const STARTS = /^(lab-train|sweep-start|(train|runs|sweep)-(resume|more|go-on))$/;

/** Buttons by the id of the framework's component, if a press calls the server. @type {Map<number, string> | null} */
let known = null;
const components = () => (known ||= calling(/button$/));

/** Return the components of a type whose clicks call the server: their element ids, by id. @param {RegExp} wanted */
const calling = (wanted) => {
  const { components: all, dependencies } = window.gradio_config;
  const clicked = new Set(dependencies.filter((one) => one.backend_fn).flatMap((one) => one.targets.filter(([, name]) => name === "click").map(([id]) => id)));
  const found = all.filter(({ id, type, props }) => wanted.test(type) && props.elem_id && clicked.has(id));
  return new Map(found.map(({ id, props }) => [id, String(props.elem_id)]));
};

/** HTML components whose clicks call the server: their element ids, by id. @type {Map<number, string> | null} */
let knownParts = null;
const htmlParts = () => (knownParts ||= calling(/^html$/));

/** Open calls and timers of the pressed buttons, by element id. @type {Map<string, {calls: number, timers: number[]}>} */
const pressed = new Map();

/** @param {string} id */
const release = (id) => {
  pressed.get(id)?.timers.forEach(clearTimeout);
  pressed.delete(id);
  const button = document.getElementById(id);
  for (const name of ["aria-busy", "aria-disabled", "data-starting"]) button?.removeAttribute(name);
};

/** @param {HTMLElement} button */
const press = (button) => {
  const { id } = button;
  button.setAttribute("aria-busy", "true");
  button.setAttribute("aria-disabled", "true"); // `disabled` would take the focus away
  if (STARTS.test(id)) button.dataset.starting = text("Starting …");
  const unsent = window.setTimeout(() => pressed.get(id)?.calls || release(id), UNSENT);
  pressed.set(id, { calls: 0, timers: [unsent, window.setTimeout(release, LONGEST, id)] });
};

/** The button whose press is passed on to the framework. @type {HTMLElement | null} */
let passing = null;
/** Pass a press on once the busy button is painted: the framework then needs the browser for a moment. @param {HTMLElement} button */
const pass = (button) => {
  passing = button;
  button.click();
  passing = null;
};

addEventListener(
  "click",
  (event) => {
    const button = event.target instanceof Element ? event.target.closest("button[id]") : null;
    if (!(button instanceof HTMLElement) || ![...components().values()].includes(button.id)) return;
    if (button === passing) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    if (pressed.has(button.id)) return;
    press(button);
    if (document.hidden) pass(button);
    else requestAnimationFrame(() => setTimeout(pass, 0, button));
  },
  true,
);

/** @param {number} cause @param {(id: string, found: {calls: number}) => void} work */
const ifPressed = (cause, work) => {
  const id = components().get(cause) ?? "";
  const found = pressed.get(id);
  if (found) work(id, found);
};
on("call-sent", (cause) => ifPressed(cause, (_, found) => found.calls++));
on("call-news", (cause) => ifPressed(cause, (id) => STARTS.test(id) && setTimeout(release, SETTLED, id)));
on("call-over", (cause) =>
  ifPressed(cause, (id, found) => {
    if (--found.calls <= 0) setTimeout(release, STARTS.test(id) ? SETTLED : 0, id);
  }),
);

// ------------------------------------------------------------------ buttons inside HTML components
/** The last pressed button of an HTML component. @type {{button: HTMLElement, cause: number, at: number} | null} */
let touched = null;
/** The busy button of each component, with the number of its open calls. @type {Map<number, {button: HTMLElement, calls: number, timer: number}>} */
const busy = new Map();

addEventListener(
  "click",
  (event) => {
    const button = event.target instanceof Element ? event.target.closest("button:not([aria-expanded])") : null;
    if (!(button instanceof HTMLElement)) return;
    const [cause] = [...htmlParts()].find(([, id]) => button.closest(`#${id}`)) || [];
    if (cause === undefined) return;
    if (button.getAttribute("aria-busy") === "true") {
      event.stopImmediatePropagation();
      event.preventDefault();
    } else touched = { button, cause, at: performance.now() };
  },
  true,
);

/** @param {number} cause */
const free = (cause) => {
  const found = busy.get(cause);
  clearTimeout(found?.timer);
  busy.delete(cause);
  for (const name of ["aria-busy", "aria-disabled"]) found?.button.removeAttribute(name);
};
on("call-sent", (cause) => {
  const found = busy.get(cause);
  if (!touched || touched.cause !== cause || performance.now() - touched.at > SENDS_WITHIN) return void (found && found.calls++);
  const { button } = touched;
  touched = null;
  const calls = (found?.calls ?? 0) + 1;
  if (found) free(cause);
  button.setAttribute("aria-busy", "true");
  button.setAttribute("aria-disabled", "true");
  busy.set(cause, { button, calls, timer: window.setTimeout(free, LONGEST, cause) });
});
on("call-over", (cause) => {
  const found = busy.get(cause);
  if (found && --found.calls <= 0) free(cause);
});
