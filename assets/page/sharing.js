/** Shared studies and classes. A link to a study shows the study instead of the tabs; a link to a class opens the class. */
import { parameter, setParameter } from "./address.js";
import { store, stored } from "./dom.js";

const KEPT = "neftune-lab-class";
const UNKNOWN = "?"; // the server has not answered

document.documentElement.classList.toggle("lab-reading", Boolean(parameter("shared")));

/** Return the code of the class in the URL, or of the class joined in this browser. */
export const code = () => parameter("class") || stored(KEPT) || "";

/**
 * Store the joined class, so that later visits open it too.
 * @param {string} joined code of the class; empty for none
 */
export const keep = (joined) => {
  if (joined === UNKNOWN) return;
  store(KEPT, joined);
  if (joined) setParameter("class", joined);
};
