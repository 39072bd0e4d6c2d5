"use strict";
// One sample: the prompt, the response with what it copied, what the reward made of it, and the same prompt at other steps.

/** Everything about one sample. */
function showTrainingSample(report, index) {
  const sample = report.samples[index];
  return [
    element("h3", { id: "sample-title", tabindex: "-1", dir: "auto" }, capitalise(whereIs(report, sample))),
    paragraph(
      [sample.row === null ? null : `prompt ${formatNumber(sample.row)}`, ...namedBy(report, sample)].filter(Boolean).join(" · "),
      { class: "note" },
    ),
    element(
      "section",
      { "aria-label": "Prompt" },
      element("h4", null, "Prompt"),
      ...showText(report, sample.prompt, "Prompt"),
    ),
    showResponse(report, sample),
    showOthers(report, sample),
  ];
}

/** The alarms that name a sample. */
function namedBy({ alarms }, { id }) {
  return alarms
    .filter(({ examples }) => examples.includes(id))
    .map(({ step }) => `named by the alarm of step ${formatNumber(step)}`);
}

function showResponse(report, sample, name = "Response", { link = false } = {}) {
  const { length, copied, response, marks } = sample;
  const facts = [formatCount(length, "character"), isNumber(copied) ? `${formatPercent(copied)} copied` : null];
  return element(
    "section",
    { class: "candidate", "aria-label": name },
    element(
      "h4",
      null,
      link ? makeLink(report, sample.id, name) : name,
      " ",
      element("small", null, facts.filter(Boolean).join(", ")),
    ),
    ...showText(report, response, name, marks),
    marks.length
      ? paragraph("Marked: what it copied from the prompt, material to work on included.", { class: "role" })
      : null,
    showEarned(report, sample),
  );
}

function makeLink({ open }, id, name) {
  const button = element("button", { type: "button", class: "plain" }, name);
  button.addEventListener("click", () => open(id));
  return button;
}

/** The reward, others beside it, and the inferred instruction. */
function showEarned(report, sample) {
  const others = Object.entries(sample.others);
  return element(
    "div",
    { class: "judgement" },
    element("h5", null, "Reward ", element("span", { class: "value" }, describeReward(sample))),
    ...others.map(([name, value]) =>
      element("h5", null, `${name}, not trained on `, element("span", { class: "value" }, formatScore(value))),
    ),
    isNumber(sample.inferred)
      ? showInference(
          report,
          { inferred: sample.inferred, inferredMarks: sample.inferred_marks, originalMarks: sample.prompt_marks },
          sample.prompt,
        )
      : null,
  );
}

/** Responses to the same prompt at the first and the last step that are here, beside this one. */
function showOthers(report, sample) {
  if (sample.row === null) return null;
  const same = report.samples.filter(
    (other) => other.run === sample.run && other.split === sample.split && other.row === sample.row,
  );
  const before = same.find(({ step }) => step < sample.step);
  const after = same.findLast(({ step }) => step > sample.step);
  const shown = [
    [before, "Before"],
    [after, "After"],
  ].filter(([other]) => other);
  if (!shown.length) return null;
  return element(
    "section",
    { class: "others", "aria-label": "The same prompt at other steps" },
    element("h4", null, "The same prompt at other steps"),
    element(
      "div",
      { class: "side" },
      shown.map(([other, when]) => showResponse(report, other, `${when}, step ${formatNumber(other.step)}`, { link: true })),
    ),
  );
}
