"use strict";
// Curves over the steps, what changed between two of them, and alarms. Each function returns what a section shows.

const HELD_OUT_COLOUR = "var(--second)";
const COLOURS = ["var(--accent)", "var(--third)", "var(--muted)"];
const MOST_DOTS = 40; // points of a curve that are drawn as such
const LABEL_ROOM = 64; // pixels that the label of an alarm takes

/** The rewards and what the policy may have gamed them by: in words, in figures, and as curves. */
function describePolicy(report) {
  return [
    paragraph(describeCourse(report), { class: "finding" }),
    ...describeFigures(report, "policy"),
    ...describeChanges(report),
  ];
}

/** Say what a training amounts to so far. */
function describeCourse({ comparison, alarms, alarms_total: total, figures }) {
  const reward = comparison?.changes.find(({ title }) => title === "Reward");
  const line = figures.find(({ title }) => title === "Reward")?.curves[0].line ?? [];
  const [before, after] = reward ? [reward.before, reward.after] : [line[0], line.at(-1)];
  const whose = comparison?.split === "held-out" ? " of held-out prompts" : "";
  const parts = [
    before && after && before[0] < after[0]
      ? `The mean reward${whose} went from ${spellPoint("free", before)} at step ${formatNumber(before[0])} ` +
        `to ${spellPoint("free", after)} at step ${formatNumber(after[0])}.`
      : "There are not yet two steps to compare.",
  ];
  if (total) parts.push(`${formatCount(total, "alarm")}, ${total > 1 ? "the first " : ""}at step ${formatNumber(alarms[0].step)}.`);
  else if (figures.some(({ section }) => section === "watched")) parts.push("No alarm was raised.");
  return parts.join(" ");
}

/** The figures of two steps beside each other. */
function describeChanges({ comparison, runs }) {
  if (!comparison) return [];
  const { split, before, after, changes } = comparison;
  const whose = split === "held-out" ? "the same held-out prompts" : "the prompts that were learned from in these steps";
  return [
    element("h3", null, "Before and after"),
    paragraph(
      `Means over ${whose}${runs.length > 1 ? ", of all trainings" : ""}, with 95% intervals over prompts where there are enough.`,
      { class: "note" },
    ),
    makeTable(
      "Figures before and after",
      ["", `Step ${formatNumber(before)}`, `Step ${formatNumber(after)}`],
      changes.map((change) => [
        change.title,
        ...[change.before, change.after].map((point) => (point ? spellPoint(change.scale, point) : "–")),
      ]),
    ),
  ];
}

/** The curves of a section. */
function describeFigures(report, section) {
  const figures = report.figures.filter((figure) => figure.section === section);
  if (!figures.length) return [];
  return [element("div", { class: "cards" }, figures.map((figure) => makeCurves(report, figure)))];
}

function makeCurves(report, figure) {
  const { title, about, curves } = figure;
  const several = curves.some(({ runs }) => runs.length);
  const keys = curves.length > 1 || curves.some(({ name }) => name === "held out") ? curves.map(makeKey) : [];
  return element(
    "figure",
    { class: "curves" },
    element("figcaption", null, title, keys.length ? element("span", { class: "legend" }, keys) : null),
    makeChart(`${title}, by step${several ? ": the mean of all trainings, and each" : ""}`, (width) =>
      drawCurves(report, figure, width),
    ),
    about ? paragraph(about, { class: "note" }) : null,
    makeLazyTable(figure),
  );
}

function makeKey(curve, place) {
  return element("span", { class: "key", style: `border-color: ${colourOf(curve, place)}` }, curve.name);
}

function colourOf({ name }, place) {
  return name === "held out" ? HELD_OUT_COLOUR : COLOURS[place % COLOURS.length];
}

/** A table of a figure, made when it is opened: pages of long trainings have many values. */
function makeLazyTable({ title, scale, curves }) {
  const details = makeDetails("Table");
  const fill = () => {
    const known = curves.map(({ line }) => new Map(line.map((point) => [point[0], point])));
    const steps = [...new Set(curves.flatMap(({ line }) => line.map(([step]) => step)))].sort((a, b) => a - b);
    const spell = (point) => (point ? spellPoint(scale, point) : "–");
    const rows = steps.map((step) => [formatNumber(step), ...known.map((points) => spell(points.get(step)))]);
    details.append(makeTable(title, ["Step", ...curves.map(({ name }) => name)], rows));
  };
  details.addEventListener("toggle", fill, { once: true });
  return details;
}

/** A point of a curve -> "31.2% (25.0% to 37.0%)" */
function spellPoint(scale, [, value, low, high]) {
  const spell = scale === "share" ? formatPercent : Math.abs(value) < 100 ? formatScore : formatNumber;
  return isNumber(low) ? `${spell(value)} (${spell(low)} to ${spell(high)})` : spell(value);
}

/** Where an axis begins and ends, for values of a scale. */
function domainOf(scale, values) {
  const low = least(values);
  const high = most(values);
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  switch (scale) {
    case "share":
      return [0, high > 0.25 ? 1 : Math.max(high + room, 0.01)]; // a small share would lie on the axis
    case "amount":
      return [0, high + room];
    case "signed":
      return [Math.min(low - room, 0), Math.max(high + room, 0)];
    default:
      return [low >= 0 && low < high / 2 ? 0 : low - room, high <= 0 && high > low / 2 ? 0 : high + room];
  }
}

/** The steps of all figures, so that the same step stands at the same place in each. */
function stepsOf({ figures, alarms }) {
  const steps = figures.flatMap(({ curves }) => curves.flatMap(({ line, runs }) => [line, ...runs].flatMap(endsOf)));
  steps.push(...alarms.map(({ step }) => step));
  const [first, last] = [least(steps), most(steps)];
  return first < last ? [first, last] : [first - 1, last + 1];
}

function endsOf(points) {
  return points.length ? [points[0][0], points.at(-1)[0]] : [];
}

/** Curves over the steps, each with its interval; of several trainings a thin line each, and their mean. */
function drawCurves(report, { scale, curves }, width) {
  const drawn = curves.map((curve, place) => ({ ...curve, colour: colourOf(curve, place) }));
  const values = drawn.flatMap(({ line, runs }) => [
    ...line.flatMap(([, ...numbers]) => numbers.filter(isNumber)),
    ...runs.flat().map(([, value]) => value),
  ]);
  return {
    height: 190,
    marginLeft: 44,
    marginRight: 10,
    marginTop: 18,
    marginBottom: 34,
    x: {
      domain: stepsOf(report),
      label: "step",
      labelArrow: "none",
      tickSize: 0,
      ticks: Math.max(2, width / 90),
      tickFormat: (step) => (Number.isInteger(step) ? formatNumber(step) : ""),
    },
    y: {
      domain: domainOf(scale, values),
      label: null,
      tickSize: 0,
      ticks: 4,
      tickFormat: (value) => (scale === "share" ? signed(`${+(100 * value).toPrecision(3)}%`) : formatNumber(value)),
    },
    marks: [
      Plot.gridY({ stroke: "var(--rule)", strokeOpacity: 1, ticks: 4 }),
      scale === "signed" || scale === "free" ? Plot.ruleY([0], { stroke: "var(--muted)", clip: true }) : null,
      ...drawAlarms(report, width),
      ...drawn.flatMap(drawCurve),
      drawValues(scale, drawn),
    ],
  };
}

function drawCurve({ line, runs, colour }) {
  const place = { x: "0", y: "1" };
  const estimated = line.filter(([, , low]) => isNumber(low));
  return [
    Plot.areaY(estimated, { x: "0", y1: "2", y2: "3", fill: colour, fillOpacity: 0.18, clip: true }),
    ...runs.map((run) => Plot.line(run, { ...place, stroke: colour, strokeWidth: 0.8, strokeOpacity: 0.55 })),
    Plot.line(line, { ...place, stroke: colour, strokeWidth: 1.8 }),
    line.length <= MOST_DOTS ? Plot.dot(line, { ...place, fill: colour, r: 2.4 }) : null,
  ];
}

/** Mark the steps of alarms, with as many labels as there is room for. */
function drawAlarms({ alarms, figures }, width) {
  const steps = [...new Set(alarms.map(({ step }) => step))].sort((a, b) => a - b);
  if (!steps.length) return [];
  const [first, last] = stepsOf({ alarms, figures });
  let reached = -Infinity;
  const labelled = steps.filter((step) => {
    const place = ((step - first) / (last - first)) * width;
    if (place < reached + LABEL_ROOM) return false;
    reached = place;
    return true;
  });
  const label = (anchor, some) =>
    Plot.text(some, {
      x: (step) => step,
      text: (step) => `alarm ${formatNumber(step)}`,
      frameAnchor: "top",
      textAnchor: anchor,
      dy: -13,
      fill: "var(--alarm)",
      fontSize: 11,
    });
  const onTheRight = (step) => step - first > (last - first) * 0.8;
  return [
    Plot.ruleX(steps, { stroke: "var(--alarm)", strokeDasharray: "4,3" }),
    label("start", labelled.filter((step) => !onTheRight(step))),
    label("end", labelled.filter(onTheRight)),
  ];
}

/** What the pointer shows: all curves at the nearest step. */
function drawValues(scale, curves) {
  const found = new Map();
  for (const { name, line, runs } of curves) {
    for (const point of line) {
      const one = found.get(point[0]) ?? { step: point[0], value: point[1], said: [`step ${formatNumber(point[0])}`] };
      one.said.push(`${curves.length > 1 || runs.length ? `${name}${runs.length ? ", mean" : ""} ` : ""}${spellPoint(scale, point)}`);
      found.set(point[0], one);
    }
  }
  return Plot.tip(
    [...found.values()],
    Plot.pointerX({
      x: "step",
      y: "value",
      title: ({ said }) => said.join("\n"),
      fill: "var(--raised)",
      stroke: "var(--rule)",
      fontSize: 12,
    }),
  );
}

/** What was said about steps, with the samples that gained most. */
function describeAlarms(report) {
  const { alarms, alarms_total: total, figures, runs } = report;
  if (!alarms.length) {
    const watched = figures.some(({ section }) => section === "watched");
    return watched ? [paragraph("None: nothing that was watched explains a reward that rises away from the others.")] : [];
  }
  const samples = new Map(report.samples.map((sample) => [sample.id, sample]));
  return [
    paragraph(
      "An alarm says that the trained reward rose away from those that are not trained on, while something else changed that " +
        "can explain it. The samples below an alarm gained most by it." +
        (alarms.length < total ? ` The first ${formatNumber(alarms.length)} of ${formatNumber(total)} are shown.` : ""),
      { class: "note" },
    ),
    ...alarms.map(({ step, run, onset, mechanism, divergence, message, examples }) =>
      element(
        "section",
        { class: "alarm", "aria-label": `Alarm of step ${step}` },
        element("h3", null, `Step ${formatNumber(step)}: ${mechanism}${runs.length > 1 ? `, ${runs[run]}` : ""}`),
        paragraph(showControls(message)),
        paragraph(`Since step ${formatNumber(onset)}, by ${formatNumber(divergence)} standard deviations.`, { class: "note" }),
        element(
          "ul",
          { class: "examples" },
          examples.map((id) => element("li", null, makeExample(report, samples.get(id)))),
        ),
      ),
    ),
  ];
}

function makeExample({ texts, open }, sample) {
  const button = element(
    "button",
    { type: "button", class: "plain", dir: "auto" },
    showControls(texts[sample.response].slice(0, 160)).trim() || "an empty response",
  );
  button.addEventListener("click", () => open(sample.id));
  return [element("span", { class: "value" }, describeReward(sample)), " ", button];
}
