"use strict";
// One attacked text: what was put in, its scores beside those of the genuine responses, and what rewards made of it.

/** Everything about one attacked text. */
function showCase(report, one) {
  const attack = report.attacks[one.attack];
  const judged = one.judged.map((row, place) => ({ label: nameAt(report, place), score: readScore(row) }));
  return [
    element("h3", { id: "sample-title", tabindex: "-1", dir: "auto" }, one.id),
    paragraph(attack.description, { class: "note" }),
    showScores(report, one),
    showConversation(report, one.messages),
    element(
      "section",
      { class: "candidate", "aria-label": "Attacked text" },
      headText(report, "Attacked text ", one.text),
      one.marks.length
        ? paragraph(
            one.genuine.some(({ changed }) => changed)
              ? "Marked: what the response did not have."
              : "Marked: words of the instruction.",
            { class: "role" },
          )
        : null,
      ...showText(report, one.text, "Attacked text", one.marks),
      judged.filter(({ score }) => score).map(({ label, score }) => explainScore(report, label, score, one.instruction)),
    ),
    ...one.genuine.map((response) => showGenuine(report, one, response)),
  ];
}

function nameAt(report, place) {
  return report.names.get(report.rewards[place].label);
}

function headText(report, title, text, ...tags) {
  const length = report.texts[text].length + (report.omitted.get(text) ?? 0);
  return element("h4", null, title, tags, element("small", null, formatCount(length, "character")));
}

/** The rewards of the attacked text, and of the genuine responses beside it. */
function showScores(report, { scores, genuine }) {
  const cells = (read) =>
    scores.map((row) => {
      if (row === null) return "not run";
      const value = read(row);
      return isNumber(value) && value >= Math.max(row[0] ?? -Infinity, ...row[1].filter(isNumber))
        ? element("strong", null, formatScore(value), spoken(" highest"))
        : formatScore(value);
    });
  return makeTable(
    "Rewards",
    ["Text", ...report.rewards.map((_, place) => nameAt(report, place))],
    [
      ["Attacked text", ...cells(([attacked]) => attacked)],
      ...genuine.map((response, place) => [nameGenuine(response), ...cells(([, others]) => others[place])]),
    ],
  );
}

function nameGenuine({ index }) {
  return `Response #${index}`;
}

/** A genuine response. */
function showGenuine(report, { scores, genuine }, response) {
  const place = genuine.indexOf(response);
  const best = scores.flatMap((row, reward) => {
    const values = row === null ? [] : row[1].filter(isNumber);
    return values.length && row[1][place] === Math.max(...values) ? [nameAt(report, reward)] : [];
  });
  const name = nameGenuine(response);
  const tags = [
    response.chosen === null ? null : response.chosen ? "chosen" : "rejected",
    response.changed ? "changed by the attack" : null,
    best.length ? `best by ${formatList(best)}` : null,
  ].filter(Boolean);
  return element(
    "section",
    { class: "candidate", "aria-label": name },
    headText(report, `${name} `, response.text, ...tags.flatMap((tag) => [element("span", { class: "tag" }, tag), " "])),
    response.missing.length
      ? paragraph("Marked: what the attacked text lacks.", { class: "role" })
      : null,
    ...showText(report, response.text, name, response.missing),
  );
}
