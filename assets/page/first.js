/** The first view: the recorded study, shown before the framework has loaded. This module is inlined into the page. */
import { parameter } from "./address.js";
import { stored, within } from "./dom.js";
import { project } from "./projector.js";
import { Stage } from "./stage.js";

const OTHERS = /^(noise\..*|view|text|tab|job|lesson|shared)$/;

const show = () => {
  const first = document.getElementById("lab-first");
  if (!first) return;
  project(parameter("projector") === "1");
  const theme = stored("neftune-lab-theme");
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const leads = [...new URLSearchParams(location.search).keys()].some((name) => OTHERS.test(name));
  if (leads) return first.remove();
  first.classList.toggle("dark", dark);
  first.hidden = false;
  const root = within(first, ".lab-stage");
  window.LabFirst = { root, stage: new Stage(root, JSON.parse(within(first, "script").textContent)) };
  setTimeout(() => first.remove(), 60_000); // the framework did not start in time: show the page as it is
};
show();
