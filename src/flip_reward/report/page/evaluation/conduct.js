"use strict";
// The sections about how rewards behave: what they give, when they fail, what they cost, and how that was measured.

/** How the rewards of chosen and rejected responses are spread. */
function describeRewards(report, { cells }) {
  return [
    element(
      "p",
      { class: "note" },
      "Shares of the ",
      element("span", { class: "key chosen" }, "chosen"),
      " responses above the line and of the ",
      element("span", { class: "key rejected" }, "rejected"),
      " ones below it. AUC: how often a random chosen response of any item earns more than a " +
        "random rejected one, ties counting half.",
    ),
    element(
      "div",
      { class: "cards" },
      cells.map((cell) => {
        const label = nameOf(report, cell);
        const { distribution } = cell;
        if (!distribution)
          return element("figure", null, element("figcaption", null, label), paragraph("Nothing was scored."));
        const auc = distribution.auc === null ? "" : `AUC ${formatScore(distribution.auc)}`;
        const table = makeTable(
          `Rewards by ${label}`,
          ["Reward from", "to", "Chosen", "Rejected"],
          distribution.chosen.map((count, bin) => [
            String(+distribution.edges[bin].toPrecision(4)),
            String(+distribution.edges[bin + 1].toPrecision(4)),
            formatNumber(count),
            formatNumber(distribution.rejected[bin]),
          ]),
        );
        return makeFigure(
          [label, " ", element("small", null, auc)],
          makeChart(`Rewards of chosen and rejected responses by ${label}`, (width) =>
            drawDistribution(distribution, width),
          ),
          table,
        );
      }),
    ),
  ];
}

/** Whether accuracy hangs on how long the responses are. */
function describeLengths(report, { cells, chance }) {
  const series = (key, title, note) => {
    const all = cells.flatMap((cell) => cell[key]).filter(({ interval }) => interval);
    const domain = all.length ? spanOf([chance, ...all.flatMap(({ interval }) => interval)]) : [0, 1];
    return [
      element("h3", null, title),
      paragraph(note, { class: "note" }),
      element(
        "div",
        { class: "cards" },
        cells.map((cell) => {
          const label = nameOf(report, cell);
          if (!cell.overall.fractional)
            return element("figure", null, element("figcaption", null, label), paragraph(NO_VERDICT));
          const table = makeTable(
            `${title}: ${label}`,
            ["From", "to", "Items", "Right", "Accuracy", "95% interval"],
            cell[key].map(({ low, high, items, right, interval }) => [
              formatNumber(low),
              formatNumber(high),
              formatNumber(items),
              formatNumber(right),
              items ? formatPoints(right / items) : "–",
              interval ? formatInterval({ low: interval[0], high: interval[1] }) : "–",
            ]),
          );
          return makeFigure(
            label,
            makeChart(`${title}: ${label}`, () => drawFifths(cell[key], chance, domain)),
            table,
          );
        }),
      ),
    ];
  };
  return [
    ...series(
      "lengths",
      "By the mean length of the responses",
      "Fifths of the items, in characters. Ties count their share; unscored items are left out. Wilson intervals.",
    ),
    ...series(
      "length_differences",
      "By how much longer the chosen response is",
      "Characters of the chosen minus the rejected responses. A reward that prefers long responses rises from left to right.",
    ),
  ];
}

/** What became of the responses. */
function describeOutcomes(report, { cells }) {
  const totals = new Map();
  for (const cell of cells) {
    for (const [outcome, count] of Object.entries(cell.outcomes))
      totals.set(outcome, (totals.get(outcome) ?? 0) + count);
  }
  totals.delete("scored");
  const outcomes = ["scored", ...[...totals.keys()].sort((a, b) => totals.get(b) - totals.get(a))];
  const countAll = (cell) => Object.values(cell.outcomes).reduce((sum, count) => sum + count, 0);
  const rows = cells.map((cell) => ({
    label: nameOf(report, cell),
    counts: cell.outcomes,
    scored: (cell.outcomes.scored ?? 0) / (countAll(cell) || 1),
  }));
  return [
    paragraph("Of all responses. Only a scored one has a reward: a failure is never a low reward.", {
      class: "note",
    }),
    element(
      "div",
      { class: "pair" },
      makeChart("Share of each outcome by reward model", (width) =>
        drawOutcomes(rows, width, { outcomes, text: ({ scored }) => `${formatPercent(scored)} scored` }),
      ),
      makeTable(
        "Responses by outcome",
        ["Reward model", ...outcomes.map(nameWithShade)],
        cells.map((cell) => [
          nameOf(report, cell),
          ...outcomes.map((outcome) => formatNumber(cell.outcomes[outcome] ?? 0)),
        ]),
      ),
    ),
  ];
}

/** The name of an outcome beside the shade of its part in the chart. */
function nameWithShade(outcome, place) {
  const { colour, depth } = shadeOutcome(place);
  const shade = element("i", { class: "shade", style: `background: ${colour}; opacity: ${depth}` });
  return element("span", null, shade, formatName(outcome));
}

/** Tokens, cost and time for each right decision. */
function describeEffort(report, { cells }) {
  const each = (amount, right) => (right ? amount / right : 0);
  const rows = cells.map((cell) => ({
    label: nameOf(report, cell),
    first: each(cell.effort.tokens.prompt, cell.effort.right),
    second: each(cell.effort.tokens.completion, cell.effort.right),
  }));
  const priced = cells.some((cell) => cell.effort.cost !== null);
  const columns = [
    "Reward model",
    "Right decisions",
    "Prompt tokens each",
    "Completion tokens each",
    ...(priced ? ["Cost each"] : []),
    "Rewards/s",
    "Right decisions/s",
  ];
  const table = makeTable(
    "What a right decision costs",
    columns,
    cells.map(({ effort, ...cell }) => [
      nameOf(report, cell),
      formatNumber(effort.right),
      ...(effort.right
        ? [
            formatNumber(each(effort.tokens.prompt, effort.right)),
            formatNumber(each(effort.tokens.completion, effort.right)),
          ]
        : ["–", "–"]),
      ...(priced ? [effort.cost === null || !effort.right ? "–" : (effort.cost / effort.right).toPrecision(3)] : []),
      formatNumber(effort.rewards_per_second),
      formatNumber(effort.right_per_second),
    ]),
  );
  return [
    element(
      "p",
      { class: "note" },
      "Tokens for each right decision: ",
      element("span", { class: "key prompt" }, "prompt"),
      " and ",
      element("span", { class: "key chosen" }, "completion"),
      ". Replies from the response cache count as if they had been asked for.",
    ),
    element(
      "div",
      { class: "pair" },
      makeChart("Tokens for each right decision", (width) =>
        drawAmounts(rows, width, {
          text: ({ first, second }) => (first + second ? `${formatNumber(first)} + ${formatNumber(second)}` : "none"),
        }),
      ),
      table,
    ),
  ];
}
