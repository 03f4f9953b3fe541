/** The URL of the page: its parameters, and the open tab. */

/** The query as last set. Back and Forward change only the tab and the lesson, so the other parameters stay. */
let query = location.search;

/** @param {string} name one parameter of the current URL */
export const parameter = (name) => new URLSearchParams(location.search).get(name);

/**
 * Set parameters of the URL without loading anything, so that a reload restores them.
 * @param {Record<string, string | null | undefined>} given
 * @param {{isStep?: boolean, state?: any}} [entry] whether Back returns to the URL before, and the state of the history entry
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
 * Open a tab by name, like a click.
 * @param {string} name
 */
export const openTab = (name) => document.getElementById(`tab-${name.toLowerCase()}-button`)?.click();

/** The English name of the open tab, as used in links; the id of its button is like `tab-noise-button`. */
export const currentTab = () => {
  const open = document.querySelector("#lab-tabs > .tab-wrapper [role=tab][aria-selected=true]");
  const name = /^tab-(\w+)-button$/.exec(open?.id || "")?.[1];
  return name && name[0].toUpperCase() + name.slice(1);
};
