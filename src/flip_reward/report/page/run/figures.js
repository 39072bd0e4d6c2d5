"use strict";
// The sections of a run. Each function returns what one of them shows.

/** What a bar of the histogram holds: "0.10 to 0.15", or a rating. */
function nameBar(edges, bin) {
  if (isRating(edges)) return String(edges[bin] + 0.5);
  return `${spellEdge(edges[bin])} to ${spellEdge(edges[bin + 1])}`;
}

function isRating(edges) {
  return edges[0] === 0.5 && edges.length === 11;
}

function spellEdge(edge) {
  return signed(String(Number(edge.toPrecision(3))));
}

/** The rewards: in words, as a histogram and in figures. `choose(bar)` shows the samples of a bar. */
function describeRewards(report, choose) {
  const { histogram, quartiles } = report;
  const finding = paragraph(describeFinding(report), { class: "finding" });
  if (!histogram) return [finding];
  const unscored = report.responses - histogram.counts.reduce((sum, count) => sum + count, 0);
  const figures = makeTable(
    "Rewards",
    ["Of the rewards", ""],
    [
      ["Mean", quartiles.mean],
      ["Minimum", quartiles.minimum],
      ["First quartile", quartiles.first_quartile],
      ["Median", quartiles.median],
      ["Third quartile", quartiles.third_quartile],
      ["Maximum", quartiles.maximum],
    ].map(([name, value]) => [name, formatScore(value)]),
  );
  const bars = makeTable(
    "Responses by reward",
    ["Reward", "Responses"],
    [
      ...histogram.counts.map((count, bin) => [nameBar(histogram.edges, bin), formatNumber(count)]),
      ["no reward", formatNumber(unscored)],
    ],
  );
  return [
    finding,
    element(
      "div",
      { class: "pair" },
      element(
        "figure",
        null,
        element("figcaption", null, "Responses by reward"),
        drawHistogram(histogram, unscored, choose),
        makeDetails("Table", bars),
      ),
      element(
        "div",
        null,
        figures,
        paragraph(
          "A bar shows its responses among the samples. Half of the rewards lie between the first and the third quartile. " +
            "A response without a reward stands apart and counts in none of these figures: a failure is never a low reward.",
          { class: "note" },
        ),
      ),
    ),
  ];
}

/** Say what a run amounts to. */
function describeFinding({ responses, groups, unit, outcomes, quartiles, selected }) {
  const scored = outcomes.find(({ name }) => name === "scored")?.count ?? 0;
  const all = scored === responses ? `All ${formatCount(responses, "response")} are scored` : null;
  const parts = [
    quartiles
      ? `${all ?? `${formatNumber(scored)} of ${formatCount(responses, "response")} are scored`}, with a mean reward of ` +
        `${formatScore(quartiles.mean)}; half of them lie between ${formatScore(quartiles.first_quartile)} and ${formatScore(quartiles.third_quartile)}.`
      : responses
        ? `None of ${formatCount(responses, "response")} is scored.`
        : "There are no responses yet.",
  ];
  if (groups < responses) parts.push(`They belong to ${formatCount(groups, unit)}.`);
  if (selected) {
    parts.push(
      `In ${formatNumber(selected.groups - selected.undecided)} of ${formatCount(selected.groups, unit)} a response is chosen` +
        (selected.tied ? `, in ${formatNumber(selected.tied)} of them among equals by the rule “${selected.tie_rule}”.` : "."),
    );
    if (selected.undecided) parts.push(`In ${formatNumber(selected.undecided)} nothing could be decided.`);
  }
  return parts.join(" ");
}

/** Bars that can be pressed, by keyboard, too; what has no reward stands apart. */
function drawHistogram({ edges, counts }, unscored, choose) {
  const most = Math.max(...counts, unscored, 1);
  const makeBar = (key, name, count) => {
    const label = `${name}: ${formatCount(count, "response")}`;
    const bar = element(
      "button",
      { type: "button", "data-bar": key, "aria-label": label, title: label, "aria-pressed": "false" },
      element("span", { style: `height: ${count ? Math.max(1, (100 * count) / most) : 0}%` }),
    );
    bar.addEventListener("click", () => choose(bar.getAttribute("aria-pressed") === "true" ? "" : key));
    return bar;
  };
  const ticks = isRating(edges)
    ? counts.map((_, bin) => [(bin + 0.5) / counts.length, bin + 1])
    : [0, 0.25, 0.5, 0.75, 1].map((share) => [share, spellEdge(edges[0] + share * (edges.at(-1) - edges[0]))]);
  return element(
    "div",
    { class: "histogram", role: "group", "aria-label": "Responses by reward" },
    element("div", { class: "bars" }, counts.map((count, bin) => makeBar(String(bin), nameBar(edges, bin), count))),
    unscored ? element("div", { class: "bars apart" }, makeBar("none", "No reward", unscored)) : null,
    element(
      "div",
      { class: "ticks", "aria-hidden": "true" },
      ticks.map(([share, label]) => element("span", { style: `left: ${100 * share}%` }, String(label))),
    ),
    unscored ? element("div", { class: "ticks apart", "aria-hidden": "true" }, "none") : null,
  );
}

/** Show which bar is chosen. */
function pressBar(key) {
  for (const bar of document.querySelectorAll(".histogram button"))
    bar.setAttribute("aria-pressed", String(bar.dataset.bar === key));
}

/** What became of the responses, and which rewards have low confidence. `choose(filter, name)` shows those samples. */
function describeOutcomes({ outcomes, cautions, responses }, choose) {
  const list = (caption, title, filter, counts) =>
    makeTable(
      caption,
      [title, "Responses", "Share", "What it means"],
      counts.map(({ name, count, meaning }) => {
        const button = element("button", { type: "button", class: "plain" }, formatName(name));
        button.addEventListener("click", () => choose(filter, name));
        return [button, formatNumber(count), formatPercent(count / responses), meaning];
      }),
      { left: [0, 3] },
    );
  if (!responses) return [paragraph("There are none yet.")];
  return [
    list("Responses by outcome", "Outcome", "outcome", outcomes),
    ...(cautions.length
      ? [
          element("h3", null, "Cautions"),
          paragraph("Rewards of low confidence: the model can hardly tell which instruction such a response answers.", {
            class: "note",
          }),
          list("Responses by caution", "Caution", "caution", cautions),
        ]
      : []),
  ];
}

function describeEffort({ effort }) {
  return [
    element(
      "dl",
      { class: "facts" },
      effort.map(([name, value]) => element("div", null, element("dt", null, name), element("dd", null, value))),
    ),
  ];
}

/** The rows that could not be scored, and why. */
function describeRejected({ rejected, rejected_rows: total }) {
  if (!total) return [paragraph("Every row could be read.")];
  const all = rejected.length === total ? "" : ` The first ${formatNumber(rejected.length)} are shown.`;
  return [
    paragraph(`${formatCount(total, "row")} could not be scored.${all}`, { class: "note" }),
    makeTable(
      "Rejected rows",
      ["Input", "Line", "Reason"],
      rejected.map(({ input, line, reason }) => [input, formatNumber(line), reason]),
      { left: [0, 2] },
    ),
  ];
}
