/** Plotly, ours, under our own name: fetched at once, run only when asked for, since running it takes a second of a small
   machine, and something can be seen before. */
import { make } from "./dom.js";
import { say } from "./parts.js";
import { text } from "./text.js";

const address = new URL("plotly.min.js", import.meta.url).href;
document.head.append(make("link", { rel: "preload", as: "script", href: address }));

/** Plotly once it is there; other scripts may put another one under its own name. */
export let Plotly = /** @type {any} */ (null);
/** @type {Promise<any> | null} */
let loading = null;

/** A promise that our Plotly is there. */
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
      loading = null; // whoever asks again tries again
      reject(new Error(text("The figure library could not be loaded.")));
    };
    document.head.append(script);
  });
  return loading;
};
