"use strict";

/** Show an audit. */
function showAudit(data) {
  const report = {
    ...data,
    names: shortenLabels(data.rewards.map(({ label }) => label)),
    spreads: new Map(data.audited.map(({ label, spread }) => [label, spread || 1])),
    cells: new Map(data.results.map((result) => [cellKey(result.attack, result.reward), result])),
  };
  byId("missing").hidden = !report.missing.length;
  byId("missing").textContent = `Not scored to the end: ${formatList(report.missing)}. The same command goes on with it.`;
  const choose = (attack, reward) => {
    page.navigate({ ...DEFAULT_STATE, figure: readState(location.hash).figure, attack, reward });
    byId("samples").scrollIntoView();
    byId("samples-title").focus({ preventScroll: true });
  };
  fillSection("results", describeResults(report));
  fillSection("learned", describeLearned(report, choose));
  fillSection("slopes", describeSlopes(report));
  fillSection("broken", describeBroken(report, choose));
  fillSection("kept", describeKept(report, choose));
  fillSection("unscored", describeUnscored(report));
  const figures = offerFigures(report);
  byId("figure").closest("p").hidden = !figures.length;
  byId("figure").addEventListener("change", (event) => page.navigate({ figure: event.target.value }));
  const view = new CaseView(report);
  const byline = [
    formatCount(report.prompts, "prompt"),
    formatCount(report.responses, "genuine response"),
    report.labelled ? `${formatNumber(report.labelled)} with labels` : null,
    formatCount(report.attacks.length, "attack"),
    formatCount(report.rewards.length, "reward model"),
    commonModel(report),
  ];
  let shown = null;
  const page = new Page(report, byline, ({ figure: wanted }) => {
    const figure = figures.some(([key]) => key === wanted) ? wanted : (figures[0]?.[0] ?? "win_rate");
    if (figure !== shown) {
      shown = figure;
      if (figures.length) fillSelect(byId("figure"), figures, figure);
      fillSection("attacks", describeAttacks(report, figure, choose));
    }
    return view;
  });
}

openReport(showAudit);
