"use strict";

const DEFAULT_STATE = {
  figure: "win_rate",
  attack: "",
  reward: "",
  show: "all",
  sort: "margin",
  search: "",
  page: "1",
  sample: "",
};

const SHOWS = [
  ["all", "All texts"],
  ["won", "It wins"],
  ["lost", "It does not win"],
];
const SORTS = [
  ["margin", "Widest margin first"],
  ["order", "Order of the attacks"],
  ["short", "Shortest text first"],
];

/** The worst texts, as the explorer asks for them. */
class CaseView {
  noun = "text";
  #report;
  #search;

  constructor(report) {
    this.#report = report;
    this.#search = new TextSearch(report.texts, (index) => this.#listTexts(index));
    this.total = report.cases.length;
    this.spreads = report.rewards.map(({ label }) => report.spreads.get(label));
  }

  /** What each filter offers: families before their attacks. */
  offers() {
    const { attacks, rewards, names } = this.#report;
    const families = [...d3.group(attacks, ({ family }) => family)].flatMap(([family, those]) => [
      [family, `${family}, all`],
      ...those.map(({ name }) => [name, name]),
    ]);
    return {
      attack: [["", "All attacks"], ...families],
      reward: [["", "All reward models"], ...rewards.map(({ label }) => [label, names.get(label)])],
      show: SHOWS,
      sort: SORTS,
    };
  }

  idOf(index) {
    return this.#report.cases[index].id;
  }

  indexOf(id) {
    return this.#report.cases.findIndex((one) => one.id === id);
  }

  show(index) {
    return showCase(this.#report, this.#report.cases[index]);
  }

  /** A text in the list: how it begins, its attack, and where it wins most. */
  describe(index) {
    const { text, id, margins } = this.#report.cases[index];
    const reward = this.#places.length === 1 ? this.#places[0] : this.#widest(index);
    const margin = margins[reward];
    const value = isNumber(margin) ? formatRise(margin) : "–";
    return {
      excerpt: this.#report.texts[text],
      where: id,
      signs: [element("span", { class: "value" }, value)],
      spoken: `, ${value} by ${this.#report.names.get(this.#report.rewards[reward].label)}`,
    };
  }

  #places = [];

  /** The reward, of those that are asked for, by which a text wins most, in spreads. */
  #widest(index) {
    const { margins } = this.#report.cases[index];
    const value = (place) => (margins[place] === null ? -Infinity : margins[place] / this.spreads[place]);
    return this.#places.reduce((best, place) => (value(place) > value(best) ? place : best));
  }

  /** The positions of the texts that a state asks for, in its order. */
  find(state) {
    const { cases, rewards, attacks } = this.#report;
    const place = rewards.findIndex(({ label }) => label === state.reward);
    this.#places = place < 0 ? rewards.map((_, index) => index) : [place];
    const hasWords = this.#search.find(state.search);
    const found = [];
    cases.forEach((one, index) => {
      const { name, family } = attacks[one.attack];
      if (state.attack && state.attack !== name && state.attack !== family) return;
      const shown = this.#places.filter((at) => one.margins[at] !== null);
      if (!shown.length) return;
      if (state.show === "won" && !shown.some((at) => one.margins[at] > 0)) return;
      if (state.show === "lost" && !shown.some((at) => one.margins[at] <= 0)) return;
      if (hasWords(index)) found.push(index);
    });
    return this.#sort(found, state.sort);
  }

  #sort(found, sort) {
    const { cases, texts, omitted } = this.#report;
    const keys = {
      margin: (index) => {
        const place = this.#widest(index);
        return -cases[index].margins[place] / this.spreads[place];
      },
      short: (index) => texts[cases[index].text].length + (omitted.get(cases[index].text) ?? 0),
    };
    const key = keys[sort];
    if (!key) return found;
    const known = new Map(found.map((index) => [index, key(index)]));
    return found.sort((a, b) => known.get(a) - known.get(b) || a - b);
  }

  /** What can be searched of a text. */
  #listTexts(index) {
    const { id, text, messages, genuine, judged } = this.#report.cases[index];
    const scores = judged.map(readScore).filter(Boolean);
    return [id, [text, ...messages.map(([, number]) => number), ...genuine.map((one) => one.text), ...scores.flatMap(listTexts)]];
  }
}
