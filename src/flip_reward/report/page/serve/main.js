"use strict";
// The question of a visitor -> the server's answer, shown as the report of a run shows a row.

const ORDERS = [
  ["best", "Best first"],
  ["asked", "As they were asked"],
];

const LONGEST_MARKED = 20_000; // characters, as the server has it

/** Ask the server for something; an error has the words to show. */
async function ask(path, question, signal) {
  const key = byId("key").value.trim();
  if (/[^ -~]/.test(key)) refuseKey(); // no header can hold it
  const headers = { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(question), signal }).catch((error) => {
    throw signal.aborted ? error : new Error("The server does not answer. Is it still running?");
  });
  const said = await answer.json().catch(() => null);
  if (answer.status === 401) refuseKey();
  if (!answer.ok || !said) throw new Error(capitalise(said?.error?.message ?? `the server answered ${answer.status}`));
  return said;
}

function refuseKey() {
  byId("key").focus();
  throw new Error("The server does not know this key.");
}

/** Ask for the rewards of responses, and for the words that are shared, and return what there is to show. */
async function askRewards(known, { instruction, responses }, signal) {
  const answer = await ask("v1/rewards", { groups: [{ prompt: instruction, responses }], details: true }, signal);
  const [{ scores, error }] = answer.results;
  if (error) throw new Error(capitalise(error.message));
  const inferred = scores.map((score) => score.inferred_instruction ?? "");
  const marked = inferred.some(Boolean) && [instruction, ...inferred].every(({ length }) => length <= LONGEST_MARKED);
  const marks = marked ? await ask("shared-words", { instruction, inferred }, signal).catch(() => []) : [];
  signal.throwIfAborted();
  const report = { ...known, texts: [], omitted: new Map() };
  const add = (text) => (text === null || text === undefined ? null : report.texts.push(text) - 1);
  const candidates = scores.map((score, place) => ({
    index: place + 1,
    response: add(responses[place]),
    length: Array.from(responses[place]).length,
    score: readAnswer(score, marks[place], add),
    cautions: score.cautions,
    cost: [score.usage.prompt_tokens, score.usage.completion_tokens, score.attempts, score.latency_seconds, score.cached],
    measures: listMeasures(score),
  }));
  const highest = Math.max(...scores.map(({ reward }) => reward ?? -Infinity));
  const top = scores.flatMap(({ reward }, place) => (reward === highest ? [place] : []));
  const row = { size: scores.length, instruction: add(instruction), candidates, top, chosen: null };
  return { report, row, model: answer.model, reward: answer.reward };
}

/** A score of the server -> a score as `readScore` makes it. */
function readAnswer(score, marks, add) {
  const drawn = (samples) =>
    samples.length ? samples.map((one) => [one.reward, add(one.inferred_instruction), one.outcome]) : null;
  const other = score.other_reading;
  const explained = score.reward !== null && (score.inferred_instruction || score.reasoning);
  return {
    value: score.reward,
    outcome: score.outcome,
    precision: score.precision,
    recall: score.recall,
    inferred: add(score.inferred_instruction),
    inferredMarks: marks?.inferred,
    originalMarks: marks?.original,
    instruction: null,
    reasoning: add(score.reasoning),
    reply: explained ? null : add(score.raw_reply),
    detail: add(score.detail),
    spread: score.spread,
    inferences: drawn(score.samples),
    copied: score.copied_share || null,
    other: other && [other.masked, other.value, other.outcome, null],
  };
}

/** What a composite reward is made of, and how likely an instruction was: names and values. */
function listMeasures({ parts, likelihood }) {
  return [
    ...parts.map(({ name, value, outcome }) => [name, value === null ? formatName(outcome) : formatScore(value)]),
    ...Object.entries(likelihood ?? {}).filter(([, value]) => isNumber(value)).map(([name, value]) => [formatName(name), formatNumber(value)]),
  ];
}

function showAnswer({ report, row }) {
  const places = row.candidates.map((_, place) => place);
  if (byId("order").value === "best") {
    const value = (place) => row.candidates[place].score.value ?? -Infinity;
    places.sort((one, other) => value(other) - value(one) || one - other);
  }
  return places.map((place) => {
    const shown = showCandidate(report, row, row.candidates[place], place);
    const { measures } = row.candidates[place];
    if (measures.length) {
      const pairs = measures.map(([name, value]) => element("div", null, element("dt", null, name), element("dd", null, value)));
      shown.querySelector("h5").after(element("dl", { class: "measures" }, pairs));
    }
    return shown;
  });
}

function introduce({ reward, model }) {
  if (reward) byId("kicker").textContent = ["flip-reward serve", reward, model === "none" ? null : model].filter(Boolean).join(" · ");
}

function openTrial(known) {
  const form = new QuestionForm();
  let answer = null;
  let asking = null;

  const draw = () => {
    byId("answer").replaceChildren(...(answer ? showAnswer(answer) : []));
    byId("order-field").hidden = !(answer?.row.size > 1);
  };
  const say = (status, failure = "") => {
    byId("status").textContent = status;
    byId("failure").textContent = failure;
    byId("failure").hidden = !failure;
  };
  const setAsking = (controller) => {
    asking = controller;
    byId("ask").hidden = Boolean(controller);
    byId("stop").hidden = !controller;
    byId("results").setAttribute("aria-busy", String(Boolean(controller)));
  };

  byId("question").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (asking) return;
    setAsking(new AbortController());
    byId("stop").focus();
    answer = null;
    draw();
    say("The model is asked …");
    try {
      answer = await askRewards(known, form, asking.signal);
      introduce(answer);
      const { row } = answer;
      say(row.size > 1 ? describeVerdict({}, row) ?? `#${row.top[0] + 1} has the highest reward.` : "");
      byId("results-title").focus();
    } catch (error) {
      say("", asking.signal.aborted ? "Stopped." : error.message);
      if (document.activeElement === byId("stop")) byId("results-title").focus();
    } finally {
      setAsking(null);
      draw();
    }
  });
  byId("stop").addEventListener("click", () => asking?.abort());
  byId("order").addEventListener("change", draw);
  fillSelect(byId("order"), ORDERS, "best");
  byId("key-field").hidden = !known.has_key;
  byId("key").required = known.has_key;
  byId("programs").hidden = known.has_key; // a link cannot send the key
  byId("about").textContent = known.infers
    ? "A model reads each response alone and infers what was asked. The more words its instruction shares with yours, the higher the reward."
    : "Write an instruction and responses to it, and see what the reward makes of each.";
  for (const example of known.examples) {
    const button = element("button", { type: "button" }, example.name);
    button.addEventListener("click", () => {
      form.fill(example);
      byId("question").requestSubmit();
    });
    byId("examples").append(" ", button);
  }
  introduce(known);
}

readReport().then(openTrial);
