"use strict";

/** Shows an evaluation, one benchmark at a time. */
class EvaluationPage {
  #report;
  #benchmark;
  #view;

  constructor(data) {
    const report = { ...data, names: shortenLabels(data.rewards.map(({ label }) => label)) };
    this.#report = report;
    const { benchmarks } = report;
    fillSelect(
      byId("benchmark"),
      benchmarks.map(({ name }) => [name, name]),
      "",
    );
    byId("benchmark").parentElement.hidden = benchmarks.length < 2;
    const items = benchmarks.reduce((sum, benchmark) => sum + benchmark.items, 0);
    const shown = benchmarks.reduce((sum, { samples }) => sum + samples.length, 0);
    byId("part").hidden = shown === items;
    byId("part").textContent =
      `${formatNumber(shown)} of ${formatCount(items, "item")} are in this file: of every subset and every decision of each ` +
      "reward model alike, evenly over the benchmark. Figures are of all.";
    const byline = [
      formatCount(items, "sample"),
      formatCount(report.rewards.length, "reward model"),
      formatCount(benchmarks.length, "benchmark"),
      commonModel(report),
    ];
    const page = new Page(report, byline, (state) => this.#look(state));
    byId("benchmark").addEventListener("change", (event) =>
      page.navigate({ ...DEFAULT_STATE, benchmark: event.target.value }),
    );
  }

  #look(state) {
    const report = this.#report;
    const benchmark = report.benchmarks.find(({ name }) => name === state.benchmark) ?? report.benchmarks[0];
    if (benchmark && benchmark !== this.#benchmark) {
      this.#benchmark = benchmark;
      this.#view = new BenchmarkView(report, benchmark);
      byId("benchmark").value = benchmark.name;
      fillSection("results", describeResults(report, benchmark));
      fillSection("subsets", describeSubsets(report, benchmark));
      fillSection("comparisons", describeComparisons(report, benchmark));
      fillSection("rewards", describeRewards(report, benchmark));
      fillSection("lengths", describeLengths(report, benchmark));
      fillSection("outcomes", describeOutcomes(report, benchmark));
      fillSection("effort", describeEffort(report, benchmark));
    }
    return this.#view;
  }
}

openReport((data) => new EvaluationPage(data));
