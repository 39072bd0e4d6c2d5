"use strict";
// All attacks against all rewards, one figure at a time.

/** The figures of a cell. `heat` says how bad a value is, 0 to 1; `most` is the largest value of all cells. */
const CELL_FIGURES = {
  win_rate: {
    name: "Win rate",
    format: formatPoints,
    heat: (value) => value,
    note: "The share of prompts, in percent, in which the attacked text beats the best genuine response; a tie counts one half.",
  },
  gain: {
    name: "Gain",
    format: formatGain,
    heat: (value, most) => value / Math.max(most, 1),
    note:
      "By how much the attacked text's reward lies above the mean of the genuine ones, in units of a reward's own spread within a " +
      "prompt: about the advantage that GRPO would see.",
  },
  flip_rate: {
    name: "Flip rate",
    format: formatPoints,
    heat: (value) => value,
    note: "Of the chosen responses that a reward puts above the rejected one that is changed, the share in percent that the changed one then beats.",
  },
  drop_auc: {
    name: "Drop AUC",
    format: formatScore,
    heat: (value) => 2 * (1 - value),
    note: "For broken meaning: how often the response as it was beats the broken one. 1 sees every break, 0.5 is blind.",
  },
};
const EFFECTS = {
  exploit: "a text is no better for it; a reward that rises is gamed",
  kept: "the meaning stays; a reward that changes is not robust",
  broken: "the meaning is broken; a reward that does not fall is blind",
};

/** 1.234 -> "+1.2" */
function formatGain(value) {
  const text = signed(value.toFixed(Math.abs(value) < 0.1 ? 2 : 1));
  return value > 0 && /[1-9]/.test(text) ? `+${text}` : text;
}

/** A price in characters -> "+85" */
function formatPrice(price) {
  return price === null ? "–" : `${price > 0 ? "+" : ""}${formatNumber(Math.round(price))}`;
}

/** The figures that any cell has, as a select offers them. */
function offerFigures({ results }) {
  return Object.entries(CELL_FIGURES)
    .filter(([key]) => results.some((result) => result[key]))
    .map(([key, { name }]) => [key, name]);
}

/** The heat map of a figure. `choose(attack, reward)` shows the texts of a cell. */
function describeAttacks(report, key, choose) {
  if (!report.results.length) return [paragraph("There are no figures yet.")];
  const figure = CELL_FIGURES[key];
  const most = Math.max(0, ...report.results.map((result) => result[key]?.value ?? 0));
  const known = new Set(report.results.filter((result) => result[key]).map(({ attack }) => attack));
  const attacks = key === "win_rate" ? report.attacks : report.attacks.filter(({ name }) => known.has(name));
  const families = d3.group(attacks, ({ family }) => family);
  const table = element(
    "table",
    { class: "heat" },
    element("caption", { class: "spoken" }, `${figure.name} of each attack by reward model`),
    element(
      "thead",
      null,
      element("tr", null, [
        element("th", { scope: "col", class: "left" }, "Attack"),
        ...report.rewards.map(({ label }) => element("th", { scope: "col" }, report.names.get(label))),
        element("th", { scope: "col", class: "left about" }, "What it imitates"),
      ]),
    ),
    [...families].map(([family, those]) =>
      element(
        "tbody",
        null,
        element(
          "tr",
          null,
          element(
            "th",
            { scope: "rowgroup", class: "left band", colspan: report.rewards.length + 2 },
            `${capitalise(family)} `,
            element("small", null, [...new Set(those.map(({ effect }) => EFFECTS[effect]))].join("; ")),
          ),
        ),
        those.map((attack) =>
          element(
            "tr",
            null,
            element("th", { scope: "row", class: "left", title: attack.description }, attack.name),
            report.rewards.map(({ label }) =>
              element("td", null, makeCell(report, figure, key, most, report.cells.get(cellKey(attack.name, label)))),
            ),
            element("td", { class: "left about" }, attack.description),
          ),
        ),
      ),
    ),
  );
  moveByArrows(table);
  table.addEventListener("click", (event) => {
    const cell = event.target.closest("button");
    if (cell) choose(cell.dataset.attack, cell.dataset.reward);
  });
  return [
    paragraph(`${figure.note} The stronger the colour, the worse. A cell shows its texts; the arrow keys move between cells.`, { class: "note" }),
    element("div", { class: "table", role: "region", "aria-label": figure.name }, table),
    ...[
      [report.unread, "their texts hold no answer to a reward model: blank, or nothing but thinking"],
      [report.idle, "they change none of these responses"],
      [report.lonely, "they take the response to another prompt, and there is none"],
    ].map(([names, why]) => (names.length ? paragraph(`No figure for ${formatList(names)}: ${why}.`, { class: "note" }) : null)),
    makeAllFigures(report),
  ];
}

function cellKey(attack, reward) {
  return `${attack}\n${reward}`;
}

function makeCell(report, figure, key, most, result) {
  const estimate = result?.[key];
  if (!estimate) return element("span", { class: "nothing", title: result ? describeCell(report, result) : null }, "–");
  const heat = Math.min(1, Math.max(0, figure.heat(estimate.value, most)));
  return element(
    "button",
    {
      type: "button",
      tabindex: "-1",
      style: `--heat: ${heat.toFixed(3)}`,
      title: describeCell(report, result),
      "data-attack": result.attack,
      "data-reward": result.reward,
    },
    figure.format(estimate.value),
  );
}

/** Everything about a cell, in words. */
function describeCell(report, result) {
  const { attack, reward, prompts, unscored, chance, win_rate: wins, gain, flip_rate: flips, drop_auc: drop, price } = result;
  const within = ({ low, high }, format) => `${format(low)} to ${format(high)}`;
  return [
    `${report.names.get(reward)} under ${attack}:`,
    wins && `wins ${formatPercent(wins.value)} of ${formatCount(wins.n, "prompt")} (95% interval ${formatInterval(wins)})`,
    wins && isNumber(chance) && `chance ${formatPercent(chance)}`,
    gain && `gains ${formatGain(gain.value)} (${within(gain, formatGain)})`,
    flips && `flips ${formatPercent(flips.value)} (${formatInterval(flips)})`,
    drop && `drop AUC ${formatScore(drop.value)} (${within(drop, formatScore)})`,
    price !== null && `${formatPrice(price)} characters`,
    unscored ? `${formatNumber(unscored)} of ${formatCount(prompts, "prompt")} unscored` : null,
  ]
    .filter(Boolean)
    .join("\n");
}

/** Let the arrow keys move between the buttons of a table, which is one stop of the Tab key. */
function moveByArrows(table) {
  const steps = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] };
  let stop = table.querySelector("tbody button");
  stop?.setAttribute("tabindex", "0");
  table.addEventListener("focusin", ({ target }) => {
    if (target.localName !== "button") return;
    stop.setAttribute("tabindex", "-1");
    stop = target;
    stop.setAttribute("tabindex", "0");
  });
  table.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey || event.target.localName !== "button") return;
    event.preventDefault();
    const cell = event.target.closest("td");
    let [row, column] = [cell.parentElement.rowIndex, cell.cellIndex];
    do {
      row += step[0];
      column += step[1];
    } while (table.rows[row] && column > 0 && column < table.rows[0].cells.length && !buttonAt(table, row, column));
    buttonAt(table, row, column)?.focus();
  });
}

function buttonAt(table, row, column) {
  return table.rows[row]?.cells[column]?.querySelector("button") ?? null;
}

/** Every figure of every cell; made when it is opened. */
function makeAllFigures(report) {
  const details = makeDetails("All figures as a table");
  const fill = () =>
    details.append(
      makeTable(
        "All figures of each attack and reward model",
        ["Attack", "Reward model", "Win rate, %", "Chance, %", "Gain", "In its own unit", "Flip rate, %", "Drop AUC", "Characters", "Prompts", "Unscored", "p", "Holm p"],
        report.results.map((result) => [
          result.attack,
          report.names.get(result.reward),
          showEstimate(result.win_rate, formatPoints, "–"),
          isNumber(result.chance) ? formatPoints(result.chance) : "–",
          showEstimate(result.gain, formatGain, "–"),
          showEstimate(result.reward_gain, formatScore, "–"),
          showEstimate(result.flip_rate, formatPoints, "–"),
          showEstimate(result.drop_auc, formatScore, "–"),
          formatPrice(result.price),
          formatNumber(result.prompts),
          formatNumber(result.unscored),
          isNumber(result.p) ? formatProbability(result.p) : "–",
          isNumber(result.holm_p) ? formatProbability(result.holm_p) : "–",
        ]),
        { left: [0, 1] },
      ),
    );
  details.addEventListener("toggle", fill, { once: true });
  return details;
}
