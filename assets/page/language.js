/* The language of the page: English at its address, Chinese at /zh beside it. It stands in the head of the served page, so
   that it is there before anything is seen; `labWords` before it has what the scripts say in another language. */
(() => {
  "use strict";
  const KEPT = "neftune-lab-language";
  const words = window.labWords || {};
  const root = document.documentElement;
  const tag = root.lang;
  const code = tag.slice(0, 2);

  // The framework puts the language of the browser in its place as it begins.
  new MutationObserver(() => root.lang !== tag && (root.lang = tag)).observe(root, { attributeFilter: ["lang"] });

  const address = (wanted) => {
    const base = location.pathname.replace(/\/(zh\/?)?$/, "/");
    return base + (wanted === "zh" ? "zh" : "") + location.search + location.hash;
  };

  // Who reads Chinese, by an earlier choice or by the browser's own, is led there; a link to the Chinese page is always kept.
  const wishes = () => {
    try {
      return localStorage.getItem(KEPT) || navigator.language;
    } catch {
      return navigator.language;
    }
  };
  if (code === "en" && /^zh\b/i.test(wishes())) location.replace(address("zh"));

  window.LabLanguage = {
    code,

    /** The English text in the language of the page, with `values` in place of the names in braces. */
    text: (english, values) => {
      const found = words[english] ?? english;
      return values ? found.replace(/\{(\w+)\}/g, (name, bare) => values[bare] ?? name) : found;
    },

    /** The other language, with the address as it stands; the choice holds for this browser. */
    change: () => {
      const wanted = code === "zh" ? "en" : "zh";
      try {
        localStorage.setItem(KEPT, wanted);
      } catch {
        /* storage is forbidden in some embedded pages: the choice then holds for this page only */
      }
      location.assign(address(wanted));
    },
  };
})();
