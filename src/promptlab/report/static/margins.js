// Numbers over many images: mean and best score, pick rate, time, failures; as values, as small
// bars in the margins, and as colors of a heat map.

/** The numbers that this sheet has anything to say about: [key, label, isBetterWhenLow]. */
function metricsOf(sheet) {
  const metrics = [];
  for (const { name } of sheet.scores) {
    metrics.push([`score:${name}`, `mean ${name}`], [`best:${name}`, `best ${name}`]);
  }
  metrics.push(["picked", "pick rate"], ["rating", "rating"]);
  if (sheet.numbers.seconds.some((seconds) => seconds > 0)) metrics.push(["seconds", "s / image"]);
  metrics.push(["failed", "failed"]);
  return metrics;
}

/** Sums for `count` groups, in flat arrays: 50,000 rows are summed in milliseconds. */
function makeStats(sheet, count) {
  const size = Math.max(1, count);
  const zeros = () => new Float64Array(size);
  const sums = { num: zeros(), failed: zeros(), picked: zeros(), rated: zeros(), ratings: zeros(), seconds: zeros() };
  const scores = sheet.scores.map(({ name, values }) => ({
    name,
    values,
    sum: zeros(),
    num: zeros(),
    best: zeros().fill(-Infinity),
  }));

  function add(group, row, picks) {
    const image = sheet.imageOf[row];
    const pick = picks.ofRow(row);
    sums.num[group] += 1;
    if (sheet.status[row] !== OK) sums.failed[group] += 1;
    if (isPicked(pick)) sums.picked[group] += 1;
    if (pick && pick.rating) {
      sums.rated[group] += 1;
      sums.ratings[group] += pick.rating;
    }
    sums.seconds[group] += sheet.numbers.seconds[row] || 0;
    for (const score of scores) {
      const value = score.values[image];
      if (value === null || value === undefined) continue;
      score.sum[group] += value;
      score.num[group] += 1;
      if (value > score.best[group]) score.best[group] = value;
    }
  }

  function of(group) {
    const num = sums.num[group];
    const stats = {
      num,
      failed: sums.failed[group],
      picked: num ? sums.picked[group] / num : null,
      rating: sums.rated[group] ? sums.ratings[group] / sums.rated[group] : null,
      seconds: num ? sums.seconds[group] / num : null,
    };
    for (const score of scores) {
      stats[`score:${score.name}`] = score.num[group] ? score.sum[group] / score.num[group] : null;
      stats[`best:${score.name}`] = score.num[group] ? score.best[group] : null;
    }
    return stats;
  }

  return { add, of };
}

const metricValue = (stats, metric) => (stats[metric] === undefined ? null : stats[metric]);

const metricText = (metric, value) =>
  value === null ? "–" : metric === "picked" ? formatPercent(value) : formatNumber(value);

/** Lowest and highest value of a metric over some stats; null if nobody has one. */
function rangeOf(allStats, metric) {
  let low = Infinity;
  let high = -Infinity;
  for (const stats of allStats) {
    const value = metricValue(stats, metric);
    if (value === null) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (metric === "picked" || metric === "failed") low = Math.min(0, low);
  return high < low ? null : { low, high };
}

/** Ranges of every metric that differs somewhere, for the bars of one margin. */
function marginRanges(sheet, lines) {
  const ranges = [];
  for (const [metric, label] of metricsOf(sheet)) {
    const range = rangeOf(lines.map((line) => line.stats), metric);
    if (range && (range.high > 0 || range.low < 0)) ranges.push({ metric, label, ...range });
  }
  return ranges;
}

/** The bars of one row or column: one thin line a number, the longest being the largest. */
function marginBars(ranges, stats) {
  const list = el("ul", { class: "bars" });
  for (const { metric, label, low, high } of ranges) {
    const value = metricValue(stats, metric);
    const from = Math.min(0, low);
    const part = value === null || high === from ? 0 : (value - from) / (high - from);
    const bar = el("i", { class: "bar" });
    bar.style.setProperty("--part", part.toFixed(4));
    list.append(
      el("li", { title: `${label}: ${metricText(metric, value)}`, "data-metric": metric.split(":")[0] },
        el("span", { class: "bar-label", text: label }),
        bar,
        el("span", { class: "bar-value", text: metricText(metric, value) }),
      ),
    );
  }
  return list;
}

/** Color of a share from 0 to 1: one hue, growing lighter; readable on dark and on light. */
function heatColor(part) {
  const stops = [
    [38, 30, 74],
    [92, 42, 118],
    [170, 60, 108],
    [232, 104, 72],
    [250, 196, 84],
  ];
  const at = Math.min(0.9999, Math.max(0, part)) * (stops.length - 1);
  const i = Math.floor(at);
  const mixed = stops[i].map((c, k) => Math.round(c + (stops[i + 1][k] - c) * (at - i)));
  return { background: `rgb(${mixed.join(" ")})`, isLight: part > 0.62 };
}

/** Mean of a metric over one cell's rows. */
function cellMetric(sheet, picks, members, metric) {
  const stats = makeStats(sheet, 1);
  for (const row of members) stats.add(0, row, picks);
  return metricValue(stats.of(0), metric);
}
