/* Beside the figure of the Noise tab: the sentence as tokens, what the strength means in words, and the ruler of units. */
(() => {
  "use strict";
  const { UNITS, short, percent, degrees, ticks } = Lab.noise;

  // ------------------------------------------------------------------ the sentence as tokens
  const visible = (token) => token.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "·") || "␣";

  Lab.part("noise-chips", ({ element }) => {
    const list = element.querySelector("ol");
    let tokens = null;
    Lab.on("figure:noise", ({ payload, result }) => {
      if (tokens !== payload.tokens) {
        tokens = payload.tokens;
        list.replaceChildren(
          ...tokens.map((token) => Object.assign(document.createElement("li"), { textContent: visible(token) })),
        );
      }
      result.shares.forEach((share, index) => {
        const chip = list.children[index];
        const turned = result.cosines[index] === null 
          ? Lab.text("set to zero")
          : Lab.text("turned by {angle}°", { angle: short(degrees(result.cosines[index])) });
        chip.style.setProperty("--noise", Math.min(1, share / (1 + share)).toFixed(3));
        chip.classList.toggle("gone", result.drops && share > 0);
        const norms = { before: short(result.before[index]), after: short(result.after[index]) };
        chip.title = Lab.text("norm {before} → {after}, {turned}", { ...norms, turned });
      });
    });
  });

  // ------------------------------------------------------------------ what the strength means, in words
  const LOUD = 0.4;
  const REALISED = 0.9;

  const verdict = ({ drops, share }, result) => {
    if (drops) {
      const gone = result.shares.filter((value) => value > 0).length;
      return gone
        ? Lab.text("{gone} of {count} tokens are dropped in this draw.", { gone, count: result.shares.length })
        : Lab.text("No token is dropped in this draw.");
    }
    if (share === 0) return result.deviation ? Lab.text("None of these tokens gets noise.") : Lab.text("No noise: this is the control.");
    if (share < 0.02) return Lab.text("Barely there: the model can hardly tell.");
    if (share < 0.2) return Lab.text("A light blur: every token still points where it did.");
    if (share < 0.7) return Lab.text("Strong: each token keeps its direction, roughly.");
    if (share < 1.5) return Lab.text("As loud as the words themselves.");
    return Lab.text("Louder than the words: little of the sentence is left.");
  };

  /** What bfloat16 leaves of the noise: read between the strengths at which it was measured. */
  const realised = ({ realised: known }, deviation) => {
    if (!known.length || !(deviation > 0)) return 1;
    const above = known.findIndex(([at]) => at >= deviation);
    if (above < 0) return 1;
    if (above === 0) return known[0][1];
    const [[low, least], [high, most]] = [known[above - 1], known[above]];
    return least + ((most - least) * Math.log(deviation / low)) / Math.log(high / low);
  };

  const warnings = (payload, told, { deviation }, clipped) => {
    const found = [];
    if (clipped) {
      const { strength: most, unit, wanted, before } = clipped;
      const same = { before: `${before.unit} ${short(before.strength)}`, wanted: short(wanted) };
      found.push(Lab.text("The slider of {unit} ends at {most}: {before} would be {wanted} on this sentence.", { unit, most, ...same }));
    }
    if (told.equivalents.relative > LOUD)
      found.push(Lab.text("Loud: the noise is {share} as large as the words; the lab warns above {most}.", { share: percent(told.equivalents.relative), most: percent(LOUD) }));
    const kept = realised(payload, deviation);
    if (kept < REALISED) found.push(Lab.text("In bfloat16 only {share} of this noise survives the rounding.", { share: percent(Math.max(0, kept)) }));
    return found.join(" ");
  };

  const notes = (payload, { kind, tokens }) => {
    const found = [payload.kind_notes[kind]];
    if (tokens === "prompt")
      found.push(Lab.text("During training only the prompt gets noise; here your sentence is treated as a whole sequence."));
    if (tokens === "response")
      found.push(Lab.text("During training only the response gets noise; here your sentence is treated as a whole sequence."));
    if (payload.place) found.push(Lab.text("Shown at {place}, the first site with noise.", { place: payload.place }));
    if (payload.behind?.length) {
      const layers = { layers: payload.behind.join(", ") };
      found.push(Lab.text("Not shown: layer {layers}. Its input already depends on this noise and has no closed form.", layers));
    }
    return found.filter(Boolean).join(" ");
  };

  Lab.part("noise-words", ({ element }) => {
    const put = (name, text) => {
      const place = element.querySelector(`[data-word=${name}]`);
      if (place.textContent !== text) place.textContent = text;
    };
    Lab.on("figure:noise", ({ payload, controls, told, result, clipped }) => {
      put("verdict", verdict(told, result));
      put("warning", warnings(payload, told, result, clipped));
      put("kind", notes(payload, controls));
      put("angle", told.drops ? "–" : short(told.angle) + "°");
      put("snr", told.drops ? "–" : told.share ? `${told.decibels.toFixed(1)} dB`.replace("-", "−") : "∞");
    });
  });

  // ------------------------------------------------------------------ the ruler: one strength in every unit
  const RULER = { width: 330, left: 4, right: 326, row: 50 };
  const MARKS = {
    alpha: { marks: [5, 10, 15], words: Lab.text("the paper's strengths") },
    std: { marks: [0.01, 0.05, 0.1, 0.2], words: Lab.text("constants in use") },
    relative: { marks: [0.1, LOUD, 1], words: Lab.text("of the signal") },
  };
  const svg = (name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };

  class Ruler {
    constructor(root) {
      this.root = root;
      this.key = "";
    }

    /** The scales stand still while the strength moves over them; they are drawn anew for another sentence or rule. */
    show(payload, controls, told) {
      const scales = Object.keys(UNITS).map((unit) => [unit, UNITS[unit](payload, controls)]);
      const key = JSON.stringify(scales);
      if (key !== this.key) this.scales(Object.fromEntries(scales));
      this.key = key;
      const { std } = told.equivalents;
      const x = std > 0 ? this.place(std) : null;
      this.line.setAttribute("visibility", x === null ? "hidden" : "visible");
      if (x !== null) this.line.setAttribute("d", [0, 1, 2].map((row) => `M${x.toFixed(1)},${row * RULER.row + 18}v16`).join(""));
      const said = told.drops ? Lab.text("no standard deviation") : "";
      for (const [unit, node] of Object.entries(this.values))
        node.textContent = said ? "–" : short(told.equivalents[unit]);
      this.root.setAttribute(
        "aria-label",
        said || Object.entries(told.equivalents).map(([unit, value]) => `${unit} ${short(value)}`).join(", "),
      );
    }

    place(std) {
      const [low, high] = this.span;
      const share = Math.log(std / low) / Math.log(high / low);
      return RULER.left + Math.min(1, Math.max(0, share)) * (RULER.right - RULER.left);
    }

    scales(scale) {
      this.span = [Math.min(scale.alpha, 0.005), Math.max(100 * scale.alpha, 0.5, 1.2 * scale.relative)];
      this.values = {};
      this.root.replaceChildren();
      this.root.setAttribute("viewBox", `0 0 ${RULER.width} ${3 * RULER.row}`);
      Object.keys(UNITS).forEach((unit, index) => this.scale(unit, scale[unit], index * RULER.row));
      this.line = svg("path", { class: "lab-ruler-now" });
      this.root.append(this.line);
    }

    scale(unit, scale, top) {
      const { marks, words: about } = MARKS[unit];
      const axis = top + 26;
      const name = svg("text", { x: 0, y: top + 13, class: "lab-ruler-name" }, unit);
      name.append(svg("tspan", { class: "lab-ruler-about", dx: 6 }, about));
      const value = svg("text", { x: RULER.width, y: top + 13, class: "lab-ruler-value" });
      this.values[unit] = value;
      this.root.append(name, value, svg("path", { class: "lab-ruler-axis", d: `M${RULER.left},${axis}H${RULER.right}` }));
      const [low, high] = this.span.map((std) => std / scale);
      for (const tick of ticks(low, high)) this.tick(this.place(tick * scale), axis, 4);
      for (const mark of marks.filter((each) => each >= low && each <= high)) {
        const x = this.place(mark * scale);
        this.tick(x, axis, 8, "lab-ruler-mark");
        this.root.append(svg("text", { x, y: axis + 19, class: "lab-ruler-label" }, short(mark)));
      }
    }

    tick(x, axis, length, name = "lab-ruler-axis") {
      this.root.append(svg("path", { class: name, d: `M${x.toFixed(1)},${axis}v${length}` }));
    }
  }

  // ------------------------------------------------------------------ settings one click away
  /** A button that shows and hides the column of further settings; hidden ones can still be read. */
  Lab.part("noise-more-button", ({ element }) => {
    const button = element.querySelector("button");
    button.addEventListener("click", () => {
      const open = document.getElementById("noise-more").classList.toggle("open");
      button.setAttribute("aria-expanded", String(open));
    });
  });

  Lab.part("noise-ruler", ({ element }) => {
    const ruler = new Ruler(element.querySelector("svg"));
    const about = element.querySelector("[data-word=about]");
    Lab.on("figure:noise", ({ payload, controls, told }) => {
      ruler.show(payload, controls, told);
      const { length, width } = payload;
      const model = payload.model ? Lab.modelName(payload.model) : Lab.text("this model");
      about.textContent = Lab.text("{count} tokens of width {width} ({model})", { count: length, width, model });
    });
  });
})();
