/** The bundled Plotly under a private name: fetched at once but run on demand, since running it takes a second of a small
   machine, and something can be seen before. */
import { make } from "./dom.js";
import { say } from "./parts.js";
import { text } from "./text.js";

const address = new URL("plotly.min.js", import.meta.url).href;
document.head.append(make("link", { rel: "preload", as: "script", href: address }));

/** Plotly once loaded; other scripts may define another global `Plotly`. */
export let Plotly = /** @type {any} */ (null);
/** @type {Promise<any> | null} */
let loading = null;

/** Load the bundled Plotly. */
export const loadPlotly = () => {
  loading ||= new Promise((resolve, reject) => {
    const script = make("script", { src: address });
    script.onload = () => {
      Plotly = window.Plotly;
      resolve(Plotly);
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
