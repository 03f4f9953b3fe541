/** The Loss view of the Noise tab. The server measures the losses. */
import { nothing, upright } from "./noise-views.js";
import { redraw, views } from "./noise.js";
import { part } from "./parts.js";
import { text } from "./text.js";
import { merged } from "./traces.js";

/** @type {(Figure & {kind: string, unit: string}) | null} */
let loss = null;
part("noise-loss", ({ props, watch }) => {
  const take = () => {
    loss = props.value?.data ? props.value : null;
    redraw();
  };
  watch("value", take);
  if (props.value?.data) take();
});

views.loss = (payload, controls) => {
  if (loss && !loss.data.length) return nothing(loss.summary);
  if (!loss) return nothing(text("Press “Measure the loss” above this figure: it then shows the loss of the untrained model at several strengths of this noise."));
  const same = loss.kind === controls.kind && loss.unit === controls.unit && controls.strength > 0;
  const shapes = same ? [upright(controls.strength)] : [];
  return { data: loss.data, layout: merged(loss.layout, { shapes }), narrow: loss.narrow, summary: loss.summary, name: loss.name };
};
