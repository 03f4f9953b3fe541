/** Loads Plotly when a figure is visible or a tab is about to be opened. */
import { make } from "./dom.js";
import { say } from "./parts.js";
import { text } from "./text.js";

const address = new URL("plotly.min.js", import.meta.url).href;
let library = /** @type {any} */ (null);

/** Return Plotly, or null until it has loaded. Another script may set the global `Plotly` to a different version. */
export const plotly = () => library;

/** @type {Promise<any> | null} */
let loading = null;

/** Load the bundled Plotly. */
export const loadPlotly = () => {
  loading ||= new Promise((resolve, reject) => {
    const script = make("script", { src: address });
    script.onload = () => {
      library = window.Plotly;
      resolve(library);
      say("plotly", true);
    };
    script.onerror = () => {
      script.remove();
      loading = null; // the next call retries
      reject(new Error(text("The figure library could not be loaded.")));
    };
    document.head.append(script);
  });
  return loading;
};
