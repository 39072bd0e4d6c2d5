"use strict";
// One row: the conversation, and its responses side by side with what the reward made of each.

/** Everything about one row. */
function showRow(report, row) {
  const { id, where, size, recorded, messages, instruction, candidates } = row;
  const some = recorded < size ? `${formatNumber(recorded)} of ${formatCount(size, "response")} so far` : null;
  const verdict = size > 1 ? describeVerdict(report, row) : null;
  return [
    element("h3", { id: "sample-title", tabindex: "-1", dir: "auto" }, id),
    paragraph([where, some ?? (size > 1 ? formatCount(size, "response") : null)].filter(Boolean).join(" · "), {
      class: "note",
    }),
    candidates.length < recorded
      ? paragraph(
          `${formatNumber(candidates.length)} of these responses are in this file, evenly from the lowest to the highest reward.`,
          { class: "note" },
        )
      : null,
    verdict ? paragraph(verdict) : null,
    size > 1 ? showRewards(report, row) : null,
    messages.length
      ? showConversation(report, messages)
      : element(
          "section",
          { "aria-label": "Instruction" },
          element("h4", null, "Instruction"),
          ...showText(report, instruction, "Instruction"),
        ),
    element(
      "div",
      { class: size > 1 ? "side" : null },
      candidates.map((candidate, place) => showCandidate(report, row, candidate, place)),
    ),
  ];
}

/** Say what was decided, where the run was one of best of N, and else which is on top. */
function describeVerdict({ selected }, { top, chosen, candidates }) {
  const name = (place) => `#${candidates[place].index}`;
  const tied = top.length > 1 ? `${formatList(top.map(name))} have the same highest reward` : null;
  if (!top.length) return selected ? "Undecided: no response is scored." : "No response is scored.";
  if (chosen === null) return tied && `${tied}.`;
  return tied ? `${tied}; the rule “${selected.tie_rule}” chose ${name(chosen)}.` : `${name(chosen)} is chosen.`;
}

function tagOf({ top, chosen }, place) {
  const tag = place === chosen ? "chosen" : top.includes(place) ? (top.length > 1 ? "tied" : "highest") : null;
  return tag && element("span", { class: tag === "tied" ? "tag" : "tag chosen" }, tag);
}

/** The rewards of all candidates, a row each. */
function showRewards(report, row) {
  const measured = row.candidates.some(({ score }) => isNumber(score.precision));
  return makeTable(
    "Rewards",
    ["Response", "Reward", ...(measured ? ["Precision", "Recall"] : []), "Characters"],
    row.candidates.map(({ index, score, length }, place) => [
      element("span", null, `#${index} `, tagOf(row, place) ?? ""),
      score.value === null
        ? element("span", { class: "unscored" }, formatName(score.outcome))
        : element(row.top.includes(place) ? "strong" : "span", null, formatScore(score.value)),
      ...(measured ? [formatScore(score.precision), formatScore(score.recall)] : []),
      isNumber(length) ? formatNumber(length) : "–",
    ]),
  );
}

/** A candidate, and what the reward made of it. */
function showCandidate(report, row, candidate, place) {
  const { index, response, length } = candidate;
  const name = row.size > 1 ? `Response #${index}` : "Response";
  return element(
    "section",
    { class: "candidate", "aria-label": name },
    element(
      "h4",
      null,
      `${name} `,
      row.size > 1 ? tagOf(row, place) : null,
      " ",
      isNumber(length) ? element("small", null, formatCount(length, "character")) : null,
    ),
    ...(isNumber(response)
      ? showText(report, response, name)
      : [paragraph("Its text is not here.", { class: "nothing" })]),
    showJudgement(report, row, candidate),
  );
}

function showJudgement(report, row, { score, cautions, reply, cost }) {
  const parts = [
    element(
      "h5",
      null,
      "Reward ",
      element("span", { class: "value" }, score.value === null ? "none" : formatScore(score.value)),
    ),
  ];
  const meaningOf = (counts, name) => counts.find((count) => count.name === name)?.meaning ?? "";
  if (score.value === null) {
    const meaning = meaningOf(report.outcomes, score.outcome);
    parts.push(paragraph(`${formatName(score.outcome)}: ${meaning}`, { class: "unscored" }));
  }
  for (const caution of cautions)
    parts.push(paragraph(`Caution, ${formatName(caution)}: ${meaningOf(report.cautions, caution)}`, { class: "note" }));
  parts.push(...explainCopies(report, score));
  if (isNumber(score.detail)) parts.push(...showText(report, score.detail, "Detail"));
  if (isNumber(score.inferred)) parts.push(showInference(report, score, row.instruction));
  if (score.inferences) parts.push(showInferences(report, score));
  if (isNumber(score.reasoning))
    parts.push(paragraph("Reasoning", { class: "role" }), ...showText(report, score.reasoning, "Reasoning"));
  const raw = score.reply ?? reply;
  if (isNumber(raw)) parts.push(makeDetails("The reply as it came", ...showText(report, raw, "Reply")));
  parts.push(paragraph(describeCost(cost), { class: "role" }));
  return element("div", { class: "judgement" }, parts);
}

/** What a score took: "155 + 16 tokens, 1 request, 0.3 s" */
function describeCost([prompt, completion, attempts, seconds, cached]) {
  const tokens = `${formatNumber(prompt)} + ${formatNumber(completion)} tokens`;
  if (cached) return `${tokens}, from the response cache`;
  if (!attempts) return "Nothing was asked.";
  return `${tokens}, ${formatCount(attempts, "request")}, ${formatNumber(seconds)} s`;
}
