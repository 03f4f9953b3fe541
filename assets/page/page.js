/** Imports the modules of the page, and defines the global `Lab` for the server's handlers, the components and the tests.

   Words that the modules use: the *framework* is Gradio; a *part* is the script of a gr.HTML component (parts.js); the *strip*
   is the bar above the tabs, which describes the next study (strip.js); the *stage* plays the recorded study (stage.js); the
   *state* is all values that a visitor can set (state.js); and a *view* draws one figure of the Noise tab (noise-views.js). */
import { currentTab, openTab, parameter, setParameter } from "./address.js";
import { arrived, expect } from "./awaited.js";
import "./back.js";
import "./calls.js";
import "./choices.js";
import "./compare-rows.js";
import { changed, ranged, read } from "./controls.js";
import { saveText, settled } from "./dom.js";
import "./escape.js";
import { facts, sawSweep } from "./facts.js";
import { openLesson, showDock } from "./learn.js";
import "./link-code.js";
import "./messages.js";
import * as noise from "./noise.js";
import "./noise-density.js";
import "./noise-depth.js";
import "./noise-loss.js";
import "./noise-next.js";
import { moreStrengths, strengthsInUnit } from "./noise-strip.js";
import "./noise-words.js";
import "./notices.js";
import { ownerKey } from "./owner.js";
import { mount } from "./parts.js";
import { figureTag } from "./plot.js";
import { plotly } from "./plotly.js";
import "./preset.js";
import "./pressed.js";
import * as sharing from "./sharing.js";
import "./small-parts.js";
import * as state from "./state.js";
import { askStop, seedIs } from "./strip.js";
import { sweepInUnit } from "./sweep-units.js";
import "./tabs.js";
import { setTheme } from "./theme.js";
import "./watch.js";

window.Lab = {
  arrived,
  askStop,
  changed,
  changeKind: noise.changeKind,
  changeUnit: noise.changeUnit,
  currentTab,
  expect,
  facts,
  figureTag,
  fromAlpha: noise.fromAlpha,
  link: state.link,
  moreStrengths,
  noise,
  openLesson,
  openTab,
  ownerKey,
  parameter,
  ranged,
  read,
  saveText,
  sawSweep,
  seedIs,
  setParameter,
  setTheme,
  settled,
  sharing,
  showDock,
  state,
  strengthsInUnit,
  sweepInUnit,
  get Plotly() {
    return plotly();
  },
};

for (const given of Array.isArray(window.labWaiting) ? window.labWaiting : []) mount(given);
window.labWaiting = { push: mount };
