"use strict";

const DEFAULT_STATE = {
  benchmark: "",
  subset: "",
  reward: "",
  show: "all",
  sort: "order",
  search: "",
  page: "1",
  sample: "",
};

const SORTS = [
  ["order", "Benchmark order"],
  ["margin", "Least margin first"],
  ["margin-down", "Greatest margin first"],
  ["length", "Longest response first"],
  ["id", "Id"],
];

/** What "Show" offers; the same words mean one reward model or all of them. */
function listShows(reward) {
  return reward
    ? [
        ["all", "All samples"],
        ["right", "Right"],
        ["wrong", "Wrong or tied"],
        ["tied", "Tied"],
        ["unscored", "Unscored"],
        ["disagreement", "Another one decides otherwise"],
      ]
    : [
        ["all", "All samples"],
        ["right", "Right by all"],
        ["wrong", "Wrong or tied by all"],
        ["tied", "Tied by any"],
        ["unscored", "Unscored by any"],
        ["disagreement", "Disagreement"],
      ];
}

/** Tell whether a sample is shown, given the reward models' decisions about it. */
function decisionMatches(show, own, all) {
  const right = (decision) => decision === "r";
  const decided = all.filter((decision) => decision !== "u");
  switch (show) {
    case "right":
      return own.length > 0 && own.every(right);
    case "wrong":
      return own.length > 0 && own.every((decision) => decision === "w" || decision === "t");
    case "tied":
      return own.includes("t");
    case "unscored":
      return own.includes("u");
    case "disagreement":
      return own.some((one) => one !== "u" && decided.some((other) => right(one) !== right(other)));
    default:
      return true;
  }
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

/** The samples of a benchmark, as the explorer asks for them. */
class BenchmarkView {
  noun = "sample";
  #report;
  #benchmark;
  #search;

  constructor(report, benchmark) {
    this.#report = report;
    this.#benchmark = benchmark;
    this.total = benchmark.samples.length;
    this.#search = new TextSearch(report.texts, (index) => this.#listTexts(index));
    const runs = Math.max(...benchmark.cells.map((cell) => cell.runs), 1);
    byId("runs-note").hidden = runs === 1;
    byId("runs-note").textContent = `The first of ${runs} runs is shown; accuracies are means over all.`;
  }

  /** What each filter offers in a state. */
  offers(state) {
    const { subsets, cells } = this.#benchmark;
    const rewards = cells.map((cell) => [this.#report.rewards[cell.reward].label, nameOf(this.#report, cell)]);
    return {
      subset: [["", "All subsets"], ...subsets.map(({ name }) => [name, name])],
      reward: [["", "All reward models"], ...rewards],
      show: listShows(state.reward),
      sort: SORTS,
    };
  }

  idOf(index) {
    return this.#benchmark.samples[index].id;
  }

  indexOf(id) {
    return this.#benchmark.samples.findIndex((sample) => sample.id === id);
  }

  show(index) {
    return showSample(this.#report, this.#benchmark, index);
  }

  /** A sample in the list: its instruction, where it is, and the decisions about it. */
  describe(index) {
    const { samples, subsets, cells } = this.#benchmark;
    const sample = samples[index];
    const instruction = lastUserMessage(sample.messages) ?? sample.messages.at(-1)?.[1];
    const decisions = cells.map((cell) => ({ label: nameOf(this.#report, cell), decision: cell.decisions[index] }));
    return {
      excerpt: instruction === undefined ? "" : this.#report.texts[instruction],
      where: subsets[sample.subset].name,
      signs: decisions.map(({ label, decision }) =>
        element(
          "span",
          { class: DECISION_NAMES[decision], title: `${label}: ${DECISION_NAMES[decision]}` },
          DECISION_SIGNS[decision],
        ),
      ),
      spoken: decisions.map(({ label, decision }) => `, ${label} ${DECISION_NAMES[decision]}`).join(""),
    };
  }

  /** The positions of the samples that a state asks for, in its order. */
  find(state) {
    const { samples, subsets, cells } = this.#benchmark;
    const subset = subsets.findIndex(({ name }) => name === state.subset);
    const own = this.#cellsOf(state.reward);
    const hasWords = this.#search.find(state.search);
    const found = [];
    samples.forEach((sample, index) => {
      if (subset >= 0 && sample.subset !== subset) return;
      const decide = (cell) => cell.decisions[index];
      if (!decisionMatches(state.show, own.map(decide), cells.map(decide))) return;
      if (hasWords(index)) found.push(index);
    });
    return this.#sort(found, state.sort, own);
  }

  #cellsOf(label) {
    const { cells } = this.#benchmark;
    const chosen = cells.filter((cell) => this.#report.rewards[cell.reward].label === label);
    return chosen.length ? chosen : cells;
  }

  #sort(found, sort, cells) {
    const { samples } = this.#benchmark;
    const keys = new Map();
    const by = (key) => {
      for (const index of found) keys.set(index, key(index));
      return found.sort((a, b) => keys.get(a) - keys.get(b) || a - b);
    };
    switch (sort) {
      case "margin":
        return by((index) => this.#margin(index, cells) ?? Infinity);
      case "margin-down":
        return by((index) => -(this.#margin(index, cells) ?? -Infinity));
      case "length":
        return by((index) => -Math.max(...samples[index].responses.map((text) => this.#length(text))));
      case "id":
        return found.sort((a, b) => samples[a].id.localeCompare(samples[b].id, "en", { numeric: true }));
      default:
        return found;
    }
  }

  /** The mean margin, each reward in units of its own range. */
  #margin(index, cells) {
    const margins = cells
      .map((cell) => {
        const edges = cell.distribution?.edges ?? [0, 1];
        const margin = marginOf(cell, index, this.#benchmark.samples[index].chosen);
        return margin === null ? null : margin / (edges.at(-1) - edges[0]);
      })
      .filter((margin) => margin !== null);
    return margins.length ? margins.reduce((sum, margin) => sum + margin, 0) / margins.length : null;
  }

  #length(text) {
    return this.#report.texts[text].length + (this.#report.omitted.get(text) ?? 0);
  }

  /** What can be searched of a sample. */
  #listTexts(index) {
    const { id, messages, responses } = this.#benchmark.samples[index];
    const scores = this.#benchmark.cells.flatMap((cell) => cell.scores[index].map(readScore)).filter(Boolean);
    return [id, [...messages.map(([, text]) => text), ...responses, ...scores.flatMap(listTexts)]];
  }
}
