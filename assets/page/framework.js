// Gradio's page consists of about fifty scripts, most of them tiny. `window.labFramework` has the small ones by name
// (neftune_core/ui/server/framework.py). An import map leads to them, so that they are not requested one by one.
// This runs before any module is loaded; without it, the page loads as Gradio serves it.

(() => {
  const script = /** @type {HTMLScriptElement} */ (document.currentScript);
  const folder = new URL("../../assets/", script.src).href;
  /** @type {Record<string, string>} */
  const imports = { "framework/": folder };
  for (const [name, text] of Object.entries(window.labFramework)) {
    const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    imports[folder + name] = imports["framework/" + name] = address;
    // Gradio preloads what has no link in the page yet.
    const known = document.createElement("link");
    known.href = folder + name;
    document.head.append(known);
  }
  const map = document.createElement("script");
  Object.assign(map, { type: "importmap", nonce: script.nonce, textContent: JSON.stringify({ imports }) });
  script.after(map);
})();
