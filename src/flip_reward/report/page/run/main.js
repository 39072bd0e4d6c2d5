"use strict";

/** Show a run. */
function showRun(data) {
  const samples = data.samples.map((sample) => ({
    ...sample,
    candidates: sample.candidates.map((candidate) => ({ ...candidate, score: readScore(candidate.score) })),
  }));
  const report = { ...data, samples };
  byId("kicker").textContent = `flip-reward ${report.kind}, ${report.reward}`;
  tell("unfinished", report.unfinished);
  tell("missing", report.missing && `Not all texts are here: ${report.missing}.`);
  const some = report.samples_responses < report.responses;
  tell(
    "part",
    some &&
      `${formatNumber(report.samples_responses)} of ${formatCount(report.responses, "response")} are in this file: ` +
        "of every bar of the histogram, every outcome and every caution alike, evenly over the input. Figures are of all.",
  );
  const choose = (changes) => {
    page.navigate({ ...DEFAULT_STATE, sort: readState(location.hash).sort, ...changes });
    byId("samples").scrollIntoView();
  };
  fillSection(
    "rewards",
    describeRewards(report, (bar) => choose({ bar })),
  );
  fillSection(
    "outcomes",
    describeOutcomes(report, (filter, name) => choose({ [filter]: name })),
  );
  fillSection("effort", describeEffort(report));
  fillSection("rejected", describeRejected(report));
  const view = new RunView(report);
  const byline = [
    formatCount(report.responses, "response"),
    report.groups < report.responses ? formatCount(report.groups, report.unit) : null,
    report.engine,
  ];
  const page = new Page(report, byline, (state) => {
    pressBar(state.bar);
    return view;
  });
}

/** Say something where there is something to say. */
function tell(id, text) {
  byId(id).hidden = !text;
  byId(id).textContent = text || "";
}

openReport(showRun);
