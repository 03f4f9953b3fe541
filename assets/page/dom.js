/** Helpers for DOM nodes, files and browser storage. */

/**
 * Create an SVG element.
 * @param {string} name
 * @param {Record<string, string | number>} attributes
 * @param {string} [text]
 */
export const svg = (name, attributes, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  if (text !== undefined) node.textContent = text;
  return node;
};

/**
 * Create an HTML element with properties and children.
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {Partial<HTMLElementTagNameMap[Name]>} attributes
 * @param {(Node | string)[]} children
 */
export const make = (name, attributes, ...children) => {
  const node = document.createElement(name);
  Object.assign(node, attributes);
  node.append(...children);
  return node;
};

/**
 * Return a descendant that is known to exist.
 * @param {ParentNode} root
 * @param {string} selector
 * @returns {any}
 */
export const within = (root, selector) => root.querySelector(selector);

/** @type {Map<number, { promise: Promise<string>, end: () => void, timer: number }>} */
const settling = new Map();

/**
 * Wait until 150 ms have passed without another call for the same id.
 * @param {number} id
 * @returns {Promise<string>} the time at the end of the wait, identical for all calls that waited together
 */
export const settled = (id) => {
  let found = settling.get(id);
  if (!found) {
    let end = () => {};
    /** @type {Promise<string>} */
    const promise = new Promise((resolve) => {
      end = () => {
        settling.delete(id);
        resolve(String(performance.now()));
      };
    });
    settling.set(id, (found = { promise, end, timer: 0 }));
  }
  clearTimeout(found.timer);
  found.timer = window.setTimeout(found.end, 150);
  return found.promise;
};

/**
 * Return a text stored in this browser; null if it is absent or storage is forbidden.
 * @param {string} name
 */
export const stored = (name) => {
  try {
    return localStorage.getItem(name);
  } catch {
    return null; // storage is forbidden in some embedded pages
  }
};

/**
 * Store a text in this browser. Return false on failure, since some embedded pages forbid storage.
 * @param {string} name
 * @param {string} value
 */
export const store = (name, value) => {
  try {
    localStorage.setItem(name, value);
    return true;
  } catch {
    return false;
  }
};

/**
 * Save a blob as a file.
 * @param {Blob} blob
 * @param {string} name
 */
export const save = (blob, name) => {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};

/**
 * Save a text as a file; do nothing if the text is empty.
 * @param {string | undefined} name
 * @param {string | undefined} text
 */
export const saveText = (name, text) => {
  if (text) save(new Blob([text], { type: "text/plain;charset=utf-8" }), name || "text.txt");
};

/**
 * Copy a text to the clipboard. Return whether it succeeded.
 * @param {string} text
 */
export const copy = async (text) => {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    /* unavailable or forbidden: use the older method below */
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.style.cssText = "position:fixed;opacity:0";
  document.body.appendChild(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
};

/**
 * Give a node the content of another one. Unchanged nodes are kept, and only the new end is appended to a text that grew, so
 * that a selection is kept. Expanded sections stay expanded.
 * @param {Node} old
 * @param {Node} wanted
 */
export const grow = (old, wanted) => {
  const mine = [...old.childNodes];
  const theirs = [...wanted.childNodes]; // a copy, because appending moves nodes
  theirs.forEach((node, place) => {
    const own = mine[place];
    if (!own) old.appendChild(node);
    else if (own instanceof Text && node instanceof Text) lengthen(own, node.data);
    else if (own instanceof Element && node instanceof Element && own.nodeName === node.nodeName) {
      for (const name of new Set([...own.getAttributeNames(), ...node.getAttributeNames()])) {
        const value = node.getAttribute(name);
        if (name === "open" || own.getAttribute(name) === value) continue;
        if (value === null) own.removeAttribute(name);
        else own.setAttribute(name, value);
      }
      grow(own, node);
    } else own.replaceWith(node);
  });
  for (const surplus of mine.slice(theirs.length)) surplus.remove();
};

/** @param {Text} node @param {string} words */
const lengthen = (node, words) => {
  if (words.startsWith(node.data)) node.appendData(words.slice(node.data.length));
  else node.data = words;
};

/**
 * Escape a text for use in HTML.
 * @param {string} words
 */
export const escaped = (words) => make("p", { textContent: words }).innerHTML;

/** Return whether the user prefers reduced motion. */
export const wantsStillness = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
