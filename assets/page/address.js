/** The URL of the page: its parameters, and the open tab. */

/** @param {string} name one parameter of the current URL */
export const parameter = (name) => new URLSearchParams(location.search).get(name);

/**
 * Set one parameter of the URL without loading anything, so that a reload restores it.
 * @param {string} name
 * @param {string | null | undefined} value
 */
export const setParameter = (name, value) => {
  const address = new URL(location.href);
  if (value) address.searchParams.set(name, value);
  else address.searchParams.delete(name);
  history.replaceState(null, "", address);
};

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
