"use strict";
// The charts of an evaluation; charts.js has what they are made of.

/** Shares as bars with their intervals, from 0 to 1. */
function drawBars(rows, width, { reference, text }) {
  const data = rows.map((row, index) => ({ ...row, row: index }));
  return {
    height: 40 * rows.length + 26,
    marginLeft: 2,
    marginRight: 2,
    marginTop: 4,
    marginBottom: 22,
    x: { domain: [0, 1], label: null, ticks: [0, 0.5, 1], tickSize: 0, tickFormat: (share) => `${share * 100}%` },
    y: rowScale(data),
    marks: [
      Plot.barX(data, { y: "row", x: "value", fill: "var(--accent)", insetTop: 21, insetBottom: 8, ry: 1 }),
      Plot.ruleY(data, { y: "row", x1: "low", x2: "high", stroke: "var(--ink)", strokeWidth: 1.5, dy: 6.5 }),
      Plot.ruleX([reference], { stroke: "var(--muted)", strokeDasharray: "3,3" }),
      ...rowLabels(data, width, { text }),
    ],
  };
}

/** Two histograms back to back: chosen responses above, rejected ones below, each as shares of its own. */
function drawDistribution({ edges, chosen, rejected, chosen_mean: chosenMean, rejected_mean: rejectedMean }, width) {
  const share = (counts) => {
    const total = counts.reduce((sum, count) => sum + count, 0) || 1;
    return counts.map((count, bin) => ({ from: edges[bin], to: edges[bin + 1], share: count / total }));
  };
  const above = share(chosen);
  const below = share(rejected);
  const top = Math.max(...above.map((bin) => bin.share), ...below.map((bin) => bin.share), 0.01) * 1.12;
  const mean = (value, color, sign) =>
    value === null
      ? []
      : [
          Plot.ruleX([value], { y1: 0, y2: sign * top, stroke: color, strokeWidth: 1.5 }),
          Plot.text([`mean ${value.toFixed(2).replace("-", "\u2212")}`], {
            x: value,
            y: sign * top,
            textAnchor: value > (edges[0] + edges.at(-1)) / 2 ? "end" : "start",
            dx: value > (edges[0] + edges.at(-1)) / 2 ? -5 : 5,
            dy: sign > 0 ? 5 : -5,
            fill: "var(--muted)",
            fontSize: 11,
            ...HALO,
          }),
        ];
  return {
    height: 190,
    marginLeft: 2,
    marginRight: 2,
    marginTop: 6,
    marginBottom: 22,
    x: { domain: [edges[0], edges.at(-1)], label: null, tickSize: 0, ticks: edges.length === 11 ? 10 : 5 },
    y: { domain: [-top, top], axis: null },
    marks: [
      Plot.rectY(above, { x1: "from", x2: "to", y: "share", fill: "var(--accent)", insetLeft: 0.5, insetRight: 0.5 }),
      Plot.rectY(below, {
        x1: "from",
        x2: "to",
        y: (bin) => -bin.share,
        fill: "var(--quiet)",
        insetLeft: 0.5,
        insetRight: 0.5,
      }),
      Plot.ruleY([0], { stroke: "var(--muted)" }),
      ...mean(chosenMean, "var(--ink)", 1),
      ...mean(rejectedMean, "var(--ink)", -1),
    ],
  };
}

/** Accuracy in the fifths of the items by length. */
function drawFifths(fifths, chance, domain) {
  const data = fifths
    .filter(({ interval }) => interval)
    .map((fifth) => ({
      ...fifth,
      label: nameFifth(fifth),
      share: fifth.right / fifth.items,
      from: fifth.interval[0],
      to: fifth.interval[1],
    }));
  return {
    height: 170,
    marginLeft: 34,
    marginRight: 2,
    marginTop: 8,
    marginBottom: 38,
    x: { type: "point", domain: data.map(({ label }) => label), label: null, tickSize: 0, padding: 0.4 },
    y: { domain, label: null, ticks: 4, tickSize: 0, tickFormat: (share) => `${Math.round(share * 100)}%` },
    marks: [
      Plot.gridY({ stroke: "var(--rule)", strokeOpacity: 1, ticks: 4 }),
      Plot.ruleY([chance], { stroke: "var(--muted)", strokeDasharray: "3,3" }),
      Plot.line(data, { x: "label", y: "share", stroke: "var(--accent)", strokeOpacity: 0.45 }),
      Plot.ruleX(data, {
        x: "label",
        y1: "from",
        y2: "to",
        stroke: "var(--accent)",
        strokeWidth: 7,
        strokeOpacity: 0.25,
      }),
      Plot.dot(data, {
        x: "label",
        y: "share",
        fill: "var(--accent)",
        stroke: "var(--page)",
        strokeWidth: 1.5,
        r: 4.5,
      }),
    ],
  };
}

function nameFifth({ low, high }) {
  return `${formatShort(low)}\nto ${formatShort(high)}`;
}

/** The colour and depth of the part of an outcome, by its place among them. The first is "scored". */
function shadeOutcome(place) {
  return place === 0
    ? { colour: "var(--accent)", depth: 0.3 }
    : { colour: "var(--ink)", depth: Math.max(0.25, 0.85 - 0.15 * (place - 1)) };
}

/** What became of the responses: a bar for each reward model, in parts. */
function drawOutcomes(rows, width, { outcomes, text }) {
  const data = rows.map((row, index) => ({ ...row, row: index }));
  const parts = data.flatMap((row) => {
    const total = outcomes.reduce((sum, outcome) => sum + (row.counts[outcome] ?? 0), 0) || 1;
    let start = 0;
    return outcomes.map((outcome, place) => {
      const share = (row.counts[outcome] ?? 0) / total;
      start += share;
      return { row: row.row, from: start - share, to: start, place };
    });
  });
  return {
    height: 40 * rows.length + 24,
    marginLeft: 2,
    marginRight: 2,
    marginTop: 4,
    marginBottom: 20,
    x: { domain: [0, 1], label: null, ticks: [0, 0.5, 1], tickSize: 0, tickFormat: (share) => `${share * 100}%` },
    y: rowScale(data),
    marks: [
      Plot.barX(parts, {
        y: "row",
        x1: "from",
        x2: "to",
        fill: ({ place }) => shadeOutcome(place).colour,
        fillOpacity: ({ place }) => shadeOutcome(place).depth,
        insetTop: 21,
        insetBottom: 8,
        insetRight: 0.5,
      }),
      ...rowLabels(data, width, { text }),
    ],
  };
}

/** Amounts as bars in two parts. */
function drawAmounts(rows, width, { text }) {
  const data = rows.map((row, index) => ({ ...row, row: index }));
  const most = Math.max(...rows.map(({ first, second }) => first + second), 1);
  return {
    height: 40 * rows.length + 8,
    marginLeft: 2,
    marginRight: 2,
    marginTop: 4,
    marginBottom: 4,
    x: { domain: [0, most], axis: null },
    y: rowScale(data),
    marks: [
      Plot.barX(data, {
        y: "row",
        x1: 0,
        x2: "first",
        fill: "var(--accent)",
        fillOpacity: 0.35,
        insetTop: 21,
        insetBottom: 8,
      }),
      Plot.barX(data, {
        y: "row",
        x1: "first",
        x2: (row) => row.first + row.second,
        fill: "var(--accent)",
        insetTop: 21,
        insetBottom: 8,
        insetLeft: 1,
      }),
      ...rowLabels(data, width, { text }),
    ],
  };
}
