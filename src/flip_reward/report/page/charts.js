"use strict";
// Every chart is drawn by Observable Plot at the width it has, and again when that changes. What a chart shows is also
// in a table, so for a screen reader it is one picture with a name.

const CHART_STYLE = {
  background: "none",
  color: "inherit",
  fontFamily: "inherit",
  fontSize: "12px",
  overflow: "visible",
};

const HALO = { stroke: "var(--page)", strokeWidth: 4 }; // keeps text readable above lines

/** Make a place for a chart. `draw` gets the width in pixels and returns what Plot needs. */
function makeChart(label, draw) {
  const place = element("div", { class: "chart" });
  let drawn = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width === drawn || width === 0) return;
    drawn = width;
    const chart = Plot.plot({ width, style: CHART_STYLE, ...draw(width) });
    chart.setAttribute("role", "img");
    chart.setAttribute("aria-label", label);
    for (const part of chart.children) part.setAttribute("aria-hidden", "true");
    place.replaceChildren(chart);
  }).observe(place);
  return place;
}

/** Make a titled chart with its table, closed. */
function makeFigure(title, chart, table) {
  return element(
    "figure",
    null,
    element("figcaption", null, title),
    chart,
    table ? makeDetails("Table", table) : null,
  );
}

/** A range that holds all values, with a little room. */
function spanOf(values, { least = 0, room = 0.06 } = {}) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const margin = Math.max(high - low, least) * room;
  return [low - margin, high + margin];
}

/** The parts of a row whose label stands above its mark, so that long names fit a phone. */
function rowLabels(rows, width, { text }) {
  const taken = 14 + 6.6 * Math.max(...rows.map((row) => text(row).length));
  return [
    Plot.text(rows, {
      y: "row",
      text: "label",
      frameAnchor: "left",
      textAnchor: "start",
      dy: -11,
      fontWeight: 500,
      fill: "var(--ink)",
      ...HALO,
      lineWidth: Math.max(6, (width - taken) / 13),
      textOverflow: "ellipsis",
    }),
    Plot.text(rows, {
      y: "row",
      text,
      frameAnchor: "right",
      textAnchor: "end",
      dy: -11,
      fill: "var(--muted)",
      ...HALO,
    }),
  ];
}

function rowScale(rows) {
  return { type: "band", domain: rows.map((_, row) => row), axis: null, padding: 0 };
}

/**
 * Estimates below one another, each a point with its interval.
 *
 * @param {{label: string, value: number, low: number, high: number, other?: number}[]} rows `other` is a second point,
 *   a hollow one.
 * @param {{reference: number, referenceLabel: string, domain: number[], text: Function, tick: Function}} options
 */
function drawIntervals(rows, width, { reference, referenceLabel, domain, text, tick }) {
  const data = rows.map((row, index) => ({ ...row, row: index }));
  return {
    height: 46 * rows.length + 44,
    marginLeft: 2,
    marginRight: 2,
    marginTop: 18,
    marginBottom: 26,
    x: { domain, label: null, tickFormat: tick, ticks: Math.max(3, width / 110), tickSize: 0 },
    y: rowScale(data),
    marks: [
      Plot.gridX({ stroke: "var(--rule)", strokeOpacity: 1, ticks: Math.max(3, width / 110) }),
      Plot.ruleX([reference], { stroke: "var(--muted)", strokeDasharray: "3,3" }),
      Plot.text([referenceLabel], { x: reference, frameAnchor: "top", dy: -15, fill: "var(--muted)", fontSize: 11 }),
      Plot.ruleY(data, {
        y: "row",
        x1: "low",
        x2: "high",
        stroke: "var(--accent)",
        strokeWidth: 7,
        strokeOpacity: 0.25,
        dy: 8,
      }),
      Plot.dot(
        data.filter((row) => isNumber(row.other)),
        { y: "row", x: "other", fill: "var(--page)", stroke: "var(--accent)", strokeWidth: 1.5, r: 4, dy: 8 },
      ),
      Plot.dot(data, {
        y: "row",
        x: "value",
        fill: "var(--accent)",
        stroke: "var(--page)",
        strokeWidth: 1.5,
        r: 5,
        dy: 8,
      }),
      ...rowLabels(data, width, { text }),
    ],
  };
}

function asRow(label, estimate) {
  return { label, value: estimate.value, low: estimate.low, high: estimate.high };
}

const NO_VERDICT = "no verdict";

/** A share with its interval below it; none where nothing was scored. */
function showEstimate(estimate, format = formatPoints, none = NO_VERDICT) {
  if (!estimate) return none;
  return element(
    "span",
    null,
    format(estimate.value),
    " ",
    element("small", null, `${format(estimate.low)} to ${format(estimate.high)}`),
  );
}
