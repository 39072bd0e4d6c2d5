"use strict";
// One sample: the conversation, the candidates, and what each reward model made of them.

/** Everything about one sample. */
function showSample(report, benchmark, index) {
  const sample = benchmark.samples[index];
  const cells = benchmark.cells.map((cell) => ({
    label: nameOf(report, cell),
    decision: cell.decisions[index],
    scores: cell.scores[index].map(readScore),
  }));
  return [
    element("h3", { id: "sample-title", tabindex: "-1", dir: "auto" }, sample.id),
    paragraph(
      [
        benchmark.subsets[sample.subset].name,
        formatCount(sample.responses.length, "response"),
        `${[...sample.chosen].filter((label) => label === "1").length} chosen`,
      ].join(" · "),
      { class: "note" },
    ),
    showScores(sample, cells),
    showConversation(report, sample.messages),
    ...cells.map((cell) => showSharedReasoning(report, cell)),
    ...sample.responses.map((text, response) => showCandidate(report, sample, cells, text, response)),
  ];
}

/** The rewards of all candidates, a row each. */
function showScores(sample, cells) {
  const best = cells.map(({ scores }) => Math.max(...scores.map((score) => score?.value ?? -Infinity)));
  const rows = sample.responses.map((_, response) => [
    element("span", null, `#${response} `, showLabel(sample, response)),
    ...cells.map(({ scores }, place) => {
      const score = scores[response];
      if (!score) return "not run";
      if (score.value === null) return element("span", { class: "unscored" }, formatName(score.outcome));
      return score.value === best[place]
        ? element("strong", null, formatScore(score.value), spoken(" highest"))
        : formatScore(score.value);
    }),
  ]);
  rows.push(["Decision", ...cells.map(({ decision }) => showDecision(decision))]);
  return makeTable("Rewards", ["Response", ...cells.map(({ label }) => label)], rows);
}

function showDecision(decision) {
  return element(
    "span",
    { class: `decision ${DECISION_NAMES[decision]}` },
    element("span", { "aria-hidden": "true" }, `${DECISION_SIGNS[decision]} `),
    DECISION_NAMES[decision],
  );
}

function showLabel(sample, response) {
  const chosen = sample.chosen[response] === "1";
  return element("span", { class: chosen ? "tag chosen" : "tag" }, chosen ? "chosen" : "rejected");
}

/** What a judge said about all candidates at once is shown once. */
function isShared(cell) {
  const [first, ...others] = cell.scores.map((score) => score?.reasoning ?? null);
  return first !== null && others.length > 0 && others.every((reasoning) => reasoning === first);
}

function showSharedReasoning(report, cell) {
  if (!isShared(cell)) return null;
  return element(
    "section",
    { class: "judged" },
    element("h4", null, cell.label),
    paragraph("Reasoning about all responses", { class: "role" }),
    ...showText(report, cell.scores[0].reasoning, `Reasoning of ${cell.label}`),
  );
}

/** A candidate, and what each reward model made of it. */
function showCandidate(report, sample, cells, text, response) {
  const length = report.texts[text].length + (report.omitted.get(text) ?? 0);
  return element(
    "section",
    { class: "candidate", "aria-label": `Response #${response}` },
    element(
      "h4",
      null,
      `Response #${response} `,
      showLabel(sample, response),
      " ",
      element("small", null, formatCount(length, "character")),
    ),
    ...showText(report, text, `Response #${response}`),
    ...cells.map((cell) =>
      explainScore(report, cell.label, cell.scores[response], lastUserMessage(sample.messages), {
        reasoning: !isShared(cell),
      }),
    ),
  );
}
