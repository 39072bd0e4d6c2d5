"use strict";
// One sample: the conversation, the candidates, and what each reward model made of them.

const LONG_TEXT = 1200; // characters; longer ones scroll by themselves

/** Show control characters by their pictures, one for one, so that positions stay. */
function showControls(text) {
  // eslint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g, (character) =>
    character === "\u007f" ? "\u2421" : String.fromCharCode(0x2400 + character.charCodeAt(0)),
  );
}

/**
 * Show a text as it is.
 *
 * @param {number} number Of the text.
 * @param {number[]} marks Starts and ends of what is highlighted, in characters.
 */
function showText(report, number, label, marks = []) {
  const text = report.texts[number];
  const omitted = report.omitted.get(number) ?? 0;
  const parts = [];
  if (marks.length) {
    const characters = Array.from(text); // marks count whole characters, strings count halves of some
    let end = 0;
    for (let place = 0; place < marks.length && marks[place] < characters.length; place += 2) {
      parts.push(showControls(characters.slice(end, marks[place]).join("")));
      end = marks[place + 1];
      parts.push(element("mark", null, showControls(characters.slice(marks[place], end).join(""))));
    }
    parts.push(showControls(characters.slice(end).join("")));
  } else {
    parts.push(showControls(text));
  }
  const long = text.length > LONG_TEXT;
  const block = element(
    "div",
    {
      class: long ? "text long" : "text",
      dir: "auto",
      role: long ? "region" : null,
      tabindex: long ? "0" : null,
      "aria-label": long ? label : null,
    },
    parts,
  );
  if (text === "") block.append(element("span", { class: "nothing" }, "empty"));
  if (!omitted) return [block];
  return [
    block,
    paragraph(`Cut here: ${formatCount(omitted, "more character")}. The evaluation folder has the whole text.`, {
      class: "cut",
    }),
  ];
}

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
    element(
      "section",
      { "aria-label": "Conversation" },
      element("h4", null, "Conversation"),
      sample.messages.map(([role, text]) =>
        element(
          "div",
          { class: `turn ${role === "user" ? "user" : "other"}` },
          element("p", { class: "role" }, role),
          ...showText(report, text, `Message of ${role}`),
        ),
      ),
    ),
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
    ...cells.map((cell) => showJudgement(report, sample, cell, cell.scores[response])),
  );
}

function showJudgement(report, sample, cell, score) {
  const head = element(
    "h5",
    null,
    cell.label,
    " ",
    element("span", { class: "value" }, score ? formatScore(score.value) : "not run"),
  );
  if (!score) return element("div", { class: "judgement" }, head);
  const parts = [];
  if (score.value === null) parts.push(paragraph(`Unscored: ${formatName(score.outcome)}`, { class: "unscored" }));
  if (isNumber(score.detail)) parts.push(...showText(report, score.detail, "Detail"));
  if (isNumber(score.inferred)) parts.push(showInference(report, sample, score));
  if (score.inferences) parts.push(showInferences(report, score));
  if (isNumber(score.reasoning) && !isShared(cell)) {
    parts.push(
      paragraph("Reasoning", { class: "role" }),
      ...showText(report, score.reasoning, `Reasoning of ${cell.label}`),
    );
  }
  if (isNumber(score.reply))
    parts.push(makeDetails("The reply as it came", ...showText(report, score.reply, "Reply")));
  return element("div", { class: "judgement" }, head, parts);
}

/** The inferred instruction above the original, with the tokens they share. */
function showInference(report, sample, score) {
  const original = score.instruction ?? lastUserMessage(sample.messages);
  const measures = [
    ["Precision", score.precision],
    ["Recall", score.recall],
    ["F1", f1Of(score)],
  ].filter(([, value]) => isNumber(value));
  return element(
    "div",
    { class: "inference" },
    element(
      "div",
      null,
      paragraph("Inferred instruction", { class: "role" }),
      ...showText(report, score.inferred, "Inferred instruction", score.inferredMarks ?? []),
    ),
    isNumber(original)
      ? element(
          "div",
          null,
          paragraph("Original instruction", { class: "role" }),
          ...showText(report, original, "Original instruction", score.originalMarks ?? []),
        )
      : null,
    measures.length
      ? element(
          "dl",
          { class: "measures" },
          measures.map(([name, value]) =>
            element("div", null, element("dt", null, name), element("dd", null, formatScore(value))),
          ),
        )
      : null,
  );
}

/** All of several inferences, in the order in which they were drawn. */
function showInferences(report, { inferences, spread }) {
  const summary = formatCount(inferences.length, "inference");
  return makeDetails(
    isNumber(spread) ? `${summary}, spread ${formatScore(spread)}` : summary,
    element(
      "ol",
      { class: "inferences" },
      inferences.map(([value, text, outcome]) =>
        element(
          "li",
          null,
          isNumber(value)
            ? element("span", { class: "value" }, formatScore(value))
            : element("span", { class: "unscored" }, formatName(outcome)),
          ...(isNumber(text) ? showText(report, text, "Inferred instruction") : []),
        ),
      ),
    ),
  );
}

function f1Of({ precision, recall }) {
  if (!isNumber(precision) || !isNumber(recall)) return null;
  return precision + recall ? (2 * precision * recall) / (precision + recall) : 0;
}
