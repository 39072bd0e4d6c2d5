"use strict";
// Texts from models, and what a reward made of them.

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
    paragraph(`Cut here: ${formatCount(omitted, "more character")}. The folder has the whole text.`, {
      class: "cut",
    }),
  ];
}

/** Show a conversation, a turn below the other. */
function showConversation(report, messages) {
  return element(
    "section",
    { "aria-label": "Conversation" },
    element("h4", null, "Conversation"),
    messages.map(([role, text]) =>
      element(
        "div",
        { class: `turn ${role === "user" ? "user" : "other"}` },
        element("p", { class: "role" }, role),
        ...showText(report, text, `Message of ${role}`),
      ),
    ),
  );
}

/** The text of the last message of the user, which responses are scored against unless a score says otherwise. */
function lastUserMessage(messages) {
  return messages.findLast(([role]) => role === "user")?.[1] ?? null;
}

/**
 * Show what a reward model made of a response, below its name and value.
 *
 * @param {number | null} original The text that an inferred instruction was compared with.
 */
function explainScore(report, label, score, original, { reasoning = true } = {}) {
  const value = score ? formatScore(score.value) : "not run";
  const head = element("h5", null, label, " ", element("span", { class: "value" }, value));
  if (!score) return element("div", { class: "judgement" }, head);
  const parts = [];
  if (score.value === null) parts.push(paragraph(`Unscored: ${formatName(score.outcome)}`, { class: "unscored" }));
  parts.push(...explainCopies(report, score));
  if (isNumber(score.detail)) parts.push(...showText(report, score.detail, "Detail"));
  if (isNumber(score.inferred)) parts.push(showInference(report, score, score.instruction ?? original));
  if (score.inferences) parts.push(showInferences(report, score));
  if (isNumber(score.reasoning) && reasoning) {
    parts.push(
      paragraph("Reasoning", { class: "role" }),
      ...showText(report, score.reasoning, `Reasoning of ${label}`),
    );
  }
  if (isNumber(score.reply))
    parts.push(makeDetails("The reply as it came", ...showText(report, score.reply, "Reply")));
  return element("div", { class: "judgement" }, head, parts);
}

/** The inferred instruction above the original, with the tokens they share. */
function showInference(report, score, original) {
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

/** What a response copies of its instruction, and the reading that the copy guard does not count. */
function explainCopies(report, { copied, other }) {
  const parts = [];
  if (isNumber(copied))
    parts.push(paragraph(`It copies ${formatPercent(copied)} of the instruction's own words.`, { class: "note" }));
  if (other) {
    const [masked, value, outcome, inferences] = other;
    const [counts, besides] = masked ? ["as it is", "without copies"] : ["without copies", "as it is"];
    const reward = isNumber(value) ? `the reward is ${formatScore(value)}` : formatName(outcome);
    parts.push(paragraph(`Read ${counts}. Read ${besides}: ${reward}, which does not count.`, { class: "note" }));
    if (inferences) parts.push(showInferences(report, { inferences }, ` ${besides}`));
  }
  return parts;
}

/** All of several inferences, in the order in which they were drawn. */
function showInferences(report, { inferences, spread }, which = "") {
  const summary = formatCount(inferences.length, "inference") + which;
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
