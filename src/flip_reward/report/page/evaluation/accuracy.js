"use strict";
// The sections about accuracy. Each function returns what a section shows of one benchmark.

/** What a cell's reward model is called. */
function nameOf(report, cell) {
  return report.names.get(report.rewards[cell.reward].label);
}

const BALANCED =
  "Length-balanced: the mean of the accuracies where the better response is longer and where it is shorter, over pairs of a better " +
  "and a worse response; always preferring the longer, or the shorter, gives 50.";
const UNBALANCED =
  "There is no length-balanced accuracy, which needs items with a longer chosen response and some with a shorter.";
const RULES =
  "Fractional: a tie among k counts 1/k, and an item with an unscored response counts as chance. Strict: ties and unscored items are " +
  "wrong. The next two columns are fractional, with unscored items left out or as wrong. Below each is its 95% interval.";

/** Accuracy of every reward model: the finding in words, charts and the table. */
function describeResults(report, benchmark) {
  const { cells, chance, headline } = benchmark;
  if (!cells.length) return [paragraph("No reward model was run on this benchmark to its end.")];
  const answered = cells.filter((cell) => cell.overall.fractional);
  const silent = cells.filter((cell) => !cell.overall.fractional);
  const balanced = answered.filter((cell) => cell.overall.length_balanced);
  const flips = cells.some((cell) => cell.order_flips);
  const columns = [
    "Reward model",
    ...(headline ? [capitalise(headline)] : []),
    ...(balanced.length ? ["Length-balanced"] : []),
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
    cells.map((cell) => {
      const { fractional, strict, excluded, as_wrong: asWrong, unscored_items: unscored } = cell.overall;
      return [
        nameOf(report, cell),
        ...(headline ? [showFigure(cell, headline)] : []),
        ...(balanced.length ? [showEstimate(cell.overall.length_balanced)] : []),
        showEstimate(fractional),
        showEstimate(strict),
        showEstimate(excluded),
        showEstimate(asWrong),
        formatNumber(unscored),
        ...(flips ? [describeFlips(cell.order_flips)] : []),
      ];
    }),
  );
  const charts = [
    ...drawAccuracies(report, balanced, "Length-balanced accuracy", "● with its interval", {
      chance: 0.5,
      read: ({ length_balanced: value }) => [value],
    }),
    ...drawAccuracies(report, answered, "Accuracy", "● fractional, with its interval  ○ strict", {
      chance,
      read: ({ fractional, strict }) => [fractional, strict.value],
    }),
  ];
  return [
    paragraph(describeFinding(report, benchmark, answered, silent), { class: "finding" }),
    element(
      "div",
      { class: "pair" },
      charts.length ? element("div", null, charts) : null,
      element("div", null, table, paragraph(`${balanced.length ? BALANCED : UNBALANCED} ${RULES}`, { class: "note" })),
    ),
    describeProtocol(report, benchmark, cells),
  ];
}

/** A chart of one accuracy of each reward model. `read` gives the estimate to show, and a second value if there is one. */
function drawAccuracies(report, cells, title, legend, { chance, read }) {
  if (!cells.length) return [];
  const rows = cells.map((cell) => {
    const [estimate, other] = read(cell.overall);
    return { ...asRow(nameOf(report, cell), estimate), other };
  });
  const domain = spanOf([chance, ...rows.flatMap(({ low, high, other }) => [low, high, other]).filter(isNumber)]);
  const chart = makeChart(`${title} of each reward model with its 95% interval`, (width) =>
    drawIntervals(rows, width, {
      reference: chance,
      referenceLabel: "chance",
      domain,
      tick: (share) => `${Math.round(share * 100)}%`,
      text: ({ value, low, high }) => `${formatPercent(value)}  (${formatInterval({ low, high })})`,
    }),
  );
  return [element("h3", null, title), chart, paragraph(legend, { class: "legend" })];
}

/** A figure that the benchmark's authors report, by its name; null where it could not be computed. */
function findFigure(cell, wanted) {
  return cell.figures.find(({ name }) => name === wanted) ?? null;
}

function showFigure(cell, name) {
  const figure = findFigure(cell, name);
  return figure ? showEstimate(figure) : "–";
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
function describeFinding(report, { comparisons, chance, headline }, [best], silent) {
  const without = silent.length
    ? ` ${formatList(silent.map((cell) => nameOf(report, cell)))}: ${NO_VERDICT}, as no item was scored.`
    : "";
  if (!best) return without.trim();
  const { fractional, strict, length_balanced: balanced } = best.overall;
  const figure = findFigure(best, headline);
  const { label } = report.rewards[best.reward];
  const mine = comparisons.filter(({ a, b }) => a === label || b === label);
  const verdictOf = ({ a, verdict }) => (verdict === "not told apart" ? "open" : verdict === (a === label ? "a better" : "b better") ? "better" : "worse");
  const name = (wanted) =>
    formatList(mine.filter((pair) => verdictOf(pair) === wanted).map(({ a, b }) => report.names.get(a === label ? b : a)));
  return [
    `${nameOf(report, best)} decides ${formatPercent(fractional.value)} of ${formatCount(fractional.n, "item")} rightly ` +
      `(95% interval ${formatInterval(fractional)}; chance ${formatPercent(chance)}), and ${formatPercent(strict.value)} where ties are wrong.`,
    balanced ? ` Length-balanced it has ${formatPercent(balanced.value)} (${formatInterval(balanced)}; chance 50%).` : "",
    figure ? ` The figure that the authors compare by (${headline}) is ${formatPercent(figure.value)} (${formatInterval(figure)}).` : "",
    name("better") && ` On the same items it is better than ${name("better")}.`,
    name("open") && ` It cannot be told apart from ${name("open")}.`,
    name("worse") && ` Without regard to length it is worse than ${name("worse")}.`,
    without,
  ].join("");
}

/** The figures that a benchmark's own protocol defines. */
function describeProtocol(report, { protocol }, cells) {
  const figures = cells.flatMap((cell) => cell.figures).sort((a, b) => Boolean(b.headline) - Boolean(a.headline));
  const notes = new Map(figures.map(({ name, note }) => [name, note]));
  if (!notes.size) return null;
  const table = makeTable(
    `Figures of ${protocol}, in percent`,
    ["Figure", ...cells.map((cell) => nameOf(report, cell))],
    [...notes].map(([name, note]) => [
      element("span", null, name, element("small", { class: "under" }, note)),
      ...cells.map((cell) => showFigure(cell, name)),
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
    ["Subset", "Reward model", "Length-balanced", "Fractional", "Strict", "Unscored"],
    parts.flatMap(({ name, rows }) =>
      rows.map((row) => [
        name,
        row.label,
        row.length_balanced ? showEstimate(row.length_balanced) : "–",
        ...(row.answered ? [showEstimate(row.fractional), formatPoints(row.strict.value)] : [NO_VERDICT, "–"]),
        formatNumber(row.unscored_items),
      ]),
    ),
    { left: [0, 1] },
  );
  return [
    paragraph(
      "Fractional accuracy, with 95% intervals, and in brackets length-balanced accuracy where there is one; the dashed line is chance " +
        "over the whole benchmark.",
      { class: "note" },
    ),
    element(
      "div",
      { class: "cards" },
      parts.map(({ name, items, rows }) => {
        const bars = rows.filter(({ answered }) => answered);
        const chart = (width) =>
          drawBars(bars, width, { reference: chance, text: describeBar });
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

/** The accuracy of a bar: "61.2% (57.0%)" */
function describeBar({ value, length_balanced: balanced }) {
  return balanced ? `${formatPercent(value)} (${formatPercent(balanced.value)})` : formatPercent(value);
}

/** What a difference is of: "flip − longest", with a formula in brackets. */
function nameDifference({ a, b }) {
  return [a, b].map((name) => (/ [-+*/] /.test(name) ? `(${name})` : name)).join(" − ");
}

/** Differences between reward models on the same items. */
function describeComparisons(report, { comparisons: pairs }) {
  const comparisons = pairs.map((pair) => ({ ...pair, a: report.names.get(pair.a), b: report.names.get(pair.b) }));
  if (!comparisons.length) return [paragraph("There are no two reward models with a verdict to compare.")];
  const rows = comparisons.map((pair) => asRow(nameDifference(pair), pair.difference));
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
  const balanced = comparisons.some((pair) => pair.length_balanced_difference);
  const verdicts = { "a better": ({ a }) => `${a} is better`, "b better": ({ b }) => `${b} is better` };
  const table = makeTable(
    "Paired comparisons",
    ["First − second", "Verdict", "Difference", "Strict", ...(balanced ? ["Length-balanced"] : []), "p", "Holm p"],
    comparisons.map((pair) => [
      nameDifference(pair),
      verdicts[pair.verdict]?.(pair) ?? "not told apart",
      showEstimate(pair.difference, formatDifference),
      showEstimate(pair.strict_difference, formatDifference),
      ...(balanced ? [showEstimate(pair.length_balanced_difference, formatDifference)] : []),
      formatProbability(pair.p),
      formatProbability(pair.holm_p),
    ]),
    { left: [0, 1] },
  );
  const tests = formatList([...new Set(comparisons.map(({ test }) => test))]);
  return [
    paragraph(
      `First minus second, in points of fractional accuracy on the same ${formatCount(comparisons[0].items, "item")}. One is called better only where p (${tests}), ` +
        "corrected for the number of pairs by Holm's method, is below .05, and the fractional and the strict rule agree.",
      { class: "note" },
    ),
    element("div", { class: "pair" }, chart, table),
  ];
}
