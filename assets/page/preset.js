/** Shows how many settings differ from the preset on the Train tab. */
import { within } from "./dom.js";
import { on, part } from "./parts.js";
import { changedSettings } from "./state.js";
import { agreeing } from "./text.js";

part("preset-changed", ({ element }) => {
  const words = within(element, "p");
  on("state", (state) => {
    const count = changedSettings(state);
    const said = agreeing(count, "Changed: 1 setting differs from this preset.", "Changed: {count} settings differ from this preset.");
    if (words.textContent !== said) words.textContent = said;
    words.hidden = count === 0;
  });
});
