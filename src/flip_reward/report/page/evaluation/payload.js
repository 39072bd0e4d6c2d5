"use strict";

/** Label -> what it is called here: "flip @ model" is "flip" where all that have a model have the same. */
function shortenLabels(labels) {
  const parts = labels.map((label) => label.split(/ @ (.*)/s));
  const models = new Set(parts.map(([, model]) => model).filter(Boolean));
  const short = parts.map(([name]) => name);
  const clear = models.size === 1 && new Set(short).size === labels.length;
  return new Map(labels.map((label, index) => [label, clear ? short[index] : label]));
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
