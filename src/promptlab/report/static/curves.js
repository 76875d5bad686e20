// Curves of a score over the number of seeds: the expected best of N = 1, 2, 4, … of a line's cells,
// with its interval, and as a small chart. Takes numbers; knows no sheet and no axis.

import { formatNumber } from "./text.js";

const Z = 1.96; // of an interval of 95 %
const WIDTH = 48;
const HEIGHT = 12;
const SVG = "http://www.w3.org/2000/svg";

/** Collect values by group and cell; `of` gives a group's curve, [N, mean, half of the interval]. */
export function makeCurves(isHigherBetter) {
  const groups = new Map();
  const sign = isHigherBetter ? 1 : -1;
  return {
    add(group, cell, value) {
      let cells = groups.get(group);
      if (!cells) groups.set(group, (cells = new Map()));
      const values = cells.get(cell);
      if (values) values.push(sign * value);
      else cells.set(cell, [sign * value]);
    },
    of: (group) => curveOf([...(groups.get(group)?.values() || [])]).map(([n, mean, half]) => [n, sign * mean, half]),
  };
}

/** The expected best of N seeds, over the cells that have as many, as far as most have. */
export function curveOf(cells) {
  const sorted = cells.map((values) => Float64Array.from(values).sort());
  const curve = [];
  for (let n = 1; ; n *= 2) {
    const reaching = sorted.filter((values) => values.length >= n);
    if (!reaching.length || 2 * reaching.length <= sorted.length) return curve;
    const best = reaching.map((values) => expectedBest(values, n));
    const mean = best.reduce((sum, value) => sum + value, 0) / best.length;
    const variance = best.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, best.length - 1);
    curve.push([n, mean, best.length > 1 ? Z * Math.sqrt(variance / best.length) : null]);
  }
}

/** The mean best of n values chosen from sorted ones, all choices alike. */
function expectedBest(sorted, n) {
  const count = sorted.length;
  let share = n / count; // of the choices, those whose best is the last one
  let sum = 0;
  for (let i = count - 1; i >= n - 1; i -= 1) {
    sum += share * sorted[i];
    share *= (i - n + 1) / i || 0;
  }
  return sum;
}

/** "1: 0.61, 2: 0.7, 4: 0.78 ± 0.05" */
export function curveText(curve) {
  return curve.map(([n, mean, half], i) => `${n}: ${formatNumber(mean)}${half !== null && i === curve.length - 1 ? ` ± ${formatNumber(half)}` : ""}`).join(", ");
}

/** A curve as a small chart between two ends of a scale. */
export function curveChart(curve, low, high) {
  const x = (i) => 1 + (i * (WIDTH - 2)) / Math.max(1, curve.length - 1);
  const y = (value) => HEIGHT - 1 - ((HEIGHT - 2) * (Math.min(high, Math.max(low, value)) - low)) / (high - low || 1);
  const points = (shift) => curve.map(([, mean, half], i) => `${x(i).toFixed(1)},${y(mean + shift * (half || 0)).toFixed(1)}`);
  const chart = document.createElementNS(SVG, "svg");
  chart.setAttribute("class", "curve");
  chart.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  chart.setAttribute("preserveAspectRatio", "none");
  chart.append(shape("polygon", [...points(1), ...points(-1).reverse()]), shape("polyline", points(0)));
  return chart;
}

function shape(kind, points) {
  const node = document.createElementNS(SVG, kind);
  node.setAttribute("points", points.join(" "));
  return node;
}
