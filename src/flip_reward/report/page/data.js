"use strict";

/** Read what `document.py` put into the page: base64 of compressed JSON. */
async function readReport() {
  const bytes = Uint8Array.from(atob(byId("data").textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const { payload, texts, omitted, text_limit: textLimit } = JSON.parse(await new Response(stream).text());
  return { ...payload, texts, omitted: new Map(omitted), textLimit };
}

/** Name the values of a score; see `score_row` in texts.py. Null where none was recorded. */
function readScore(row) {
  if (row === null) return null;
  const [
    value,
    outcome,
    precision,
    recall,
    inferred,
    inferredMarks,
    originalMarks,
    instruction,
    reasoning,
    reply,
    detail,
    spread,
    inferences,
    copied,
    other,
  ] = row;
  return {
    value: value ?? null,
    outcome,
    precision,
    recall,
    inferred,
    inferredMarks,
    originalMarks,
    instruction,
    reasoning,
    reply,
    detail,
    spread,
    inferences,
    copied,
    other,
  };
}

/** The numbers of all texts that a reward made of a response. */
function listTexts({ inferred, reasoning, reply, detail, inferences, other }) {
  const drawn = [...(inferences ?? []), ...(other?.[3] ?? [])];
  return [inferred, reasoning, reply, detail, ...drawn.map(([, text]) => text)].filter(isNumber);
}
