"use strict";

const DEFAULT_STATE = {
  from: "",
  to: "",
  split: "",
  outcome: "",
  run: "",
  sort: "order",
  search: "",
  page: "1",
  sample: "",
};

const SORTS = [
  ["order", "First step first"],
  ["step-down", "Last step first"],
  ["reward-down", "Highest reward first"],
  ["reward", "Lowest reward first"],
  ["copied-down", "Most copied first"],
  ["length-down", "Longest response first"],
  ["length", "Shortest response first"],
];
const SPLIT_NAMES = { train: "learned from", "held-out": "held out" };

// Math.max(...) fails with very many arguments.
function least(numbers) {
  return numbers.reduce((low, number) => Math.min(low, number), Infinity);
}

function most(numbers) {
  return numbers.reduce((high, number) => Math.max(high, number), -Infinity);
}

/** The samples of a training, as the explorer asks for them. */
class TrainingView {
  #report;
  #search;
  #offers;

  constructor(report) {
    this.#report = report;
    this.#search = new TextSearch(report.texts, (index) => {
      const { prompt, response, inferred } = report.samples[index];
      return ["", [prompt, response, inferred]];
    });
    this.noun = "sample";
    this.total = report.samples.length;
    this.#offers = this.#makeOffers();
    for (const id of ["split", "outcome", "run"]) byId(id).parentElement.hidden = this.#offers[id].length < 3;
  }

  #makeOffers() {
    const { samples, runs } = this.#report;
    const distinct = (read) => [...new Set(samples.map(read))];
    const steps = distinct(({ step }) => step).sort((a, b) => a - b);
    const counted = (key, name) =>
      distinct((sample) => sample[key]).map((value) => [
        String(value),
        `${name(value)} (${formatNumber(samples.filter((sample) => sample[key] === value).length)})`,
      ]);
    return {
      from: [["", "The first"], ...steps.map((step) => [String(step), formatNumber(step)])],
      to: [["", "The last"], ...steps.map((step) => [String(step), formatNumber(step)])],
      split: [["", "All"], ...counted("split", (split) => capitalise(SPLIT_NAMES[split]))],
      outcome: [["", "All outcomes"], ...counted("outcome", formatName)],
      run: [["", "All"], ...counted("run", (run) => runs[run])],
      sort: SORTS,
    };
  }

  /** What each filter offers. */
  offers() {
    return this.#offers;
  }

  idOf(index) {
    return this.#report.samples[index].id;
  }

  indexOf(id) {
    return this.#report.places.get(id) ?? -1;
  }

  show(index) {
    return showTrainingSample(this.#report, index);
  }

  /** A sample in the list: its prompt, where it comes from, and its reward. */
  describe(index) {
    const { texts, samples } = this.#report;
    const sample = samples[index];
    const reward = describeReward(sample);
    const copied = sample.copied ? `, ${formatPercent(sample.copied)} copied` : "";
    return {
      excerpt: texts[sample.prompt],
      where: whereIs(this.#report, sample) + copied,
      signs: [element("span", { class: "value" }, reward)],
      spoken: `, ${reward}`,
    };
  }

  /** The positions of the samples that a state asks for, in its order. */
  find(state) {
    const { samples } = this.#report;
    const hasWords = this.#search.find(state.search);
    const from = state.from === "" ? -Infinity : Number(state.from);
    const to = state.to === "" ? Infinity : Number(state.to);
    const found = [...samples.keys()].filter((index) => {
      const sample = samples[index];
      return (
        sample.step >= from &&
        sample.step <= to &&
        ["split", "outcome", "run"].every((key) => state[key] === "" || String(sample[key]) === state[key]) &&
        hasWords(index)
      );
    });
    return this.#sort(found, state.sort);
  }

  #sort(found, sort) {
    const [key, descending] = sort.split("-");
    const read = { order: ({ step }) => step }[key] ?? ((sample) => sample[key]);
    // What a sample does not have goes last.
    const rank = (index) => {
      const value = read(this.#report.samples[index]);
      return isNumber(value) ? (descending ? -value : value) : Infinity;
    };
    const ranks = new Map(found.map((index) => [index, rank(index)]));
    return found.sort((a, b) => (ranks.get(a) === ranks.get(b) ? a - b : ranks.get(a) - ranks.get(b)));
  }
}

/** "0.571", or "empty reply" where there is none. */
function describeReward({ reward, outcome }) {
  return isNumber(reward) ? formatScore(reward) : outcome === "scored" ? "no reward" : formatName(outcome);
}

/** "step 7, held out" */
function whereIs({ runs }, { run, step, split }) {
  return [runs.length > 1 ? runs[run] : null, `step ${formatNumber(step)}`, SPLIT_NAMES[split]].filter(Boolean).join(", ");
}
