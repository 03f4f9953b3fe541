/** The address of the page: its parameters, and the tab that is open. */

/** @param {string} name one parameter of the address as it stands */
export const parameter = (name) => new URLSearchParams(location.search).get(name);

/**
 * Put one parameter into the address, so that a reload finds the same; nothing is loaded.
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
 * Open the tab with that name, as a click would.
 * @param {string} name
 */
export const openTab = (name) => document.getElementById(`tab-${name.toLowerCase()}-button`)?.click();

/** The English name of the open tab, which links have; its button is called tab-noise-button. */
export const currentTab = () => {
  const open = document.querySelector("#lab-tabs > .tab-wrapper [role=tab][aria-selected=true]");
  const name = /^tab-(\w+)-button$/.exec(open?.id || "")?.[1];
  return name && name[0].toUpperCase() + name.slice(1);
};
