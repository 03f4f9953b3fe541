/** Projector mode: larger type and a slim header. It is part of the page's state; links contain it as `projector=1`. */
const root = document.documentElement;
const wide = matchMedia("(min-width: 1600px)");

export const isProjected = () => root.classList.contains("lab-projector");

/** Return the factor by which type is larger than usual. */
export const magnification = () => (!isProjected() ? 1 : wide.matches ? 1.5 : 1.25);

const magnify = () => root.style.setProperty("--lab-magnified", String(magnification()));
wide.addEventListener("change", magnify);

/** Switch projector mode on or off. @param {boolean} on */
export const project = (on) => {
  root.classList.toggle("lab-projector", on);
  magnify();
};
