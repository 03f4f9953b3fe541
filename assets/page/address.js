/** The parameters of the page's URL, and the open tab. */

/** The query as last set. Back and Forward change only the tab and the lesson; the other parameters stay. */
let query = location.search;

/** Return a parameter of the current URL, or null. @param {string} name */
export const parameter = (name) => new URLSearchParams(location.search).get(name);

/**
 * Set parameters of the URL without loading anything, so that a reload restores them.
 * @param {Record<string, string | null | undefined>} given an empty value removes the parameter
 * @param {{isStep?: boolean, state?: any}} [entry] whether to add a history entry, and the state of the entry
 */
export const setParameters = (given, { isStep = false, state = history.state } = {}) => {
  const address = new URL(location.href);
  address.search = query;
  for (const [name, value] of Object.entries(given)) {
    if (value) address.searchParams.set(name, value);
    else address.searchParams.delete(name);
  }
  query = address.search;
  history[isStep ? "pushState" : "replaceState"](state, "", address);
};

/**
 * Set one parameter of the URL, as `setParameters` does.
 * @param {string} name
 * @param {string | null | undefined} value
 */
export const setParameter = (name, value) => setParameters({ [name]: value });

/**
 * Open a tab by its English name, as a click does.
 * @param {string} name
 */
export const openTab = (name) => document.getElementById(`tab-${name.toLowerCase()}-button`)?.click();

/** Return the English name of the open tab, as in links; the id of its button has the form `tab-noise-button`. */
export const currentTab = () => {
  const open = document.querySelector("#lab-tabs > .tab-wrapper [role=tab][aria-selected=true]");
  const name = /^tab-(\w+)-button$/.exec(open?.id || "")?.[1];
  return name && name[0].toUpperCase() + name.slice(1);
};
