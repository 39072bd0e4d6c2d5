"use strict";

/** Show a training, or several that differ in the seed. */
function showTraining(data) {
  const report = { ...data, places: new Map(data.samples.map(({ id }, index) => [id, index])) };
  byId("kicker").textContent = report.kicker;
  const left = report.samples_total - report.samples.length;
  byId("part").hidden = left <= 0;
  byId("part").textContent =
    `${formatNumber(report.samples.length)} of ${formatCount(report.samples_total, "sample")} are in this file: half of them ` +
    `from the first and the last steps, those that alarms name, and others evenly. ${formatNumber(left)} are left out. ` +
    "Figures are of all.";
  report.open = (id) => page.navigate({ ...DEFAULT_STATE, sample: id }, { push: true, focus: true });
  fillSection("policy", describePolicy(report));
  fillSection("alarms", describeAlarms(report));
  for (const section of ["watched", "course"]) fillSection(section, describeFigures(report, section));
  for (const section of ["alarms", "watched", "course"]) hideEmpty(section);
  const view = new TrainingView(report);
  const steps = report.samples.map(({ step }) => step);
  const byline = [
    report.runs.length > 1 ? formatCount(report.runs.length, "training") : null,
    steps.length ? `steps ${formatNumber(least(steps))} to ${formatNumber(most(steps))}` : null,
    formatCount(report.samples_total, "sample"),
  ];
  if (!location.hash.includes("=") && Object.keys(report.asked).length)
    history.replaceState(null, "", writeState({ ...DEFAULT_STATE, ...report.asked }));
  const page = new Page(report, byline, () => view);
}

/** Leave out a section that has nothing to show, and the link to it. */
function hideEmpty(section) {
  const empty = !byId(section).querySelector(".body").hasChildNodes();
  byId(section).hidden = empty;
  document.querySelector(`nav.bar a[href="#${section}"]`).parentElement.hidden = empty;
}

openReport(showTraining);
