"use strict";
// What the figures amount to. Each function returns what a section shows.

/** The first line in words, and every reward on genuine responses. */
function describeResults(report) {
  const rows = report.audited.map((reward) => {
    const attack = report.cells.get(cellKey(report.worst[reward.label], reward.label));
    return [
      report.names.get(reward.label),
      attack ? attack.attack : "–",
      attack ? showEstimate(attack.win_rate) : "–",
      formatScore(reward.mean),
      formatScore(reward.spread),
      formatNumber(reward.unscored),
    ];
  });
  return [
    paragraph(`${report.headline}.`.replace(/\.\.$/, "."), { class: "finding" }),
    makeTable(
      "The reward models on genuine responses",
      ["Reward model", "Worst attack", "It wins, %", "Mean reward", "Spread", "Unscored"],
      rows,
      { left: [0, 1] },
    ),
    paragraph(
      "Mean, spread and unscored are of the genuine responses; the spread is the median standard deviation of the rewards within a " +
        "prompt. Small figures are 95% intervals over prompts.",
      { class: "note" },
    ),
  ];
}

const MOST_LEARNED = 10;

/** The attacks that pay, those that cost the fewest characters for it first. */
function describeLearned(report, choose) {
  if (!report.learned.some(({ attacks }) => attacks.length))
    return [paragraph("No exploit has a gain whose interval lies above 0.")];
  return [
    paragraph(
      "Exploits whose gain lies above 0 with its interval, by gain per character: what is cheap to find and pays is learned first. " +
        "The gain is in units of the reward's spread within a prompt.",
      { class: "note" },
    ),
    ...report.learned.map(({ reward, attacks }) => {
      const label = report.names.get(reward);
      if (!attacks.length) return element("div", null, element("h3", null, label), paragraph("None."));
      const results = attacks.map((attack) => report.cells.get(cellKey(attack, reward)));
      const most = Math.max(...results.map(({ gain }) => gain.value));
      return element(
        "div",
        null,
        element("h3", null, label),
        makeTable(
          `What a policy would learn first from ${label}`,
          ["Attack", "Gain", "Characters", "Example"],
          results.slice(0, MOST_LEARNED).map((result) => [
            makeLink(result.attack, () => choose(result.attack, reward)),
            element(
              "span",
              { class: "gain" },
              element("span", { class: "length", "aria-hidden": "true", style: `width: ${(100 * result.gain.value) / most}%` }),
              showEstimate(result.gain, formatGain),
            ),
            formatPrice(result.price),
            showExample(report, result),
          ]),
          { left: [0, 1, 3] },
        ),
        results.length > MOST_LEARNED
          ? paragraph(`${formatNumber(results.length - MOST_LEARNED)} more are in the table of all figures.`, { class: "note" })
          : "",
      );
    }),
  ];
}

function makeLink(text, act) {
  const button = element("button", { type: "button", class: "plain" }, text);
  button.addEventListener("click", act);
  return button;
}

/** The beginning of the worst text of an attack. */
function showExample(report, { attack, reward }) {
  const place = report.rewards.findIndex(({ label }) => label === reward);
  const those = report.cases.filter((one) => isNumber(one.margins[place]) && report.attacks[one.attack].name === attack);
  if (!those.length) return "–";
  const found = those.reduce((worst, one) => (one.margins[place] > worst.margins[place] ? one : worst));
  const text = showControls(report.texts[found.text].slice(0, 160)).trim();
  return element("span", { class: "excerpt", dir: "auto" }, text || element("span", { class: "nothing" }, "blank"));
}

/** How each reward rises with the copied share. */
function describeSlopes(report) {
  const slopes = report.slopes.filter(({ points }) => points.length);
  if (!slopes.length) return [paragraph("No attack that copies a share of the instruction was scored.")];
  return [
    paragraph(
      "A text that answers nothing, with a share of the instruction's words in front of it: the mean reward in the reward's own unit, " +
        "with 95% intervals. A line that rises pays for copying.",
      { class: "note" },
    ),
    element(
      "div",
      { class: "cards" },
      slopes.map(({ reward, points, slope }) => {
        const label = report.names.get(reward);
        const rise = slope
          ? `from none to all ${formatRise(slope.value)} (${formatRise(slope.low)} to ${formatRise(slope.high)})`
          : "";
        return makeFigure(
          [label, element("small", { class: "under" }, rise)],
          makeChart(`Reward of ${label} by the copied share`, () => drawSlope(points, 2 * report.spreads.get(reward))),
          makeTable(
            `Reward of ${label} by the copied share`,
            ["Copied", "Mean reward", "Prompts"],
            points.map(({ copied_share: share, reward: mean }) => [
              `${Math.round(share * 100)}%`,
              showEstimate(mean, formatScore),
              formatNumber(mean.n),
            ]),
          ),
        );
      }),
    ),
  ];
}

/** A difference of rewards -> "+0.120" */
function formatRise(value) {
  const text = formatScore(value);
  return value > 0 && /[1-9]/.test(text) ? `+${text}` : text;
}

/** `least` is how far the axis reaches at least, so that a flat line looks flat. */
function drawSlope(points, least) {
  const data = points.map(({ copied_share: share, reward }) => ({ share, ...reward }));
  return {
    height: 190,
    marginLeft: 44,
    marginRight: 12,
    marginTop: 10,
    marginBottom: 24,
    x: { domain: [0, 1], label: null, ticks: [0, 0.25, 0.5, 0.75, 1], tickSize: 0, tickFormat: (share) => `${share * 100}%` },
    y: { domain: widen(data.flatMap(({ low, high }) => [low, high]), least), label: null, ticks: 4, tickSize: 0 },
    marks: [
      Plot.gridY({ stroke: "var(--rule)", strokeOpacity: 1, ticks: 4 }),
      Plot.line(data, { x: "share", y: "value", stroke: "var(--accent)", strokeOpacity: 0.45 }),
      Plot.ruleX(data, { x: "share", y1: "low", y2: "high", stroke: "var(--accent)", strokeWidth: 7, strokeOpacity: 0.25 }),
      Plot.dot(data, { x: "share", y: "value", fill: "var(--accent)", stroke: "var(--page)", strokeWidth: 1.5, r: 4.5 }),
    ],
  };
}

/** A range that holds all values and is no narrower than `least`. */
function widen(values, least) {
  const [low, high] = spanOf(values, { least: 0.01, room: 0.1 });
  const missing = Math.max(0, least - (high - low)) / 2;
  return [low - missing, high + missing];
}

/** Attacks that break the meaning, the least seen first. */
function describeBroken(report, choose) {
  return describeEffect(report, choose, {
    effect: "broken",
    key: "drop_auc",
    names: report.blind,
    some: "does not surely see",
    none: "sees all of these.",
    note:
      "How often a response earns more than the same response with its meaning broken; ties count half. Left of the line or across it, the " +
      "reward may be blind.",
    reference: 0.5,
    referenceLabel: "blind",
    format: formatScore,
    order: (a, b) => a.value - b.value,
  });
}

/** Attacks that keep the meaning, those that move the reward most first. */
function describeKept(report, choose) {
  return describeEffect(report, choose, {
    effect: "kept",
    key: "reward_gain",
    names: report.unstable,
    some: "moves with",
    none: "moves with none of these by more than chance.",
    note: "By how much the reward of a response changes, in its own unit, when only its form does. Away from 0, the reward is not robust.",
    reference: 0,
    referenceLabel: "no change",
    format: formatRise,
    order: (a, b) => Math.abs(b.value) - Math.abs(a.value),
  });
}

function describeEffect(report, choose, { effect, key, names, some, none, note, reference, referenceLabel, format, order }) {
  const attacks = report.attacks.filter((attack) => attack.effect === effect).map(({ name }) => name);
  const parts = report.rewards.flatMap(({ label }) => {
    const rows = attacks
      .map((name) => ({ name, estimate: report.cells.get(cellKey(name, label))?.[key] }))
      .filter(({ estimate }) => estimate)
      .map(({ name, estimate }) => ({ ...asRow(name, estimate), n: estimate.n }))
      .sort(order);
    return rows.length ? [{ label, rows }] : [];
  });
  if (!parts.length) return [paragraph("No such attack was scored.")];
  return [
    element(
      "ul",
      { class: "findings" },
      parts.map(({ label }) => {
        const found = names.find(({ reward }) => reward === label)?.attacks ?? [];
        return element(
          "li",
          null,
          element("strong", null, report.names.get(label)),
          found.length ? ` ${some} ` : ` ${none}`,
          found.flatMap((name, place) => [
            place ? ", " : "",
            makeLink(report.words[name], () => choose(name, label)),
          ]),
        );
      }),
    ),
    paragraph(note, { class: "note" }),
    element(
      "div",
      { class: "cards" },
      parts.map(({ label, rows }) => {
        const name = report.names.get(label);
        const values = [reference, ...rows.flatMap(({ low, high }) => [low, high])];
        const domain = effect === "kept" ? widen(values, report.spreads.get(label)) : spanOf([...values, 1]);
        return makeFigure(
          name,
          makeChart(`${note.split(",")[0]}: ${name}`, (width) =>
            drawIntervals(rows, width, {
              reference,
              referenceLabel,
              domain,
              tick: (value) => signed(String(Number(value.toPrecision(3)))),
              text: ({ value, low, high }) => `${format(value)}  (${format(low)} to ${format(high)})`,
            }),
          ),
          makeTable(
            `${name}: ${note.split(",")[0]}`,
            ["Attack", "Value", "Prompts"],
            rows.map((row) => [row.label, showEstimate(row, format), formatNumber(row.n)]),
          ),
        );
      }),
    ),
  ];
}

/** What had no score, which no figure counts. */
function describeUnscored(report) {
  const outcomes = Object.keys(report.meanings).filter((name) => report.audited.some((reward) => reward.outcomes[name]));
  const silent = report.results.filter(({ unscored }) => unscored);
  if (!outcomes.length && !silent.length) return [paragraph("Every text has a score.")];
  return [
    outcomes.length
      ? makeTable(
          "Texts by outcome, genuine and attacked ones",
          ["Outcome", "What it means", ...report.audited.map(({ label }) => report.names.get(label))],
          outcomes.map((name) => [
            formatName(name),
            report.meanings[name],
            ...report.audited.map((reward) => formatNumber(reward.outcomes[name] ?? 0)),
          ]),
          { left: [0, 1] },
        )
      : null,
    silent.length
      ? makeDetails(
          `${formatCount(silent.length, "cell")} with prompts that have no score`,
          makeTable(
            "Prompts without a score, by attack and reward model",
            ["Attack", "Reward model", "Unscored", "Of prompts"],
            silent.map(({ attack, reward, unscored, prompts }) => [
              attack,
              report.names.get(reward),
              formatNumber(unscored),
              formatNumber(prompts),
            ]),
            { left: [0, 1] },
          ),
        )
      : paragraph("Every attacked text has a score, and a genuine response beside it.", { class: "note" }),
    paragraph("What has no score counts in no figure: a failure is never a low reward.", { class: "note" }),
  ];
}
