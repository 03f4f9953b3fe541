/* The views of the Noise tab besides the norms (noise.js), under the names of neftune_core/figures/noise_views.py.

   A view is (payload, controls, result, told) => {data, layout, summary}: `result` is what the noise does to every token,
   `told` the same in a few numbers. Nothing here asks the server. */
(() => {
  "use strict";
  const { UNITS, views, draws, detailsOf, band, whiskers, bars, ceiling, ticks, short, percent, decibels, median, mean, redraw } = Lab.noise;
  const LABELS = 40; // more tokens than this are named where one points at them only
  const MAP_HEIGHT = 300; // pixels between the axes, about
  const quiet = "var(--lab-quiet)";

  /** A sentence in lines that a phone has room for. */
  const lines = (text) => text.replace(/(.{24,36}?)\s/g, "$1<br>");

  /** Where a view has nothing to draw: the sentence that says why. */
  const nothing = (text) => ({
    data: [],
    layout: {
      xaxis: { visible: false },
      yaxis: { visible: false },
      annotations: [{ text: lines(text), showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5, font: { size: 14, color: quiet } }],
    },
    summary: text,
  });

  const places = (payload) => payload.signal.map((_, place) => place);
  const line = (name, x, y, colour, more = {}) => ({
    type: "scatter",
    mode: "lines",
    uid: name,
    name,
    x,
    y,
    line: { color: colour, width: 2, ...more },
    hovertemplate: name + ": %{y:.3g}<extra></extra>",
  });
  /** A logarithmic axis from one value to another, its ticks in plain numbers. */
  const logarithmic = (low, high) => {
    const values = ticks(low, high);
    return { range: [Math.log10(low), Math.log10(high)], tickvals: values, ticktext: values.map(short) };
  };
  const rule = (at, colour = "var(--lab-text)") => ({ line: { color: colour, width: 1.4, dash: "dot" }, ...at });
  const across = (y) => rule({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y });
  const upright = (x) => rule({ type: "line", yref: "paper", y0: 0, y1: 1, x0: x, x1: x });

  // ------------------------------------------------------------------ cosine and signal to noise, token by token
  views.angles = (payload, controls, result) => {
    const [, warm] = payload.colours;
    if (result.drops) return nothing(Lab.text("A token that is set to zero has no direction: token dropout leaves the others as they are."));
    const cosines = result.cosines.map((cosine) => cosine ?? 0);
    const found = band(payload, controls, result, ({ cosine }) => cosine ?? 0);
    const ratios = result.shares.map((share) => (share ? decibels(share) : null));
    const known = ratios.filter((ratio) => ratio !== null);
    const reach = known.length ? [Math.min(0, ...known) - 3, Math.max(0, ...known) + 3] : [-10, 30];
    const lowest = Math.min(0, ...cosines, ...(found ? found.low : []));
    const dots = {
      ...line(Lab.text("signal to noise"), places(payload), ratios, warm),
      mode: "markers",
      marker: { color: warm, size: 7 },
      yaxis: "y2",
      showlegend: false,
      hovertemplate: Lab.text("signal to noise") + ": %{y:.1f} dB<extra></extra>",
    };
    const drawn = bars(payload, Lab.text("cosine of noisy and clean"), cosines, warm, 0.6);
    return {
      data: found ? [drawn, whiskers(payload, found), dots] : [drawn, dots],
      layout: { yaxis: { range: [lowest < 0 ? lowest - 0.05 : 0, 1.02] }, yaxis2: { range: reach } },
      summary: known.length
        ? Lab.text(
            "The median token keeps a cosine of {cosine} to its clean vector, at a signal-to-noise ratio of {ratio} dB; " +
              "the token that turns most keeps {least}.",
            { cosine: short(median(cosines)), ratio: median(known).toFixed(1), least: short(Math.min(...cosines)) },
          )
        : Lab.text("Without noise every token keeps a cosine of 1 to itself."),
    };
  };

  // ------------------------------------------------------------------ the map: tokens and their clouds of noise in a plane
  const cloud = (payload, controls, { deviation, skipped }) => {
    const repeated = deviation > 0 ? draws(payload, controls) : null;
    const found = { x: [], y: [] };
    if (!repeated) return found;
    for (let place = 0; place < payload.length; place += 1) {
      if (skipped.has(place)) continue;
      for (let draw = 0; draw < repeated.count; draw += 1) {
        const { x, y } = repeated.read(draw, place);
        found.x.push(payload.plane.x[place] + deviation * x);
        found.y.push(payload.plane.y[place] + deviation * y);
      }
    }
    return found;
  };

  const landed = (payload, { kind }, { drops, deviation, skipped, shares }, axis, origin) => {
    if (drops) return payload.plane[axis].map((at, place) => (shares[place] > 0 ? origin : at));
    const unit = payload.draws[payload.kinds[kind]].plane[axis];
    return payload.plane[axis].map((at, place) => (skipped.has(place) ? at : at + deviation * unit[place]));
  };

  const dots = (name, { x, y }, colour, size, more = {}) => ({
    type: "scatter",
    mode: "markers",
    uid: name,
    name,
    x,
    y,
    marker: { color: colour, size, line: { width: 0 } },
    hovertemplate: "%{text}<extra></extra>",
    ...more,
  });

  const middleOf = (values) => (Math.min(...values) + Math.max(...values)) / 2;

  /** Whether a label over a point has room beside those that were asked for before; the others are told to who points. */
  const labelRoom = (half) => {
    const pixels = MAP_HEIGHT / (2 * half);
    const taken = [];
    return (x, y, text, size) => {
      const width = 0.62 * size * text.trim().length;
      const box = { left: x * pixels - width / 2, right: x * pixels + width / 2, low: y * pixels, high: y * pixels + 1.5 * size };
      const free = taken.every(({ left, right, low, high }) => box.right < left || box.left > right || box.high < low || box.low > high);
      if (free) taken.push(box);
      return free;
    };
  };

  views.map = (payload, controls, result) => {
    const [grey, warm] = payload.colours;
    const { plane } = payload;
    const noisy = {
      x: landed(payload, controls, result, "x", plane.origin[0]),
      y: landed(payload, controls, result, "y", plane.origin[1]),
    };
    const around = detailsOf(payload)?.nearest.neighbours || { tokens: [], x: [], y: [] };
    const spread = cloud(payload, controls, result);
    const between = (axis) => plane[axis].flatMap((at, place) => [at, noisy[axis][place], null]);
    const label = (tokens, text, colour, size) => ({
      mode: "markers+text",
      text,
      textposition: "top center",
      textfont: { color: colour, size },
      customdata: tokens,
      cliponaxis: false,
      hovertemplate: "%{customdata}<extra></extra>",
    });
    // The middle is that of the clean vectors, and stands still; the room around it grows in steps of a fifth.
    const middle = { x: middleOf([...plane.x, ...around.x]), y: middleOf([...plane.y, ...around.y]) };
    const furthest = (axis) =>
      Math.max(...[plane, noisy, around].flatMap((points) => points[axis]).map((at) => Math.abs(at - middle[axis])));
    // The plot is about twice as wide as high.
    const half = 1.2 ** Math.ceil(Math.log(1.12 * Math.max(furthest("y"), furthest("x") / 2)) / Math.log(1.2));
    const room = labelRoom(half);
    const ownLabels = payload.tokens.map((token, place) => (room(plane.x[place], plane.y[place], token, 12) ? token : ""));
    const otherLabels = around.tokens.map((token, place) => (room(around.x[place], around.y[place], token, 10) ? token : ""));
    return {
      data: [
        dots(Lab.text("repeated draws"), spread, warm, 3, { opacity: 0.35, hoverinfo: "skip", hovertemplate: undefined }),
        { ...line("way", between("x"), between("y"), warm, { width: 1 }), showlegend: false, hoverinfo: "skip", hovertemplate: undefined, opacity: 0.7 },
        dots(Lab.text("nearby vocabulary"), around, "var(--lab-line)", 6, label(around.tokens, otherLabels, quiet, 10)),
        dots(Lab.text("before noise"), plane, grey, 8, label(payload.tokens, ownLabels, "var(--lab-text)", 12)),
        dots(Lab.text("after noise"), noisy, warm, 8, { text: payload.tokens.map((token) => Lab.text("{token} after noise", { token })) }),
      ].filter(({ x }) => x.length),
      layout: {
        xaxis: { range: [middle.x - half, middle.x + half] },
        yaxis: { range: [middle.y - half, middle.y + half] },
      },
      summary:
        Lab.text("The plane of the sentence's two principal components holds {share} of the variance of its vectors.", {
          share: percent(plane.share),
        }) +
        " " +
        (result.drops
          ? Lab.text("A dropped token moves to where the zero vector lies.")
          : Lab.text("Noise of every kind spreads in it as a round cloud, with a standard deviation of {std} each way.", {
              std: short(result.deviation),
            })),
    };
  };

  // ------------------------------------------------------------------ the drawn noise against its density
  const ROOT3 = Math.sqrt(3);
  const DENSITIES = {
    uniform: (x) => (Math.abs(x) <= ROOT3 ? 1 / (2 * ROOT3) : 0),
    gaussian: (x) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI),
    laplace: (x) => Math.exp(-Math.SQRT2 * Math.abs(x)) / Math.SQRT2,
  };

  /** A density at a standard deviation, in words. */
  const SHAPES = {
    uniform: (std) => Lab.text("uniform density on ±{reach}", { reach: short(ROOT3 * std) }),
    gaussian: () => Lab.text("gaussian density"),
    laplace: () => Lab.text("laplace density"),
    bernoulli: (std) => Lab.text("bernoulli density of ±{reach}, half each", { reach: short(std) }),
  };

  /** Points of a density, two at each jump. */
  const curve = (kind) => {
    const x = Array.from({ length: 181 }, (_, index) => (index - 90) / 20);
    if (kind === "uniform") x.push(-ROOT3 - 1e-9, -ROOT3, ROOT3, ROOT3 + 1e-9);
    x.sort((one, other) => one - other);
    return { x, y: x.map(DENSITIES[kind]) };
  };

  /** The density of the theory at a standard deviation. Of two values only, it is two lines as high as the drawn bins. */
  const theory = (kind, deviation, binsADeviation) => {
    if (kind === "bernoulli") {
      const height = binsADeviation / (2 * deviation);
      return { x: [-deviation, -deviation, null, deviation, deviation], y: [0, height, null, 0, height] };
    }
    const { x, y } = curve(kind);
    return { x: x.map((at) => at * deviation), y: y.map((height) => height / deviation) };
  };

  const histogram = (payload, name, counts, deviation, colour, opacity) => {
    const width = deviation / payload.bins_a_deviation;
    const total = payload.length * payload.width;
    return {
      type: "bar",
      uid: name,
      name,
      x: counts.map((_, bin) => (bin - counts.length / 2 + 0.5) * width),
      y: counts.map((count) => count / total / width),
      width,
      opacity,
      marker: { color: colour, line: { width: 0 } },
      hovertemplate: name + ": %{y:.3g}<extra></extra>",
    };
  };

  const dropped = (payload, controls) => {
    const [grey, warm] = payload.colours;
    const count = 10;
    const counts = Array(count).fill(0);
    for (const value of payload.dropped_below) counts[Math.min(count - 1, Math.floor(value * count))] += 1;
    const x = counts.map((_, bin) => (bin + 0.5) / count);
    const density = counts.map((found) => (found * count) / payload.length);
    const gone = payload.dropped_below.filter((value) => value < controls.strength).length;
    const drawn = { ...histogram(payload, Lab.text("numbers drawn, one per token"), counts, 1, grey, 1), x, y: density, width: 1 / count };
    return {
      data: [drawn, line(Lab.text("uniform density"), [0, 1], [1, 1], warm)],
      layout: {
        xaxis: { range: [0, 1], title: { text: Lab.text("number drawn for a token") } },
        yaxis: { range: [0, ceiling(1.05 * Math.max(...density))] },
        shapes: [upright(controls.strength)],
      },
      summary: Lab.text(
        "A uniform random number is drawn for each token; if it is below {share}, the token is set to zero: {gone} of {count} here.",
        { share: short(controls.strength), gone, count: payload.length },
      ),
    };
  };

  views.density = (payload, controls, result) => {
    if (result.drops) return dropped(payload, controls);
    const [grey, warm] = payload.colours;
    const { deviation } = result;
    const { root_mean_square: signal, bins_a_deviation: bins } = payload;
    const clean = histogram(payload, Lab.text("clean coordinates"), payload.clean_histogram, signal, grey, 0.45);
    if (!deviation) {
      const reach = ceiling(4 * signal);
      const layout = { xaxis: { range: [-reach, reach] }, yaxis: { range: [0, ceiling(1.05 * Math.max(...clean.y))] } };
      const alone = Lab.text("Without noise: the clean coordinates alone, with a root mean square of {signal}.", { signal: short(signal) });
      return { data: [clean], layout, summary: alone };
    }
    const name = payload.kinds[controls.kind];
    const draw = payload.draws[name];
    const drawn = histogram(payload, Lab.text("drawn noise"), draw.histogram, deviation, warm, 0.55);
    const expected = theory(name, deviation, bins);
    const sampled = deviation * Math.sqrt(mean(draw.square) / payload.width);
    const reach = ceiling(Math.max(3.2 * signal, 3.2 * deviation));
    const highest = Math.max(...clean.y, ...drawn.y, ...expected.y.filter((height) => height !== null));
    const shape = SHAPES[name](deviation);
    return {
      data: [clean, drawn, line(Lab.text("density of the theory"), expected.x, expected.y, "var(--lab-text)")],
      layout: { xaxis: { range: [-reach, reach] }, yaxis: { range: [0, ceiling(1.05 * highest)] } },
      summary:
        Lab.text(
          "{count} numbers drawn from the {density}: their standard deviation is {sampled} ({std} in theory). The clean " +
            "coordinates have a root mean square of {signal}.",
          {
            count: (payload.length * payload.width).toLocaleString("en"),
            density: shape,
            sampled: short(sampled),
            std: short(deviation),
            signal: short(signal),
          },
        ),
    };
  };

  // ------------------------------------------------------------------ the nearest token of the vocabulary
  /** What a token's vector is nearest to at a standard deviation; null where that is still its own. */
  const nearest = (changes, deviation) => {
    let found = null;
    for (let index = 0; index < changes.length; index += 2) if (changes[index] <= deviation) found = changes[index + 1];
    return found;
  };

  /** How many tokens are nearer to another one at this strength; 0 while the vocabulary has not been looked through. */
  Lab.noise.flips = (payload, controls, { drops, deviation, skipped }) => {
    const changes = drops || payload.place ? null : detailsOf(payload)?.nearest?.changes?.[payload.kinds[controls.kind]];
    return (changes || []).filter((each, place) => !skipped.has(place) && nearest(each, deviation) !== null).length;
  };

  /** What becomes of a token in the vocabulary, in words. */
  const becomes = (token, other) =>
    other === undefined ? Lab.text("“{token}” stays", { token }) : Lab.text("“{token}” becomes “{other}”", { token, other });

  views.nearest = (payload, controls, { drops, deviation, skipped }) => {
    const [grey, warm] = payload.colours;
    if (drops) return nothing(Lab.text("A token that is set to zero is near no token any more."));
    if (payload.place) return nothing(Lab.text("The vocabulary lies at the embedding: choose it among the sites to see the nearest tokens."));
    const found = detailsOf(payload)?.nearest;
    if (!found?.changes) return nothing(found ? Lab.text("This model has no vocabulary to search.") : Lab.text("Searching the vocabulary …"));
    const scale = UNITS[controls.unit](payload, controls);
    const changes = found.changes[payload.kinds[controls.kind]].map((each, place) => (skipped.has(place) ? [] : each));
    const first = changes.map((each) => each[0] / scale || null);
    const now = changes.map((each) => nearest(each, deviation));
    const finite = first.filter((strength) => strength !== null);
    const counted = now.filter((token) => token !== null).length;
    const named = payload.length <= LABELS;
    const least = Math.min(...finite, deviation > 0 ? deviation / scale : Infinity);
    const data = {
      ...dots(Lab.text("strength of the first change"), { x: places(payload), y: first }, now.map((token) => (token === null ? grey : warm)), 9),
      mode: named ? "markers+text" : "markers",
      text: now.map((token) => (token === null ? "" : token.trim() || "␣")),
      textposition: "top center",
      textfont: { color: "var(--lab-text)", size: 12 },
      customdata: changes.map((each, place) => becomes(payload.tokens[place], each[1])),
      hovertemplate: Lab.text("%{customdata} at %{y:.3g}") + "<extra></extra>",
      showlegend: false,
    };
    const change = { strength: `${controls.unit} ${short(Math.min(...finite))}` };
    const examples = now.flatMap((token, place) => (token === null ? [] : [Lab.text("“{from}” to “{to}”", { from: payload.tokens[place].trim(), to: token.trim() })]));
    return {
      data: [data],
      layout: {
        yaxis: {
          ...(finite.length ? logarithmic(0.7 * least, 1.8 * Math.max(...finite)) : {}),
          title: { text: `${Lab.text("strength of the first change")} (${controls.unit})` },
        },
        shapes: deviation > 0 ? [across(deviation / scale)] : [],
      },
      summary:
        Lab.text("{counted} of {count} noisy vectors are nearer (by Euclidean distance) to another token than to their own", {
          counted,
          count: payload.length,
        }) +
        (examples.length ? `: ${examples.slice(0, 4).join(", ")}${examples.length > 4 ? ", …" : ""}.` : ".") +
        (finite.length ? " " + Lab.text("The first change comes at {strength}; the dotted line is the strength now.", change) : ""),
    };
  };

  // ------------------------------------------------------------------ the strength at other lengths
  views.length = (payload, controls, { drops, deviation }) => {
    const [grey, warm] = payload.colours;
    if (drops) return nothing(Lab.text("A share of the tokens is the same at every length."));
    if (!deviation) return nothing(Lab.text("No noise: raise the strength to see how it depends on the length."));
    const { width, length, padded_length: padded } = payload;
    const alpha = deviation / UNITS.alpha(payload, controls);
    const x = Array.from({ length: 56 }, (_, index) => 2 ** (index / 5));
    const names = [Lab.text("alpha, true length"), Lab.text("alpha, padded to {length}", { length: padded }), Lab.text("constant std")];
    const rules = [
      (tokens) => alpha / Math.sqrt(3 * tokens * width),
      (tokens) => alpha / Math.sqrt(3 * Math.max(tokens, padded) * width),
      () => deviation,
    ];
    const chosen = controls.unit === "alpha" ? (controls.length_rule === "padded" ? 1 : 0) : 2;
    const dashes = ["solid", "dash", "dot"];
    const data = rules.map((std, place) =>
      line(names[place], x, x.map(std), place === chosen ? warm : grey, { dash: dashes[place], width: place === chosen ? 3 : 1.6 }),
    );
    const heights = data.flatMap(({ y }) => y);
    const here = { ...dots(Lab.text("your sentence"), { x: [length], y: [deviation] }, warm, 11), hovertemplate: Lab.text("your sentence") + ": %{y:.3g}<extra></extra>" };
    return {
      data: [...data, here],
      layout: {
        xaxis: { range: [0, Math.log10(2048)] },
        yaxis: logarithmic(0.7 * Math.min(...heights), 1.4 * Math.max(...heights)),
      },
      summary: Lab.text(
        "On your {length} tokens the standard deviation is {std}. With the true length, alpha {alpha} is {ten} on 10 tokens " +
          "and {thousand} on 1,000; padded to {padded}, the short ones get no more than {least}.",
        {
          length,
          std: short(deviation),
          alpha: short(alpha),
          ten: short(rules[0](10)),
          thousand: short(rules[0](1000)),
          padded,
          least: short(rules[1](1)),
        },
      ),
    };
  };

  // ------------------------------------------------------------------ the schedule over the run
  /** m(t) of every schedule, as in neftune_core/noise/schedules.py. */
  const SCHEDULES = {
    constant: () => 1,
    linear: (t) => 1 - t,
    cosine: (t) => 0.5 * (1 + Math.cos(Math.PI * t)),
    exponential: (t, point, last) => last ** t,
    "warm-up": (t, point) => (point > 0 ? Math.min(1, t / point) : 1),
    "switch-off": (t, point) => (t < point || point === 1 ? 1 : 0),
  };

  const multipliers = (payload, { schedule, schedule_point: point, equal_energy: equal }) => {
    const steps = payload.adaptive.length;
    if (schedule === "adaptive") return payload.adaptive;
    const found = Array.from({ length: steps }, (_, step) => SCHEDULES[schedule](step / (steps - 1), point, payload.last_share));
    const energy = mean(found.map((value) => value * value));
    return equal && energy > 0 ? found.map((value) => value / Math.sqrt(energy)) : found;
  };

  views.schedule = (payload, controls) => {
    const [grey, warm] = payload.colours;
    const factors = multipliers(payload, controls);
    const x = factors.map((_, step) => (100 * step) / (factors.length - 1));
    const y = factors.map((factor) => factor * controls.strength);
    const name = payload.schedules[controls.schedule];
    const energy = mean(factors.map((factor) => factor * factor));
    const made = controls.schedule === "adaptive" ? " " + Lab.text("Drawn for a made-up training loss that falls by half; a run follows its own.") : "";
    const constant = line(Lab.text("constant"), [0, 100], [controls.strength, controls.strength], grey, { dash: "dash", width: 1.6 });
    return {
      data: [
        ...(controls.schedule === "constant" ? [] : [constant]),
        line(name, x, y, warm, { width: 3, shape: controls.schedule === "switch-off" ? "hv" : "linear" }),
      ],
      layout: {
        yaxis: { range: [0, ceiling(1.05 * Math.max(...y, controls.strength))], title: { text: `${Lab.text("strength")} (${controls.unit})` } },
      },
      summary: controls.schedule === "constant"
        ? Lab.text("Constant: {strength} at every step. The other schedules are under “Where and when”.", {
            strength: `${controls.unit} ${short(controls.strength)}`,
          })
        : Lab.text(
            "{name}: from {first} at the first step to {last} at the last, {mean} on average; its mean square is {share} of " +
              "the constant one's.",
            { name, first: `${controls.unit} ${short(y[0])}`, last: short(y.at(-1)), mean: short(mean(y)), share: percent(energy) },
          ) + made,
    };
  };

  // ------------------------------------------------------------------ the loss, measured by the server
  let loss = null;
  Lab.part("noise-loss", ({ props, watch }) => {
    const take = () => {
      loss = props.value?.data ? props.value : null;
      redraw();
    };
    watch("value", take);
    if (props.value?.data) take();
  });

  views.loss = (payload, controls) => {
    if (loss && !loss.data.length) return nothing(loss.summary);
    if (!loss) return nothing(Lab.text("Measure the loss of the untouched model under this noise, on rows of the Data tab."));
    const same = loss.kind === controls.kind && loss.unit === controls.unit && controls.strength > 0;
    const shapes = same ? [upright(controls.strength)] : [];
    return { data: loss.data, layout: Lab.merged(loss.layout, { shapes }), narrow: loss.narrow, summary: loss.summary, name: loss.name };
  };
})();
