"use strict";

const DEFAULT_STATE = {
  outcome: "",
  bar: "",
  caution: "",
  group: "",
  sort: "order",
  search: "",
  page: "1",
  sample: "",
};

const SORTS = [
  ["order", "Order of the input"],
  ["reward", "Lowest reward first"],
  ["reward-down", "Highest reward first"],
  ["length-down", "Longest response first"],
  ["length", "Shortest response first"],
];
const GROUP_SORTS = [["spread", "Widest spread of rewards first"]];
const GROUPS = [
  ["", "All groups"],
  ["tied", "Tied at the top"],
  ["clear", "One on top"],
  ["part", "Some unscored"],
  ["none", "Nothing scored"],
];

/** What a group looks like: its rewards against each other. */
function groupMatches(wanted, group) {
  const unscored = group.candidates.filter(({ score }) => score.value === null).length;
  switch (wanted) {
    case "tied":
      return group.top.length > 1;
    case "clear":
      return group.top.length === 1;
    case "part":
      return unscored > 0 && unscored < group.candidates.length;
    case "none":
      return unscored === group.candidates.length;
    default:
      return true;
  }
}

/** The rows of a run, as the explorer asks for them. */
class RunView {
  #report;
  #search;

  constructor(report) {
    this.#report = report;
    this.#search = new TextSearch(report.texts, (index) => this.#listTexts(index));
    this.grouped = report.samples.some(({ size }) => size > 1);
    this.noun = this.grouped ? report.unit : "response";
    this.total = report.samples.length;
    this.#hide("group", !this.grouped);
    this.#hide("caution", !report.cautions.length);
  }

  #hide(filter, hidden) {
    byId(filter).parentElement.hidden = hidden;
  }

  /** What each filter offers. */
  offers() {
    const { outcomes, cautions, histogram } = this.#report;
    const counted = ({ name, count }) => [name, `${formatName(name)} (${formatNumber(count)})`];
    const bars = (histogram?.counts ?? []).map((count, bin) => [
      String(bin),
      `${nameBar(histogram.edges, bin)} (${formatNumber(count)})`,
    ]);
    return {
      outcome: [["", "All outcomes"], ...outcomes.map(counted)],
      bar: [["", "Any reward"], ...bars, ["none", "No reward"]],
      caution: [["", "With or without"], ...cautions.map(counted)],
      group: GROUPS,
      sort: this.grouped ? [...SORTS, ...GROUP_SORTS] : SORTS,
    };
  }

  idOf(index) {
    return this.#report.samples[index].id;
  }

  indexOf(id) {
    return this.#report.samples.findIndex((sample) => sample.id === id);
  }

  show(index) {
    return showRow(this.#report, this.#report.samples[index]);
  }

  /** A row in the list: its instruction, its id, and its rewards. */
  describe(index) {
    const { id, instruction, candidates, size } = this.#report.samples[index];
    const rewards = describeRewardsOf(candidates);
    return {
      excerpt: this.#report.texts[instruction],
      where: size > 1 ? `${id} · ${formatCount(size, "response")}` : id,
      signs: [element("span", { class: "value" }, rewards)],
      spoken: `, ${rewards}`,
    };
  }

  /** The positions of the rows that have such a response, in the order that a state asks for. */
  find(state) {
    const { samples } = this.#report;
    const hasWords = this.#search.find(state.search);
    const found = [];
    const matching = new Map();
    samples.forEach((sample, index) => {
      const some = sample.candidates.filter((candidate) => candidateMatches(state, candidate));
      if (!some.length || !groupMatches(state.group, sample) || !hasWords(index)) return;
      matching.set(index, some);
      found.push(index);
    });
    return this.#sort(found, state.sort, matching);
  }

  #sort(found, sort, matching) {
    const numbers = (index, read) => matching.get(index).map(read).filter(isNumber);
    const rewards = (index) => numbers(index, ({ score }) => score.value);
    const lengths = (index) => numbers(index, ({ length }) => length);
    const keys = {
      reward: (index) => Math.min(...rewards(index)),
      "reward-down": (index) => -Math.max(...rewards(index)),
      length: (index) => Math.min(...lengths(index)),
      "length-down": (index) => -Math.max(...lengths(index)),
      spread: (index) => Math.min(...rewards(index)) - Math.max(...rewards(index)),
    };
    const key = keys[sort];
    if (!key) return found;
    const known = new Map(found.map((index) => [index, key(index)])); // Infinity without any, which goes last
    return found.sort((a, b) => (known.get(a) === known.get(b) ? a - b : known.get(a) - known.get(b)));
  }

  /** What can be searched of a row. */
  #listTexts(index) {
    const { id, instruction, messages, candidates } = this.#report.samples[index];
    const answers = candidates.flatMap(({ response, reply, score }) => [response, reply, ...listTexts(score)]);
    return [id, [instruction, ...messages.map(([, text]) => text), ...answers]];
  }
}

function candidateMatches({ outcome, bar, caution }, candidate) {
  if (outcome && candidate.score.outcome !== outcome) return false;
  if (bar && (bar === "none" ? candidate.bin !== null : String(candidate.bin) !== bar)) return false;
  return !caution || candidate.cautions.includes(caution);
}

/** "0.571"; of several "0.120 to 0.571"; "empty reply" where there is none. */
function describeRewardsOf(candidates) {
  const values = candidates.map(({ score }) => score.value).filter(isNumber);
  if (!values.length) return [...new Set(candidates.map(({ score }) => formatName(score.outcome)))].join(", ");
  const [low, high] = [Math.min(...values), Math.max(...values)].map(formatScore);
  return low === high ? low : `${low} to ${high}`;
}
