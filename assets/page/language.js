/* The language of the page: English at its own URL, Chinese at /zh. This script is in the head of the served page, so that
   it runs before anything is visible. `labWords`, defined earlier, contains the translations of texts in scripts. */
(() => {
  "use strict";
  const STORAGE_KEY = "neftune-lab-language";
  const words = window.labWords || {};
  const root = document.documentElement;
  const tag = root.lang;
  const code = tag.slice(0, 2);
  const browserLanguage = navigator.language;

  // The framework chooses its own translations by the language of the browser.
  Object.defineProperty(navigator, "language", { configurable: true, get: () => tag });

  // The framework sets this to the language of the browser when it starts.
  new MutationObserver(() => root.lang !== tag && (root.lang = tag)).observe(root, { attributeFilter: ["lang"] });

  /** Return the URL of the page in a language. Behind a proxy, its path may lack the final slash. `named` adds the language as
      a parameter. @param {string} wanted */
  const address = (wanted, { named = false } = {}) => {
    const base = location.pathname.replace(code === "zh" ? /\/(zh\/?)?$/ : /\/$/, "") + "/";
    const query = new URLSearchParams(location.search);
    query.delete("lang");
    if (named) query.set("lang", wanted);
    const parameters = query.toString();
    return base + (wanted === "zh" ? "zh" : "") + (parameters ? "?" + parameters : "") + location.hash;
  };

  // Redirect visitors who prefer Chinese (by URL, earlier choice or browser language). Links to the Chinese page always work.
  const preferred = () => {
    const requested = new URLSearchParams(location.search).get("lang");
    if (requested) return requested;
    try {
      return localStorage.getItem(STORAGE_KEY) || browserLanguage;
    } catch {
      return browserLanguage;
    }
  };
  if (code === "en" && /^zh\b/i.test(preferred())) location.replace(address("zh"));

  // Texts that the framework provides only in English: labels for screen readers, and messages.
  /** @type {[RegExp, (found: string[]) => string][]} */
  const GRADIO_TEXTS = [
    [/^number input for (.*)$/s, ([, label]) => LabLanguage.text("{label}: number", { label })],
    [/^range slider for (.*)$/s, ([, label]) => LabLanguage.text("{label}: slider", { label })],
    [/^Reset to default value$/, () => LabLanguage.text("Reset to the initial value")],
    [/^More tabs$/, () => LabLanguage.text("More tabs")],
    [/^Gradio footer navigation$/, () => LabLanguage.text("Page footer links")],
    [/^Click to upload or drop files$/, () => LabLanguage.text("Press to choose a file, or drop one here")],
    [/^File upload$/, () => LabLanguage.text("Choose a file")],
    [/^Close$/, () => LabLanguage.text("Close")],
    [
      /^Invalid file types?: (.*)\. Only (.*) allowed\.$/s,
      ([, name, kinds]) => LabLanguage.text("This type of file is not accepted: {name}. Choose one of {kinds}.", { name, kinds }),
    ],
    [/^Connection to the server was lost/, () => LabLanguage.text("The connection to the server was lost. The page is trying to reconnect.")],
    [/^Queue is full/, () => LabLanguage.text("The server is busy: try again in a moment.")],
    [/Connection errored out|Could not parse server response|An unknown error occurred/, () => LabLanguage.text("The server did not answer: check the connection, and try again.")],
    [/application is currently busy/, () => LabLanguage.text("The server is busy: try again in a moment.")],
  ];

  window.LabLanguage = {
    code,
    tag,

    /** Translate an English text into the language of the page, and insert `values` for the names in braces. */
    text: (english, values) => {
      const found = words[english] ?? english;
      return values ? found.replace(/\{(\w+)\}/g, (name, bare) => String(values[bare] ?? name)) : found;
    },

    /** Translate an English text of the framework; return other texts unchanged. */
    fromFramework: (english) => {
      for (const [form, translate] of GRADIO_TEXTS) {
        const found = form.exec(english.trim());
        if (found) return translate(found);
      }
      return english;
    },

    /** Switch to the other language, keep the parameters of the URL, and store the choice in this browser. Like other
        settings, the language adds no history entry. */
    change: () => {
      const wanted = code === "zh" ? "en" : "zh";
      let named = false;
      try {
        localStorage.setItem(STORAGE_KEY, wanted);
      } catch {
        named = wanted === "en"; // some embedded pages forbid storage: keep the choice in the URL
      }
      location.replace(address(wanted, { named }));
    },
  };

  const translateLabels = () => {
    for (const node of document.querySelectorAll("input[aria-label], button[aria-label], footer[aria-label], nav[aria-label]")) {
      const translated = LabLanguage.fromFramework(node.ariaLabel || "");
      if (translated !== node.ariaLabel) node.ariaLabel = translated;
    }
  };
  let timer = 0;
  const soon = () => (timer ||= setTimeout(() => ((timer = 0), translateLabels()), 200));
  if (code !== "en") new MutationObserver(soon).observe(root, { childList: true, characterData: true, subtree: true });
})();
