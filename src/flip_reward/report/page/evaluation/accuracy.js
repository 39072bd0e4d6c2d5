"use strict";
// The sections about accuracy. Each function returns what a section shows of one benchmark.

/** What a cell's reward model is called. */
function nameOf(report, cell) {
  return report.names.get(report.rewards[cell.reward].label);
}

function asRow(label, estimate) {
  return { label, value: estimate.value, low: estimate.low, high: estimate.high };
}

const NO_VERDICT = "no verdict";
const RULES =
  "Fractional: a tie among k counts 1/k, and an item with an unscored response counts as chance. Strict: ties and unscored items are " +
  "wrong. The next two columns are fractional, with unscored items left out or as wrong. Below each is its 95% interval over items.";

/** Accuracy of every reward model: the finding in words, a chart and the table. */
function describeResults(report, benchmark) {
  const { cells, chance } = benchmark;
  if (!cells.length) return [paragraph("No reward model was run on this benchmark to its end.")];
  const answered = cells.filter((cell) => cell.overall.fractional);
  const silent = cells.filter((cell) => !cell.overall.fractional);
  answered.sort((a, b) => b.overall.fractional.value - a.overall.fractional.value);
  const ranked = [...answered, ...silent];
  const rows = answered.map((cell) => ({
    ...asRow(nameOf(report, cell), cell.overall.fractional),
    other: cell.overall.strict.value,
  }));
  const domain = spanOf([chance, ...rows.flatMap(({ low, high, other }) => [low, high, other])]);
  const chart = makeChart("Accuracy of each reward model with its 95% interval", (width) =>
    drawIntervals(rows, width, {
      reference: chance,
      referenceLabel: "chance",
      domain,
      tick: (share) => `${Math.round(share * 100)}%`,
      text: ({ value, low, high }) => `${formatPercent(value)}  (${formatInterval({ low, high })})`,
    }),
  );
  const flips = ranked.some((cell) => cell.order_flips);
  const columns = [
    "Reward model",
    "Fractional",
    "Strict",
    "Unscored left out",
    "Unscored wrong",
    "Unscored items",
    ...(flips ? ["Order decides"] : []),
  ];
  const table = makeTable(
    "Accuracy under each rule, in percent",
    columns,
    ranked.map((cell) => {
      const { fractional, strict, excluded, as_wrong: asWrong, unscored_items: unscored } = cell.overall;
      return [
        nameOf(report, cell),
        showEstimate(fractional),
        showEstimate(strict),
        showEstimate(excluded),
        showEstimate(asWrong),
        formatNumber(unscored),
        ...(flips ? [describeFlips(cell.order_flips)] : []),
      ];
    }),
  );
  return [
    paragraph(describeFinding(report, benchmark, answered, silent), { class: "finding" }),
    element(
      "div",
      { class: "pair" },
      answered.length
        ? element("div", null, chart, element("p", { class: "legend" }, "● fractional, with its interval  ○ strict"))
        : null,
      element("div", null, table, paragraph(RULES, { class: "note" })),
    ),
    describeProtocol(report, benchmark, ranked),
  ];
}

/** A share with its interval below it; none where nothing was scored. */
function showEstimate(estimate, format = formatPoints) {
  if (!estimate) return NO_VERDICT;
  return element(
    "span",
    null,
    format(estimate.value),
    " ",
    element("small", null, `${format(estimate.low)} to ${format(estimate.high)}`),
  );
}

function describeFlips(flips) {
  return flips
    ? element(
        "span",
        null,
        formatPercent(flips.rate),
        " ",
        element("small", null, `of ${formatCount(flips.pairs, "pair")}`),
      )
    : "–";
}

/** Say who is ahead; "better" only where the comparison says so. Who never answered is nowhere. */
function describeFinding(report, { comparisons, chance }, [best], silent) {
  const without = silent.length
    ? ` ${formatList(silent.map((cell) => nameOf(report, cell)))}: ${NO_VERDICT}, as no item was scored.`
    : "";
  if (!best) return without.trim();
  const { fractional, strict } = best.overall;
  const lead =
    `${nameOf(report, best)} decides ${formatPercent(fractional.value)} of ${formatCount(fractional.n, "item")} rightly ` +
    `(95% interval ${formatInterval(fractional)}; chance ${formatPercent(chance)}), and ${formatPercent(strict.value)} where ties are wrong.`;
  const { label } = report.rewards[best.reward];
  const mine = comparisons.filter(({ a, b }) => a === label || b === label);
  const namesOf = (pairs) => formatList(pairs.map(({ a, b }) => report.names.get(a === label ? b : a)));
  const better = mine.filter(({ a, verdict }) => verdict === (a === label ? "a better" : "b better"));
  const open = mine.filter(({ verdict }) => verdict === "not told apart");
  return [
    lead,
    better.length ? ` On the same items it is better than ${namesOf(better)}.` : "",
    open.length ? ` It cannot be told apart from ${namesOf(open)}.` : "",
    without,
  ].join("");
}

/** The figures that a benchmark's own protocol defines. */
function describeProtocol(report, { protocol }, cells) {
  const notes = new Map(cells.flatMap((cell) => cell.figures.map(({ name, note }) => [name, note])));
  if (!notes.size) return null;
  const table = makeTable(
    `Figures of ${protocol}, in percent`,
    ["Figure", ...cells.map((cell) => nameOf(report, cell))],
    [...notes].map(([name, note]) => [
      element("span", null, name, element("small", { class: "under" }, note)),
      ...cells.map((cell) => {
        const figure = cell.figures.find((one) => one.name === name);
        return figure ? showEstimate(figure) : "–";
      }),
    ]),
  );
  return element("div", { class: "protocol" }, element("h3", null, `As the authors of ${protocol} report it`), table);
}

/** Accuracy in each subset. */
function describeSubsets(report, { cells, subsets, chance }) {
  const parts = subsets.map(({ name, items }) => ({
    name,
    items,
    rows: cells.flatMap((cell) => {
      const found = cell.subsets.find((subset) => subset.name === name);
      return found
        ? [{ label: nameOf(report, cell), ...found.fractional, ...found, answered: Boolean(found.fractional) }]
        : [];
    }),
  }));
  const table = makeTable(
    "Accuracy by subset, in percent",
    ["Subset", "Reward model", "Fractional", "95% interval", "Strict", "Unscored"],
    parts.flatMap(({ name, rows }) =>
      rows.map((row) => [
        name,
        row.label,
        ...(row.answered
          ? [formatPoints(row.value), formatInterval(row), formatPoints(row.strict.value)]
          : [NO_VERDICT, "–", "–"]),
        formatNumber(row.unscored_items),
      ]),
    ),
    { left: [0, 1] },
  );
  return [
    paragraph("Fractional accuracy, with 95% intervals; the dashed line is chance over the whole benchmark.", {
      class: "note",
    }),
    element(
      "div",
      { class: "cards" },
      parts.map(({ name, items, rows }) => {
        const bars = rows.filter(({ answered }) => answered);
        const chart = (width) =>
          drawBars(bars, width, { reference: chance, text: ({ value }) => formatPercent(value) });
        return element(
          "figure",
          null,
          element("figcaption", null, name, " ", element("small", null, formatCount(items, "item"))),
          bars.length ? makeChart(`Accuracy on ${name}`, chart) : paragraph(NO_VERDICT),
        );
      }),
    ),
    makeDetails("Table", table),
  ];
}

/** Differences between reward models on the same items. */
function describeComparisons(report, { comparisons: pairs }) {
  const comparisons = pairs.map((pair) => ({ ...pair, a: report.names.get(pair.a), b: report.names.get(pair.b) }));
  if (!comparisons.length) return [paragraph("There are no two reward models with a verdict to compare.")];
  const rows = comparisons.map(({ a, b, difference }) => asRow(`${a} − ${b}`, difference));
  const reach = Math.max(...rows.flatMap(({ low, high }) => [Math.abs(low), Math.abs(high)]), 0.01) * 1.06;
  const chart = makeChart("Difference of accuracy of each pair of reward models with its 95% interval", (width) =>
    drawIntervals(rows, width, {
      reference: 0,
      referenceLabel: "no difference",
      domain: [-reach, reach],
      tick: (share) => formatDifference(share).replace(".0", ""),
      text: ({ value, low, high }) =>
        `${formatDifference(value)}  (${formatDifference(low)} to ${formatDifference(high)})`,
    }),
  );
  const verdicts = { "a better": ({ a }) => `${a} is better`, "b better": ({ b }) => `${b} is better` };
  const table = makeTable(
    "Paired comparisons",
    ["First − second", "Difference", "Strict difference", "McNemar p", "Holm p", "Verdict"],
    comparisons.map((pair) => [
      `${pair.a} − ${pair.b}`,
      showEstimate(pair.difference, formatDifference),
      showEstimate(pair.strict_difference, formatDifference),
      formatProbability(pair.mcnemar_p),
      formatProbability(pair.holm_p),
      verdicts[pair.verdict]?.(pair) ?? "not told apart",
    ]),
    { left: [0, 5] },
  );
  return [
    paragraph(
      `First minus second, in points of fractional accuracy on the same ${formatCount(comparisons[0].items, "item")}. One is called better only where the 95% interval excludes 0 and ` +
        "McNemar's exact test of the strict decisions, corrected for the number of pairs (Holm), is below .05 and agrees.",
      { class: "note" },
    ),
    element("div", { class: "pair" }, chart, table),
  ];
}
