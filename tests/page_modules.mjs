/** Tests of the page's modules that do not use the DOM. They run with `node --test` and in Chromium (browser/test_page_modules.py). */
import {
  bandOf,
  DENSITIES,
  effectOf,
  measured,
  multipliers,
  nearest,
  realised,
  repeatedDraws,
  theory,
} from "../assets/page/noise-maths.js";
import { grown } from "../assets/page/growth.js";
import { among, beforeLastWord, interpolated, nearestOf } from "../assets/page/inside-maths.js";
import { at, ceiling, listed, mean, median, percent, reaching, rounds, runningMeans, short, ticks } from "../assets/page/numbers.js";
import { depth, differences, sorted } from "../assets/page/rows-maths.js";
import { coloured, csv, laidOut, merged } from "../assets/page/traces.js";

const same = (found, expected) => {
  if (JSON.stringify(found) !== JSON.stringify(expected))
    throw new Error(`${JSON.stringify(found)} is not ${JSON.stringify(expected)}`);
};

/** Assert that numbers, or lists of numbers, are equal up to rounding; null equals only null. */
const close = (found, expected, within = 1e-12) => {
  if (Array.isArray(expected)) {
    same(found.length, expected.length);
    return expected.forEach((value, place) => close(found[place], value, within));
  }
  const isClose = expected === null ? found === null : Math.abs(found - expected) <= within * Math.max(1, Math.abs(expected));
  if (!isClose) throw new Error(`${found} is not close to ${expected}`);
};

/** Return the value with the keys of every object sorted. */
const inOrder = (value) => {
  if (Array.isArray(value)) return value.map(inOrder);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, inOrder(value[key])]));
};

/** All tests by name; `numbers` are the expected values from Python (page_numbers.py). */
export const checks = (numbers) => ({
  "between measured strengths lies a straight line, and beyond the last one its value": () => {
    const { strengths, looked_at, sizes, cosines, nearest } = numbers.inside;
    looked_at.forEach((strength, index) => {
      const place = among(strengths, strength);
      close(interpolated(sizes.measured, 0, place), sizes.expected[index]);
      close(interpolated(cosines.measured, 1, place), cosines.expected[index]);
      same(place.beyond, strength > 40);
      same(nearestOf(strengths, strength), nearest[index]);
    });
    same(interpolated([[1, null], [null, null]], 1, { low: 0, share: 0.5 }), [null, null]);
  },
  "a figure grows by what is new": () => {
    for (const { old, changes, new: expected } of numbers.growth) same(inOrder(grown(old, changes)), inOrder(expected));
  },
  "the next word is asked for before the last word": () => {
    same(beforeLastWord(["A", " robot", " learns", " to", " paint", ".", "</s>"], 0), 3);
    same(beforeLastWord(["A", "\u2581robot"], 0), 0);
    same(beforeLastWord(["."], 0), 0);
    same(beforeLastWord(["one", " word", "<pad>", " two"], 2), 2);
  },
  "rows are sorted by how much an arm differs from its reference": () => {
    const lines = [
      { row: 1, losses: { a: [1, 2], b: [1, 2.5] } },
      { row: 2, losses: { a: [3, 0], b: [1, 1] } },
      { row: 3, losses: { b: [9, 9] } },
    ];
    same(differences(lines[1], "a", "b"), [2, -1]);
    same(differences(lines[1], "a", ""), [3, 0]);
    const found = sorted(lines, "a", "b");
    same(found.map(({ line }) => line.row), [2, 1]);
    close(found.map(({ mean: average }) => average), [0.5, -0.25]);
    close(depth(-0.5), 0.5);
  },
  "a map of numbers is a table of its cells, and keeps the colours of its scale": () => {
    const map = { uid: "map", x: [0, 1], y: [3], z: [[0.5, null]], text: [["a, b", "c"]] };
    const style = { getPropertyValue: (name) => (name === "--lab-text" ? " black" : "") };
    same(csv([map]), 'trace,label,x,y,base,z\nmap,"a, b",0,3,,0.5\nmap,c,1,3,,\n');
    same(coloured([[0, "var(--lab-text)"], [1, 2]], style), [[0, "black"], [1, 2]]);
  },
  "noise on every token is what Python computes": () => {
    for (const { controls, ...expected } of numbers.noises) {
      const found = measured(numbers.payload, controls);
      for (const part of ["before", "after", "shares", "cosines"]) close(found[part], expected[part]);
      for (const [unit, value] of Object.entries(expected.equivalents))
        close(effectOf(numbers.payload, controls, found).equivalents[unit], value);
      const { share, decibels: ratio, equivalents } = effectOf(numbers.payload, controls, found);
      if (!found.drops && found.shares.some(Boolean)) close(share, equivalents.relative);
      if (share > 0) close(10 ** (-ratio / 20), share);
    }
  },
  "repeated draws and their band are those of the vectors": () => {
    const { details, deviation, low, high, second } = numbers.band;
    const [rounding, controls] = [2e-3, { kind: "uniform" }]; // the draws are stored as int16
    const draws = repeatedDraws(numbers.payload, details, controls);
    const band = bandOf(numbers.payload, draws, { deviation, skipped: new Set() }, ({ norm }) => norm);
    close(band.low, low, rounding);
    close(band.high, high, rounding);
    low.forEach((_, place) => close(draws.read(1, place).x, second.x[place], rounding));
    low.forEach((_, place) => close(draws.read(1, place).y, second.y[place], rounding));
  },
  "schedules are those of training": () => {
    for (const { factors, ...controls } of numbers.schedules.cases) close(multipliers(numbers.schedules, controls), factors);
    same(multipliers(numbers.schedules, { schedule: "adaptive" }), numbers.schedules.adaptive);
  },
  "densities are those of PyTorch, and their area is 1": () => {
    for (const [kind, { x, y }] of Object.entries(numbers.densities)) {
      close(x.map(DENSITIES[kind]), y);
      const { x: at, y: height } = theory(kind, 0.5, 8);
      const area = at.slice(1).reduce((sum, x, place) => sum + ((x - at[place]) * (height[place] + height[place + 1])) / 2, 0);
      close(area, 1, 5e-3); // trapezoidal rule up to 4.5 standard deviations
    }
    same(theory("bernoulli", 0.5, 8).x, [-0.5, -0.5, null, 0.5, 0.5]);
  },
  "a slider reaches every strength as the server's does": () => {
    for (const { range, value, step } of numbers.sliders) {
      const found = reaching(range, value);
      close(found.step, step);
      same(found.maximum >= value, true);
    }
  },
  "means are running, and the median is the middle": () => {
    const { past, values, means, median: middle } = numbers.means;
    close(runningMeans(values, past), means);
    close(median(values), middle);
    close(mean([1, 2, 6]), 3);
    same(runningMeans([1, null, 3], 0.5), [1, null, (0.5 + 3) / 1.5]);
  },
  "numbers are short": () => {
    same([0, 1234.5, 0.012345, 0.00012345, -0.00005].map(short), ["0", "1230", "0.0123", "1.2 × 10⁻⁴", "-5.0 × 10⁻⁵"]);
    same([0, 0.05321, 0.5321, 2.1353].map(percent), ["0%", "5.32%", "53.2%", "214%"]);
  },
  "axes end at round values": () => {
    same([0, 0.9, 1.01, 14, 8].map(ceiling), [1, 1, 1.5, 15, 10]);
    same(ticks(0.5, 30), [0.5, 1, 2, 5, 10, 20]);
    same(rounds(0, 4.2), [0, 2, 4]);
    same(rounds(1.3, 2.1), [1.4, 1.6, 1.8, 2]);
  },
  "a curve is read between its points": () => {
    const points = [[0, 4], [10, 2], [20, 3]];
    same([0, 5, 10, 15, 99].map((step) => at(points, step)), [4, 3, 2, 2.5, 3]);
  },
  "what rounding leaves is read between the strengths measured": () => {
    const known = [[0.01, 0.2], [0.1, 0.8]];
    same([0, 0.001, 1].map((deviation) => realised(known, deviation)), [1, 0.2, 1]);
    close(realised(known, Math.sqrt(0.001)), 0.5);
  },
  "a token is nearest to the last that came before": () => {
    same([0.1, 0.5, 9].map((deviation) => nearest([0.2, "b", 0.9, "c"], deviation)), [null, "b", "c"]);
  },
  "lists of numbers are read as they are typed": () => {
    same(listed(" 5, 10;15 x -2 0"), [5, 10, 15]);
    same(listed(undefined), []);
  },
  "a cell cannot be a formula, and commas are quoted": () => {
    const trace = { uid: "norm", x: [0, 1], y: [2, 3], text: ["=1+1", 'a,"b'] };
    same(csv([trace]), 'trace,label,x,y,base\nnorm,\'=1+1,0,2,\nnorm,"a,""b",1,3,\n');
  },
  "a figure is laid out for its width and scale": () => {
    const figure = { data: [{ y: [1, 200] }], layout: { height: 3, yaxis: { title: "loss" } }, narrow: { height: 2 } };
    same(laidOut(figure, 300, false), { height: 2, yaxis: { title: "loss" }, width: 300 });
    const { type, dtick, title } = laidOut(figure, 900, true).yaxis;
    same([type, dtick, title], ["log", "D2", "loss"]);
    same(merged({ a: { b: 1, c: [1] } }, { a: { c: [2] } }), { a: { b: 1, c: [2] } });
  },
});
