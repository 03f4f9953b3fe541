/** The light or dark theme, as last chosen in this browser. */
import { store, stored } from "./dom.js";
import { say } from "./parts.js";

const KEPT = "neftune-lab-theme";

export const isDark = () => document.body.classList.contains("dark");

/** @param {string} theme */
export const setTheme = (theme) => {
  document.body.classList.toggle("dark", theme === "dark");
  store(KEPT, theme);
};
export const toggleTheme = () => setTheme(isDark() ? "light" : "dark");

const wanted = stored(KEPT);
if (wanted && !new URLSearchParams(location.search).has("__theme")) setTheme(wanted);
new MutationObserver(() => say("theme", isDark())).observe(document.body, { attributes: true, attributeFilter: ["class"] });
