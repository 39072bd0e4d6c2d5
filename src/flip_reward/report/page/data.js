"use strict";

/** Read what `document.py` put into the page: base64 of compressed JSON. */
async function readReport() {
  const packed = atob(byId("data").textContent);
  const bytes = new Uint8Array(packed.length);
  for (let place = 0; place < packed.length; place++) bytes[place] = packed.charCodeAt(place);
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

/** The numbers of all texts that a reward made of a response, with gaps. */
function listTexts({ inferred, reasoning, reply, detail, inferences, other }) {
  const drawn = [...(inferences ?? []), ...(other?.[3] ?? [])];
  return [inferred, reasoning, reply, detail, ...drawn.map(([, text]) => text)];
}

/** Finds samples by words in their texts. `read(index)` gives the id of a sample and the numbers of its texts. */
class TextSearch {
  #texts;
  #read;
  #lowered = null;
  #samples = new Map();

  constructor(texts, read) {
    this.#texts = texts;
    this.#read = read;
  }

  /** Tell which samples have all words of a search: a function of their positions. Each text is looked through once. */
  find(search) {
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return () => true;
    this.#lowered ??= this.#texts.map((text) => text.toLowerCase());
    const having = words.map((word) => this.#lowered.map((text) => text.includes(word)));
    return (index) => {
      const [id, texts] = this.#look(index);
      return having.every((has, place) => id.includes(words[place]) || texts.some((text) => has[text]));
    };
  }

  #look(index) {
    let known = this.#samples.get(index);
    if (known === undefined) {
      const [id, texts] = this.#read(index);
      known = [id.toLowerCase(), [...new Set(texts)].filter(isNumber)];
      this.#samples.set(index, known);
    }
    return known;
  }
}
