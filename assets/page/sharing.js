/** Shared studies and classes: a link to a study shows it in place of the tabs; a link to a class opens the class. */
import { parameter, setParameter } from "./address.js";
import { store, stored } from "./dom.js";

const KEPT = "neftune-lab-class";
const UNKNOWN = "?"; // the server has not answered

document.documentElement.classList.toggle("lab-reading", Boolean(parameter("shared")));

/** The code of the class in the URL, or of the class that this browser's visitor has joined. */
export const code = () => parameter("class") || stored(KEPT) || "";

/**
 * Store the class that the visitor has joined, so that later visits open it too.
 * @param {string} joined its code; empty for none
 */
export const keep = (joined) => {
  if (joined === UNKNOWN) return;
  store(KEPT, joined);
  if (joined) setParameter("class", joined);
};
