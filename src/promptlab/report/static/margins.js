// Numbers over many images: mean and best score, pick rate, agreement, time, failures; as values, as
// small bars in the margins, and as colors of a heat map.

import { agreementOn } from "./agreement.js";
import { curveChart, curveText, makeCurves } from "./curves.js";
import { FAILED, FLAGGED } from "./data.js";
import { el } from "./dom.js";
import { isJudged, isPick, liking } from "./picks.js";
import { formatNumber, formatPercent } from "./text.js";

/** The numbers that this sheet has anything to say about: [key, label]. */
export function metricsOf(sheet, picks) {
  const metrics = [];
  for (const { name } of sheet.scores) {
    metrics.push([`score:${name}`, `mean ${name}`], [`best:${name}`, `best ${name}`]);
  }
  metrics.push(["picked", "pick rate"], ["rating", "rating"]);
  if (picks.isShared()) metrics.push(["agreed", "people agree"]);
  if (sheet.numbers.seconds.some((seconds) => seconds > 0)) metrics.push(["seconds", "s / image"]);
  if (sheet.numbers.cost_usd.some((cost) => cost > 0)) metrics.push(["cost", "cost, USD"]);
  if (sheet.status.some((status) => status === FAILED || status === FLAGGED)) metrics.push(["failed", "failed"]);
  return metrics;
}

/** Whether the lowest value of a number is its best. */
export function isLowBetter(sheet, metric) {
  const score = sheet.scores.find(({ name }) => metric === `score:${name}` || metric === `best:${name}`);
  return score ? !score.isHigherBetter : metric === "seconds" || metric === "cost" || metric === "failed";
}

/** Sums for `count` groups, in flat arrays: 50,000 rows are summed in milliseconds. */
export function makeStats(sheet, count) {
  const size = Math.max(1, count);
  const zeros = () => new Float64Array(size);
  const sums = { num: zeros(), failed: zeros(), picked: zeros(), judged: zeros(), rated: zeros(), ratings: zeros(), liked: zeros(), seconds: zeros(), agreed: zeros(), shared: zeros(), cost: zeros() };
  const scores = sheet.scores.map(({ name, values, isHigherBetter }) => ({
    name,
    values,
    isHigherBetter,
    sum: zeros(),
    num: zeros(),
    best: zeros().fill(isHigherBetter ? -Infinity : Infinity),
    curves: makeCurves(isHigherBetter),
  }));

  function add(group, row, picks) {
    const image = sheet.imageOf[row];
    const pick = picks.ofRow(row);
    sums.num[group] += 1;
    if (sheet.status[row] === FAILED || sheet.status[row] === FLAGGED) sums.failed[group] += 1;
    if (isJudged(pick)) sums.judged[group] += 1;
    if (isPick(pick, sheet.pick_rating)) sums.picked[group] += 1;
    sums.liked[group] += liking(pick);
    if (pick && pick.rating) {
      sums.rated[group] += 1;
      sums.ratings[group] += pick.rating;
    }
    sums.seconds[group] += sheet.numbers.seconds[row] || 0;
    const agreement = pick ? agreementOn(picks.saidOf(pick.image_id), sheet.pick_rating) : null;
    if (agreement !== null) {
      sums.agreed[group] += agreement;
      sums.shared[group] += 1;
    }
    sums.cost[group] += sheet.numbers.cost_usd[row] || 0;
    for (const score of scores) {
      const value = score.values[image];
      if (value === null || value === undefined) continue;
      score.sum[group] += value;
      score.num[group] += 1;
      score.curves.add(group, sheet.cellOf[row], value);
      if (score.isHigherBetter ? value > score.best[group] : value < score.best[group]) score.best[group] = value;
    }
  }

  function of(group) {
    const num = sums.num[group];
    const stats = {
      num,
      failed: sums.failed[group],
      numPicked: sums.picked[group],
      numJudged: sums.judged[group],
      numShared: sums.shared[group],
      liking: num ? sums.liked[group] / num : null,
      picked: sums.judged[group] ? sums.picked[group] / sums.judged[group] : null,
      rating: sums.rated[group] ? sums.ratings[group] / sums.rated[group] : null,
      seconds: num ? sums.seconds[group] / num : null,
      agreed: sums.shared[group] ? sums.agreed[group] / sums.shared[group] : null,
      cost: sums.cost[group], // of all images together, unlike the means beside it
    };
    for (const score of scores) {
      stats[`score:${score.name}`] = score.num[group] ? score.sum[group] / score.num[group] : null;
      stats[`best:${score.name}`] = score.num[group] ? score.best[group] : null;
      stats[`curve:${score.name}`] = score.curves.of(group);
    }
    return stats;
  }

  return { add, of };
}

export const metricValue = (stats, metric) => (stats[metric] === undefined ? null : stats[metric]);

/** A number as text; a rate says over how many images it is: "3 of 7", "75 % of 8". */
export function metricText(metric, stats) {
  const value = metricValue(stats, metric);
  if (value === null) return "–";
  if (metric === "picked") return `${stats.numPicked} of ${stats.numJudged}`;
  if (metric === "agreed") return `${formatPercent(value)} of ${stats.numShared}`;
  return formatNumber(value, metric === "cost" ? 4 : undefined);
}

/** Lowest and highest value of a metric over some stats; null if nobody has one. */
export function rangeOf(sheet, allStats, metric) {
  const score = sheet.scores.find(({ name }) => metric === `score:${name}` || metric === `best:${name}`);
  let low = Infinity;
  let high = -Infinity;
  for (const stats of allStats) {
    const value = metricValue(stats, metric);
    if (value === null) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (high < low) return null;
  if (metric === "picked" || metric === "agreed") return { low: 0, high: 1 };
  if (metric === "failed") low = Math.min(0, low);
  return score ? { low: Math.min(low, score.low), high: Math.max(high, score.high) } : { low, high };
}

/**
 * Ranges of every metric that differs somewhere, for the bars of one margin; `chosen` are metrics
 * that the person sorts or colors by: time is shown only then.
 */
export function marginRanges(sheet, picks, lines, chosen) {
  const ranges = [];
  for (const [metric, label] of metricsOf(sheet, picks)) {
    if (metric === "seconds" && !chosen.includes(metric)) continue;
    const range = rangeOf(sheet, lines.map((line) => line.stats), metric);
    if (range && (range.high > 0 || range.low < 0)) ranges.push({ metric, label, isLowBetter: isLowBetter(sheet, metric), ...range });
  }
  return ranges;
}

/** The bars of one row or column: one thin line a number, the longest being the largest. */
export function marginBars(ranges, stats) {
  const list = el("ul", { class: "bars" });
  for (const { metric, label, low, high, isLowBetter: isLow } of ranges) {
    const value = metricValue(stats, metric);
    const from = Math.min(0, low);
    const part = value === null || high === from ? 0 : (value - from) / (high - from);
    const curve = metric.startsWith("best:") ? stats[`curve:${metric.slice(5)}`] : [];
    const text = metricText(metric, stats);
    const bar = curve.length > 1 ? curveChart(curve, low, high) : el("i", { class: "bar" });
    bar.style.setProperty("--part", part.toFixed(4));
    const expected = curve.length > 1 ? `; expected best of N seeds ${curveText(curve)}` : "";
    const more = value === null ? "" : `${moreOf(metric, value, isLow)}${expected}`;
    list.append(
      el("li", { title: `${label}: ${text}${more}`, "data-metric": metric.split(":")[0] },
        el("span", { class: "bar-label", text: metric === "agreed" ? "agree" : label }),
        bar,
        el("span", { class: "bar-value", text }),
      ),
    );
  }
  return list;
}

/** What a number means, where its name does not say. */
function moreOf(metric, value, isLow) {
  if (metric === "picked") return ` (${formatPercent(value)} of the judged images)`;
  if (metric === "agreed") return " images that several people judged: the same ones are picks for them";
  return isLow ? " (lower is better)" : "";
}

/** Color of a share from 0 to 1: one hue, growing lighter; seen on dark and on light ground. */
export function heatColor(part) {
  const stops = [
    [96, 82, 190],
    [150, 76, 176],
    [206, 78, 130],
    [240, 116, 78],
    [252, 200, 84],
  ];
  const at = Math.min(0.9999, Math.max(0, part)) * (stops.length - 1);
  const i = Math.floor(at);
  const mixed = stops[i].map((c, k) => Math.round(c + (stops[i + 1][k] - c) * (at - i)));
  return { background: `rgb(${mixed.join(" ")})`, isLight: part > 0.45 };
}

/** The numbers of one cell's rows. */
export function cellStats(sheet, picks, members) {
  const stats = makeStats(sheet, 1);
  for (const row of members) stats.add(0, row, picks);
  return stats.of(0);
}
