// Gradio's page loads about fifty scripts, most of them tiny. `window.labFramework` contains the small ones by name
// (neftune_core/ui/server/framework.py). An import map points to these copies, so that they are not requested one by one.
// This script runs before any module is loaded. If the browser refuses such modules, the page reloads without the import map.

(() => {
  // Gradio makes its configuration reactive (Svelte's $state), so that every read goes through a proxy. While the page opens, it
  // looks through all events for each component: several million reads, a fifth of the time. Nothing changes the events, and
  // Svelte leaves arrays of another class as they are; so do the copies that `filter` makes of such an array.
  class Unchanging extends Array {}
  /** @type {any} */
  let config;
  Object.defineProperty(window, "gradio_config", {
    configurable: true,
    get: () => config,
    set: (found) => {
      Object.setPrototypeOf(found.dependencies, Unchanging.prototype);
      config = found;
    },
  });

  const ONE_BY_ONE = "scripts-one-by-one";
  const script = /** @type {HTMLScriptElement} */ (document.currentScript);
  const folder = new URL("../../assets/", script.src).href;
  const here = new URL(location.href);
  if (here.searchParams.has(ONE_BY_ONE)) return;
  addEventListener("securitypolicyviolation", ({ blockedURI, effectiveDirective }) => {
    if (!blockedURI.startsWith("blob") || !effectiveDirective.startsWith("script-src")) return;
    here.searchParams.set(ONE_BY_ONE, "1");
    location.replace(here);
  });

  // Gradio's preloading reads the nonce of the page from this element.
  const nonce = document.createElement("meta");
  nonce.setAttribute("property", "csp-nonce");
  nonce.nonce = script.nonce;
  /** @type {Record<string, string>} */
  const imports = { "framework/": folder };
  for (const [name, text] of Object.entries(window.labFramework)) {
    const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    imports[folder + name] = imports["framework/" + name] = address;
    // Gradio does not preload scripts that have a link in the page.
    const known = document.createElement("link");
    known.href = folder + name;
    document.head.append(known);
  }
  const map = document.createElement("script");
  Object.assign(map, { type: "importmap", nonce: script.nonce, textContent: JSON.stringify({ imports }) });
  script.after(nonce, map);
})();
