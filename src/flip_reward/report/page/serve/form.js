"use strict";

/** The instruction and the responses that a visitor writes. */
class QuestionForm {
  constructor() {
    byId("add").addEventListener("click", () => this.#add().focus());
    byId("question").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("question").requestSubmit();
    });
    this.fill({ instruction: "", responses: [""] });
  }

  get instruction() {
    return byId("instruction").value;
  }

  get responses() {
    return this.#fields.map((field) => field.querySelector("textarea").value);
  }

  fill({ instruction, responses }) {
    byId("instruction").value = instruction;
    byId("responses").replaceChildren();
    for (const response of responses) this.#add(response);
    this.#fitHeights();
  }

  get #fields() {
    return [...byId("responses").children];
  }

  #add(text = "") {
    const area = element("textarea", { rows: "3", dir: "auto", placeholder: "What a model answered" });
    area.value = text;
    const remove = element("button", { type: "button", class: "plain remove" }, "Remove");
    const field = element("div", { class: "field" }, element("label", null, element("span"), area), remove);
    remove.addEventListener("click", () => {
      const next = field.nextElementSibling ?? field.previousElementSibling;
      field.remove();
      this.#number();
      next.querySelector("textarea").focus();
    });
    byId("responses").append(field);
    this.#number();
    return area;
  }

  #number() {
    const fields = this.#fields;
    fields.forEach((field, place) => {
      field.querySelector("span").textContent = fields.length > 1 ? `Response #${place + 1}` : "Response";
      field.querySelector(".remove").hidden = fields.length === 1;
      field.querySelector(".remove").setAttribute("aria-label", `Remove response ${place + 1}`);
    });
  }

  /** Make every field as high as its text, within bounds, where the style sheet cannot (`field-sizing`). */
  #fitHeights() {
    for (const area of document.querySelectorAll("textarea"))
      area.rows = Math.min(Math.max(area.value.length / 45 + area.value.split("\n").length, 2), 9);
  }
}
