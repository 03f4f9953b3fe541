/** DOM nodes, files and browser storage. */

/**
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
 * An element that exists as long as the page does.
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
 * @returns {Promise<string>} the time at that moment, the same for all calls that waited together
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
 * A stored text; null if it is absent or storage is forbidden.
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
 * Store a text in this browser. Returns false if it failed: some embedded pages forbid storage.
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
 * Save a text as a file; does nothing if name or text is missing.
 * @param {string | undefined} name
 * @param {string | undefined} text
 */
export const saveText = (name, text) => {
  if (text) save(new Blob([text], { type: "text/plain;charset=utf-8" }), name || "text.txt");
};

/**
 * Copy a text to the clipboard. Returns whether it succeeded.
 * @param {string} text
 */
export const copy = async (text) => {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    /* unavailable or forbidden: use the older way below */
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
 * Give a node the content of another one. Unchanged nodes are kept, and a text that became longer only gets its new end, so
 * that a selection is kept; an opened fold stays open.
 * @param {Node} old
 * @param {Node} wanted
 */
export const grow = (old, wanted) => {
  const mine = [...old.childNodes];
  const theirs = [...wanted.childNodes]; // appending moves them
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
 * A text as HTML.
 * @param {string} words
 */
export const escaped = (words) => make("p", { textContent: words }).innerHTML;

/** Whether the user prefers reduced motion. */
export const wantsStillness = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
