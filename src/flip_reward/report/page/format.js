"use strict";

const MINUS = "\u2212";
const DECISION_NAMES = { r: "right", w: "wrong", t: "tied", u: "unscored" };
const DECISION_SIGNS = { r: "✓", w: "✗", t: "=", u: "–" };

/** 0.6123 -> "61.2" */
function formatPoints(share) {
  return signed((share * 100).toFixed(1));
}

/** 0.6123 -> "61.2%" */
function formatPercent(share) {
  return `${formatPoints(share)}%`;
}

/** An estimate of a share -> "57.3 to 66.8" */
function formatInterval({ low, high }) {
  return `${formatPoints(low)} to ${formatPoints(high)}`;
}

/** A difference of shares -> "+8.1" */
function formatDifference(difference) {
  const points = formatPoints(difference);
  return /^[\d.]*[1-9]/.test(points) ? `+${points}` : points;
}

/** 12345.6 -> "12,346"; small numbers keep three digits. */
function formatNumber(number) {
  const short = Math.abs(number) < 100 && !Number.isInteger(number);
  return signed((short ? THREE_DIGITS : WHOLE).format(number));
}

const THREE_DIGITS = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });
const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** 12345.6 -> "12k", for where there is little room */
function formatShort(number) {
  const size = Math.abs(number);
  if (size >= 1e6) return signed(`${(number / 1e6).toPrecision(2)}M`);
  if (size >= 9950) return signed(`${Math.round(number / 1000)}k`);
  if (size >= 1000) return signed(`${(number / 1000).toFixed(1)}k`);
  return signed(number.toFixed(0));
}

/** A reward, precision or recall -> "0.571"; a rating keeps what it has. */
function formatScore(value) {
  if (value === null || value === undefined) return "–";
  return signed(Number.isInteger(value) && Math.abs(value) > 1 ? String(value) : value.toFixed(3));
}

/** A probability -> "0.013" or "< 0.001" */
function formatProbability(p) {
  return p < 0.001 ? "< 0.001" : p.toFixed(3);
}

/** "truncated_reply" -> "truncated reply" */
function formatName(name) {
  return name.replaceAll("_", " ");
}

/** "average of domains" -> "Average of domains" */
function capitalise(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** 1, "item" -> "1 item"; 2 -> "2 items" */
function formatCount(number, noun) {
  return `${formatNumber(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** ["a", "b", "c"] -> "a, b and c" */
function formatList(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** Label -> what it is called here: "flip @ model" is "flip" where all that have a model have the same. */
function shortenLabels(labels) {
  const parts = labels.map((label) => label.split(/ @ (.*)/s));
  const models = new Set(parts.map(([, model]) => model).filter(Boolean));
  const short = parts.map(([name]) => name);
  const clear = models.size === 1 && new Set(short).size === labels.length;
  return new Map(labels.map((label, index) => [label, clear ? short[index] : label]));
}

/** The model that all reward models with a model ask, where it is the same. */
function commonModel({ rewards }) {
  const models = new Set(rewards.map(({ model }) => model).filter(Boolean));
  return models.size === 1 ? [...models][0] : null;
}

function signed(text) {
  return text.replace(/^-(?=.*[1-9])/, MINUS).replace(/^-/, "");
}
