/* The Noise tab: everything the strength slider moves is computed here, from the numbers of neftune_core/noise/preview.py.

   With u the unit draw and s the standard deviation: |e + s u|^2 = |e|^2 + 2 s (e . u) + s^2 |u|^2, and
   cos(e, e + s u) = (|e|^2 + s e . u) / (|e| |e + s u|). */
(() => {
  "use strict";

  /** The standard deviation at strength 1 of every unit, as in neftune_core/noise/strength.py. */
  const UNITS = {
    alpha: ({ length, width }) => 1 / Math.sqrt(3 * length * width),
    std: () => 1,
  };

  const median = (values) => {
    const sorted = [...values].sort((one, other) => one - other);
    const middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  };
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  const short = (value) => {
    if (value === 0) return "0";
    if (Math.abs(value) < 0.001) return value.toExponential(1).replace("e-", " × 10⁻").replace(/\d+$/, superscript);
    return String(Number(value.toPrecision(3)));
  };
  const superscript = (digits) => [...digits].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("");

  /** 1, 2 or 5 times a power of ten, at least `value`: the axis grows in steps, so that bars are seen to grow. */
  const ceiling = (value) => {
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 1.5, 2, 3, 5, 7.5, 10].find((factor) => factor * power >= value) * power;
  };

  const measured = (payload, { strength, unit, kind }) => {
    const deviation = strength * UNITS[unit](payload);
    const { dot, square } = payload.kinds[kind];
    const before = payload.signal.map(Math.sqrt);
    const after = [];
    const angles = [];
    const shares = [];
    for (let index = 0; index < payload.length; index += 1) {
      const signal = payload.signal[index];
      const norm = Math.sqrt(Math.max(0, signal + 2 * deviation * dot[index] + deviation * deviation * square[index]));
      const cosine = (signal + deviation * dot[index]) / (before[index] * norm);
      after.push(norm);
      angles.push(norm && before[index] ? (Math.acos(Math.min(1, Math.max(-1, cosine))) * 180) / Math.PI : 0);
      shares.push((deviation * Math.sqrt(square[index])) / (before[index] || 1));
    }
    return { deviation, before, after, angles, shares };
  };

  /** 20 log10 of the clean vector's norm over the noise's, the usual signal-to-noise ratio. */
  const decibels = (share) => -20 * Math.log10(share);

  const words = (payload, controls, { deviation, angles, shares }) => {
    const equivalents = {};
    for (const unit in UNITS) equivalents[unit] = deviation / UNITS[unit](payload);
    return {
      equivalents,
      relative: deviation / payload.root_mean_square,
      angle: median(angles),
      share: median(shares),
      decibels: decibels(median(shares)),
    };
  };

  // A strength belongs to its unit. When the unit changes, the strength that was last read stands for the same noise
  // until the slider shows it in the new unit.
  let settled = null;
  const inUnit = (payload, { strength, unit }, wanted) =>
    (strength * UNITS[unit](payload)) / UNITS[wanted](payload);

  const read = (payload, controls) => {
    if (settled && settled.unit !== controls.unit)
      return { ...controls, strength: inUnit(payload, settled, controls.unit) };
    settled = { strength: controls.strength, unit: controls.unit };
    return controls;
  };

  let sentence = null;
  /** What the slider becomes in another unit: the same noise on this sentence, and that unit's range. */
  Lab.changeUnit = (strength, unit, sliders) => {
    const slider = sliders[unit];
    let value = strength;
    if (settled && sentence) {
      const exact = inUnit(sentence, settled, unit);
      value = Math.min(slider.maximum, Number((Math.round(exact / slider.step) * slider.step).toPrecision(6)));
    }
    settled = { strength: value, unit };
    Lab.changed("noise-strength");
    return { __type__: "update", ...slider, value };
  };

  Lab.sources.tokenNorms = (payload, moved) => {
    sentence = payload;
    const controls = read(payload, moved);
    const result = measured(payload, controls);
    const told = words(payload, controls, result);
    const [grey, warm] = payload.colours;
    const positions = payload.signal.map((_, index) => index);
    const bars = (name, y, colour, width) => ({
      type: "bar",
      uid: name,
      name,
      x: positions,
      y,
      text: payload.tokens,
      textposition: "none",
      width,
      marker: { color: colour, line: { width: 0 } },
      hovertemplate: name + ": %{y:.3g}<extra></extra>",
    });
    const highest = Math.max(...result.before, ...result.after);
    return {
      data: [bars("before noise", result.before, grey, 0.8), bars("after noise", result.after, warm, 0.44)],
      layout: { yaxis: { range: [0, ceiling(1.05 * highest)] } },
      summary:
        `${payload.length} tokens, vectors of width ${payload.width}. Mean norm ${short(mean(result.before))} before noise, ` +
        `${short(mean(result.after))} after; the median token turns by ${short(told.angle)}°.`,
      payload,
      controls,
      result,
      told,
    };
  };

  // ------------------------------------------------------------------ the noise in the strip: every strength of the study
  const numbers = (text) => String(text || "").split(/[,;\s]+/).map(Number).filter((value) => value > 0);
  let shown = null;
  let more = [];
  const sayNoise = () => {
    if (!shown) return;
    const { payload, controls } = shown;
    const strengths = [controls.strength, ...more].filter((value) => value > 0);
    const listed = [...new Set(strengths)].sort((one, other) => one - other).map(short);
    const words = listed.length > 1 ? listed.slice(0, -1).join(", ") + " and " + listed.at(-1) : listed[0];
    const noise = words ? `${controls.kind} noise, ${controls.unit} ${words}` : "no noise";
    Lab.say("strip", payload.model ? { noise, model: payload.model } : { noise });
  };
  Lab.on("figure:token-norms", (made) => {
    shown = made;
    sayNoise();
  });
  /** Further strengths, as the text on the Train tab has them. */
  Lab.moreStrengths = (text) => {
    more = numbers(text);
    sayNoise();
  };

  let listUnit = "alpha";
  /** The text of further strengths, in another unit: about the same noise on this sentence. */
  Lab.strengthsInUnit = async (text, unit) => {
    while (!sentence) await new Promise((go) => setTimeout(go, 50));
    const factor = UNITS[listUnit](sentence) / UNITS[unit](sentence);
    const same = listUnit === unit;
    listUnit = unit;
    return same ? text : numbers(text).map((value) => Number((value * factor).toPrecision(2))).join(", ");
  };

  // ------------------------------------------------------------------ the sentence as tokens
  const visible = (token) => token.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "·") || "␣";

  Lab.part("noise-chips", ({ element }) => {
    const list = element.querySelector("ol");
    let shown = null;
    Lab.on("figure:token-norms", ({ payload, result }) => {
      if (shown !== payload.tokens) {
        shown = payload.tokens;
        list.replaceChildren(
          ...payload.tokens.map((token) => Object.assign(document.createElement("li"), { textContent: visible(token) })),
        );
      }
      result.shares.forEach((share, index) => {
        const chip = list.children[index];
        chip.style.setProperty("--noise", Math.min(1, share / (1 + share)).toFixed(3));
        chip.title = `norm ${short(result.before[index])} → ${short(result.after[index])}, turned by ${short(result.angles[index])}°`;
      });
    });
  });

  // ------------------------------------------------------------------ the strength in other units, and what it means
  const put = (element, name, text) => {
    const place = element.querySelector(`[data-word=${name}]`);
    if (place && place.textContent !== text) place.textContent = text;
  };

  const verdict = (share) => {
    if (share === 0) return "No noise: this is the control.";
    if (share < 0.02) return "Barely there: the model can hardly tell.";
    if (share < 0.2) return "A light blur: every token still points where it did.";
    if (share < 0.7) return "Strong: each token keeps its direction, roughly.";
    if (share < 1.5) return "As loud as the words themselves.";
    return "Louder than the words: little of the sentence is left.";
  };

  Lab.part("noise-words", ({ element }) => {
    Lab.on("figure:token-norms", ({ payload, told }) => {
      put(element, "alpha", short(told.equivalents.alpha));
      put(element, "std", short(told.equivalents.std));
      put(element, "relative", short(100 * told.relative) + " %");
      put(element, "angle", short(told.angle) + "°");
      put(element, "snr", told.share ? `${told.decibels.toFixed(1)} dB`.replace("-", "−") : "∞");
      put(element, "length", String(payload.length));
      put(element, "width", String(payload.width));
      put(element, "model", payload.model || "this model");
      put(element, "verdict", verdict(told.share));
    });
  });
})();
