/** Registration of parts, and messages between them.

   A part is the script of a gr.HTML component. The component's `js_on_load` passes {part, element, props, watch, trigger}.
   Components that are mounted before the page's modules have loaded wait in `window.labWaiting`. */

/** @type {Record<string, (given: Given) => void>} */
const parts = {};
/** @type {Record<string, Given[]>} */
const waiting = {};

/** Mount a component, now or when its part is registered. @param {Given} given */
export const mount = (given) => {
  const part = parts[given.part];
  if (part) part(given);
  else (waiting[given.part] ||= []).push(given);
};

/**
 * Register a part, and mount the components that wait for it.
 * @param {string} name
 * @param {(given: Given) => void} mounted
 */
export const part = (name, mounted) => {
  parts[name] = mounted;
  for (const given of waiting[name] || []) mounted(given);
  delete waiting[name];
};

/** @type {Record<string, ((message: any) => void)[]>} */
const listeners = {};
/** @type {Record<string, any>} */
const last = {};

/**
 * Call `callback` with every message of this name, and immediately with the last message, if any.
 * @param {string} name
 * @param {(message: any) => void} callback
 */
export const on = (name, callback) => {
  (listeners[name] ||= []).push(callback);
  if (name in last) callback(last[name]);
};

/**
 * Send a message to all callbacks of this name.
 * @param {string} name
 * @param {any} message
 */
export const say = (name, message) => {
  last[name] = message;
  for (const callback of listeners[name] || []) callback(message);
};
