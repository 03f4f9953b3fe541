/* The Noise tab: everything the strength slider moves is computed here, from the numbers of neftune_core/noise/preview.py.

   With u the unit draw and s the standard deviation: |e + s u|^2 = |e|^2 + 2 s (e . u) + s^2 |u|^2, and
   cos(e, e + s u) = (|e|^2 + s e . u) / (|e| |e + s u|). The words and the ruler beside the figure are in noise-words.js,
   the views besides the norms in noise-views.js. */
(() => {
  "use strict";
  const here = document.currentScript.src;
  const SHARE = "share";
  const DROPPING = "token-dropout";

  /** The standard deviation at strength 1 of every unit, as in neftune_core/noise/strength.py. */
  const UNITS = {
    alpha: ({ length, width, padded_length: padded }, { length_rule: rule }) =>
      1 / Math.sqrt(3 * (rule === "padded" ? Math.max(length, padded) : length) * width),
    std: () => 1,
    relative: ({ root_mean_square: signal }) => signal,
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
  const percent = (share) => short(100 * share) + " %";

  /** 1, 1.5, 2, ... times a power of ten, at least `value`: the axis grows in steps, so that bars are seen to grow. */
  const ceiling = (value) => {
    if (!(value > 0)) return 1;
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 1.5, 2, 3, 5, 7.5, 10].find((factor) => factor * power >= value) * power;
  };

  /** 1, 2 and 5 times every power of ten between two values. */
  const ticks = (low, high) => {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1)
      for (const factor of [1, 2, 5]) found.push(factor * 10 ** power);
    return found.filter((value) => value >= low && value <= high);
  };

  // ------------------------------------------------------------------ what the noise does to every token
  /** Norm and cosine of e + s u, from |e|^2, e . u and |u|^2; the cosine is null where a vector is zero. */
  const moved = (signal, dot, square, s) => {
    const norm = Math.sqrt(Math.max(0, signal + 2 * s * dot + s * s * square));
    return { norm, cosine: signal && norm ? (signal + s * dot) / (Math.sqrt(signal) * norm) : null };
  };

  const measured = (payload, controls) => {
    const drops = controls.kind === DROPPING;
    const deviation = drops ? 0 : controls.strength * UNITS[controls.unit](payload, controls);
    const draw = payload.draws[payload.kinds[controls.kind]];
    const skipped = controls.special_tokens ? new Set() : new Set(payload.special);
    const result = { drops, deviation, skipped, before: [], after: [], cosines: [], shares: [] };
    for (let place = 0; place < payload.length; place += 1) {
      const signal = payload.signal[place];
      const before = Math.sqrt(signal);
      let now = { norm: before, cosine: before ? 1 : null };
      let added = 0;
      if (!skipped.has(place) && drops && payload.dropped_below[place] < controls.strength) {
        now = { norm: 0, cosine: null };
        added = before;
      } else if (!skipped.has(place) && !drops) {
        now = moved(signal, draw.dot[place], draw.square[place], deviation);
        added = deviation * Math.sqrt(draw.square[place]);
      }
      result.before.push(before);
      result.after.push(now.norm);
      result.cosines.push(now.cosine);
      result.shares.push(before ? added / before : 0);
    }
    return result;
  };

  const degrees = (cosine) => (cosine === null ? 90 : (Math.acos(Math.min(1, Math.max(-1, cosine))) * 180) / Math.PI);
  /** 20 log10 of the clean vector's norm over the noise's, the usual signal-to-noise ratio. */
  const decibels = (share) => -20 * Math.log10(share);

  const words = (payload, controls, { drops, deviation, cosines, shares }) => {
    const equivalents = {};
    for (const unit in UNITS) equivalents[unit] = deviation / UNITS[unit](payload, controls);
    const share = median(shares);
    return { equivalents, angle: median(cosines.map(degrees)), share, decibels: decibels(share), drops };
  };

  // ------------------------------------------------------------------ repeated draws, and what else comes later
  let details = null;
  const detailsOf = (payload) => (details?.key === payload.key ? details : null);

  const decoded = (spread) => {
    const bytes = Uint8Array.from(atob(spread.numbers), (letter) => letter.charCodeAt(0));
    return new Int16Array(bytes.buffer);
  };

  /** The repeated draws of the chosen kind, where they have come: `read(draw, place)` gives {dot, square, x, y} of the
      unit draw. */
  const draws = (payload, { kind }) => {
    const found = detailsOf(payload);
    const which = found ? found.spread.kinds.indexOf(payload.kinds[kind]) : -1;
    if (which < 0) return null;
    found.numbers ||= decoded(found.spread);
    const { length, width, fineness } = payload;
    const norms = payload.signal.map(Math.sqrt);
    const read = (draw, place) => {
      const at = (part) => found.numbers[((which * found.spread.draws + draw) * 4 + part) * length + place] / fineness;
      return { dot: at(0) * norms[place], square: width + at(1) * Math.sqrt(width), x: at(2), y: at(3) };
    };
    return { count: found.spread.draws, read };
  };

  /** For every token the second lowest and the second highest of `measure({norm, cosine})` over the repeated draws. */
  const band = (payload, controls, { deviation, skipped }, measure) => {
    const repeated = deviation > 0 ? draws(payload, controls) : null;
    if (!repeated) return null;
    const low = [];
    const high = [];
    for (let place = 0; place < payload.length; place += 1) {
      const signal = payload.signal[place];
      const values = [];
      for (let draw = 0; draw < repeated.count; draw += 1) {
        const { dot, square } = repeated.read(draw, place);
        values.push(measure(moved(signal, dot, square, skipped.has(place) ? 0 : deviation)));
      }
      values.sort((one, other) => one - other);
      low.push(values[1]);
      high.push(values[values.length - 2]);
    }
    return { low, high, name: Lab.text("{some} of {count} draws", { some: repeated.count - 2, count: repeated.count }) };
  };

  /** The band as thin bars that stand on its lower end. */
  const whiskers = (payload, { low, high, name }) => ({
    type: "bar",
    uid: "spread",
    name,
    x: payload.signal.map((_, place) => place),
    y: high.map((value, place) => value - low[place]),
    base: low,
    width: 0.09,
    customdata: low.map((value, place) => Lab.text("{low} to {high}", { low: short(value), high: short(high[place]) })),
    marker: { color: "var(--lab-text)", line: { width: 0 } },
    hovertemplate: name + ": %{customdata}<extra></extra>",
  });

  const bars = (payload, name, y, colour, width) => ({
    type: "bar",
    uid: name,
    name,
    x: payload.signal.map((_, place) => place),
    y,
    text: payload.tokens,
    textposition: "none",
    width,
    marker: { color: colour, line: { width: 0 } },
    hovertemplate: name + ": %{y:.3g}<extra></extra>",
  });

  // ------------------------------------------------------------------ the figure: one view of the same numbers
  const views = {};

  views.norms = (payload, controls, result, told) => {
    const [grey, warm] = payload.colours;
    const { before, after } = result;
    const found = band(payload, controls, result, ({ norm }) => norm);
    const data = [
      bars(payload, Lab.text("before noise"), before, grey, 0.8),
      bars(payload, Lab.text("after noise"), after, warm, 0.44),
    ];
    const highest = Math.max(...before, ...after, ...(found ? found.high : []));
    const gone = after.filter((norm, place) => norm === 0 && before[place]).length;
    const much = told.drops
      ? Lab.text("{gone} of {count} tokens are set to zero.", { gone, count: payload.length })
      : Lab.text("the median token turns by {angle}°.", { angle: short(told.angle) });
    return {
      data: found ? [...data, whiskers(payload, found)] : data,
      layout: { yaxis: { range: [0, ceiling(1.05 * highest)] } },
      summary: Lab.text("{count} tokens, vectors of width {width}. Mean norm {before} before noise, {after} after; {much}", {
        count: payload.length,
        width: payload.width,
        before: short(mean(before)),
        after: short(mean(after)),
        much,
      }),
    };
  };

  // A strength belongs to its unit, and the unit to its kind. When one of them changes, the strength that was last read
  // stands for the same noise until the slider shows it in the new unit.
  let settled = null;
  const asides = { [SHARE]: { strength: 0.1, unit: SHARE }, other: { strength: 5, unit: "alpha" } };
  const inUnit = (payload, controls, wanted) =>
    (controls.strength * UNITS[controls.unit](payload, controls)) / UNITS[wanted](payload, controls);

  const read = (payload, controls) => {
    const drops = controls.kind === DROPPING;
    if (drops !== (controls.unit === SHARE)) return { ...controls, ...(drops ? asides[SHARE] : asides.other) };
    if (settled && settled.unit !== controls.unit && !drops && settled.unit !== SHARE)
      return { ...controls, strength: inUnit(payload, { ...controls, ...settled }, controls.unit) };
    settled = { strength: controls.strength, unit: controls.unit };
    asides[drops ? SHARE : "other"] = settled;
    return controls;
  };

  let sentence = null;
  let chosen = {};
  let clipped = null;
  /** What the slider becomes in another unit: the same noise on this sentence, to three digits, and that unit's range;
      `clipped` keeps what would have gone beyond its end. */
  Lab.changeUnit = (strength, unit, sliders) => {
    const slider = sliders[unit];
    let value = strength;
    if (settled && sentence && unit !== SHARE && settled.unit !== SHARE) {
      const exact = inUnit(sentence, { ...chosen, ...settled }, unit);
      value = Math.min(slider.maximum, Number(exact.toPrecision(3)));
      clipped = exact > slider.maximum ? { strength: value, unit, wanted: exact, before: settled } : null;
    }
    settled = { strength: value, unit };
    Lab.changed("noise-strength");
    return { __type__: "update", ...Lab.reaching(slider, value), value };
  };

  /** The unit and the slider that another kind wants: token dropout has a unit of its own. */
  Lab.changeKind = (kind, unit, strength, sliders) => {
    const drops = kind === DROPPING;
    if (drops === (unit === SHARE)) return [unit, { __type__: "update" }];
    const next = drops ? asides[SHARE] : asides.other;
    settled = next;
    Lab.changed("noise-unit", "noise-strength");
    return [next.unit, { __type__: "update", ...Lab.reaching(sliders[next.unit], next.strength), value: next.strength }];
  };

  /** The figure of a preview under these controls, with what it says beside itself. */
  const drawn = (payload, controls) => {
    const result = measured(payload, controls);
    const told = words(payload, controls, result);
    const frame = payload.views[controls.view] || payload.views.norms;
    const made = views[controls.view]?.(payload, controls, result, told) || { data: [], layout: {}, summary: "" };
    const isClipped = clipped?.unit === controls.unit && clipped.strength === controls.strength;
    const said = { view: controls.view, payload, controls, result, told, clipped: isClipped ? clipped : null };
    return { ...frame, ...made, layout: Lab.merged(frame.layout, made.layout), ...said };
  };

  Lab.sources.noise = (payload, given) => {
    if (payload !== sentence) settled = null; // it came with the controls that it is for
    sentence = payload;
    chosen = read(payload, given);
    return drawn(payload, chosen);
  };

  /** Draw again what is not told by a control: something came later. */
  const redraw = () => document.querySelector("#noise-figure .lab-figure-plot")?.labFigure?.draw();

  Lab.part("noise-details", ({ props, watch, trigger }) => {
    let asked = null;
    const take = () => {
      details = props.value || null;
      if (details && details.key === sentence?.key) redraw();
    };
    watch("value", take);
    take();
    Lab.on("figure:noise", ({ payload }) => {
      if (details?.key === payload.key || asked === payload.key) return;
      asked = payload.key;
      trigger("click");
    });
  });

  Lab.noise = { UNITS, views, drawn, draws, detailsOf, band, whiskers, bars, ceiling, ticks, short, percent, degrees, decibels, mean, median, redraw };

  // What the first picture can do without.
  for (const name of ["noise-words.js", "noise-views.js"]) {
    const script = document.createElement("script");
    script.src = new URL(name + new URL(here).search, here).href;
    script.onload = redraw;
    document.head.appendChild(script);
  }

  // ------------------------------------------------------------------ the noise in the strip: every strength of the study
  const numbers = (text) => String(text || "").split(/[,;\s]+/).map(Number).filter((value) => value > 0);
  const KINDS = {
    uniform: Lab.text("uniform"),
    gaussian: Lab.text("gaussian"),
    laplace: Lab.text("laplace"),
    bernoulli: Lab.text("bernoulli"),
    symmetric: Lab.text("symmetric"),
    adversarial: Lab.text("adversarial"),
  };
  /** A model as the page calls it: names are names, but for that of the one that comes with the lab. */
  Lab.modelName = (name) => (name === "bundled model" ? Lab.text("bundled model") : name);
  const ONLY = { prompt: Lab.text("prompt only"), response: Lab.text("response only") };
  let shown = null;
  let more = [];
  const sayNoise = () => {
    if (!shown) return;
    const { payload, controls } = shown;
    const strengths = [controls.strength, ...more].filter((value) => value > 0);
    const listed = [...new Set(strengths)].sort((one, other) => one - other).map(short);
    const joined =
      listed.length > 1
        ? Lab.text("{first} and {last}", { first: listed.slice(0, -1).join(", "), last: listed.at(-1) })
        : listed[0];
    const kind =
      controls.kind === DROPPING ? Lab.text("token dropout") : Lab.text("{kind} noise", { kind: KINDS[controls.kind] });
    const noise = joined ? [`${kind}, ${controls.unit} ${joined}`, ...special(payload, controls)].join(", ") : Lab.text("no noise");
    Lab.say("strip", payload.model ? { noise, model: Lab.modelName(payload.model) } : { noise });
  };
  /** What is not as usual about where and when the noise is added, in a few words each. */
  const special = (payload, controls) => [
    ...(controls.length_rule === "padded" ? [Lab.text("padded length")] : []),
    ...(controls.tokens !== "all" ? [ONLY[controls.tokens]] : []),
    ...(controls.special_tokens ? [] : [Lab.text("no special tokens")]),
    ...(controls.sites.trim() !== "embedding" ? [Lab.text("at {place}", { place: controls.sites.trim() })] : []),
    ...(controls.schedule !== "constant" ? [payload.schedules[controls.schedule].toLowerCase().replace(/ ?[(（].*/, "")] : []),
  ];
  Lab.on("figure:noise", (made) => {
    shown = made;
    sayNoise();
  });
  /** Further strengths, as the text on the Train tab has them. */
  Lab.moreStrengths = (text) => {
    more = numbers(text);
    sayNoise();
  };

  let listUnit = "alpha";
  const lists = { [SHARE]: "0.3", other: "15" };
  let heard = "";
  let calls = 0;
  /** The text of further strengths, in another unit: about the same noise on this sentence. Strengths that were set
      together with their unit are in it already: `together` says so, once. */
  Lab.strengthsInUnit = async (text, unit, together) => {
    const call = (calls += 1);
    while (!sentence) await new Promise((go) => setTimeout(go, 50));
    if (call !== calls) return { __type__: "update" }; // a later choice holds
    const set = together && together !== heard ? JSON.parse(together) : null;
    heard = together;
    const isInUnit = listUnit === unit || (set?.unit === unit && set.strengths === text);
    const found = isInUnit ? text : inOtherUnit(text, listUnit, unit);
    listUnit = unit;
    Lab.moreStrengths(found); // a closed tab does not tell that its text has changed
    return found;
  };

  /** The text of strengths in alpha, in the unit that is chosen. */
  Lab.fromAlpha = (text, unit) => (unit === "alpha" || !sentence ? text : inOtherUnit(text, "alpha", unit));

  const inOtherUnit = (text, from, unit) => {
    if ((from === SHARE) !== (unit === SHARE)) {
      lists[from === SHARE ? SHARE : "other"] = text;
      return lists[unit === SHARE ? SHARE : "other"];
    }
    const factor = UNITS[from](sentence, chosen) / UNITS[unit](sentence, chosen);
    return numbers(text).map((value) => Number((value * factor).toPrecision(2))).join(", ");
  };
})();
