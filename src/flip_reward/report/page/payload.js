"use strict";

/** Read what `evaluation.py` put into the page: base64 of compressed JSON. */
async function readReport() {
  const bytes = Uint8Array.from(atob(byId("data").textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const { payload, texts, omitted, text_limit: textLimit } = JSON.parse(await new Response(stream).text());
  return {
    ...payload,
    texts,
    omitted: new Map(omitted),
    textLimit,
    names: shortenLabels(payload.rewards.map(({ label }) => label)),
  };
}

/** Label -> what it is called here: "flip @ model" is "flip" where all that have a model have the same. */
function shortenLabels(labels) {
  const parts = labels.map((label) => label.split(/ @ (.*)/s));
  const models = new Set(parts.map(([, model]) => model).filter(Boolean));
  const short = parts.map(([name]) => name);
  const clear = models.size === 1 && new Set(short).size === labels.length;
  return new Map(labels.map((label, index) => [label, clear ? short[index] : label]));
}

/** Name the values of a score; see `score_row` in payload.py. Null where none was recorded. */
function readScore(row) {
  if (row === null) return null;
  const [
    value,
    outcome,
    precision,
    recall,
    inferred,
    inferredMarks,
    originalMarks,
    instruction,
    reasoning,
    reply,
    detail,
    spread,
    inferences,
  ] = row;
  return {
    value: value ?? null,
    outcome,
    precision,
    recall,
    inferred,
    inferredMarks,
    originalMarks,
    instruction,
    reasoning,
    reply,
    detail,
    spread,
    inferences,
  };
}

/** The text of the last message of the user, which responses are scored against unless a score says otherwise. */
function lastUserMessage(messages) {
  return messages.findLast(([role]) => role === "user")?.[1] ?? null;
}

/** By how much a reward prefers the best chosen to the best rejected response; null without a decision. */
function marginOf(cell, sample, chosen) {
  if (cell.decisions[sample] === "u") return null;
  let best = -Infinity;
  let other = -Infinity;
  cell.scores[sample].forEach((row, index) => {
    if (chosen[index] === "1") best = Math.max(best, row[0]);
    else other = Math.max(other, row[0]);
  });
  return Number.isFinite(best - other) ? best - other : null;
}
