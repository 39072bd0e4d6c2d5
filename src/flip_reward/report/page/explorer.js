"use strict";

const PAGE_SIZE = 25;
const PAUSE = 50; // milliseconds after a letter, lest every one of a fast writer is looked for
const FILTERS = [...byId("filters").querySelectorAll("select")].map(({ id }) => id);

/**
 * The list of samples, its filters, and the sample that is open.
 *
 * A view says what there is: `total` samples, each a `noun`; `offers(state)`, the options of each filter; `find(state)`,
 * positions in order; `idOf(index)` and `indexOf(id)`; `describe(index)`, an entry of the list; `show(index)`, a sample.
 */
class Explorer {
  #view;
  #state;
  #asked;
  #found = [];
  #navigate;
  #typing = 0;

  /** `navigate(changes, {push})` changes the state of the whole page, which comes back through `show`. */
  constructor(navigate) {
    this.#navigate = navigate;
    this.#listen();
  }

  /** Show what a state asks for. `focus` puts the keyboard on the sample that is opened, `goTo` only its top in sight. */
  show(view, state, { focus = false, goTo = false } = {}) {
    const asked = JSON.stringify([...FILTERS, "search"].map((key) => state[key]));
    const anew = view !== this.#view || asked !== this.#asked;
    const turned = state.page !== this.#state?.page;
    this.#view = view;
    this.#state = state;
    this.#asked = asked;
    if (anew) {
      this.#fillFilters();
      this.#found = view.find(state);
    }
    if (anew || turned) this.#showList();
    this.#showSample({ focus, goTo });
  }

  #fillFilters() {
    for (const [id, options] of Object.entries(this.#view.offers(this.#state)))
      fillSelect(byId(id), options, this.#state[id]);
    if (document.activeElement !== byId("search")) byId("search").value = this.#state.search;
    byId("reset").hidden = [...FILTERS, "search"].every(
      (key) => key === "sort" || this.#state[key] === DEFAULT_STATE[key],
    );
  }

  get #pages() {
    return Math.max(1, Math.ceil(this.#found.length / PAGE_SIZE));
  }

  get #page() {
    return Math.min(Math.max(1, Number.parseInt(this.#state.page, 10) || 1), this.#pages);
  }

  #showList() {
    const { total, noun } = this.#view;
    const count =
      this.#found.length === total
        ? formatCount(total, noun)
        : `${formatNumber(this.#found.length)} of ${formatCount(total, noun)}`;
    if (byId("count").value !== count) byId("count").value = count;
    const start = (this.#page - 1) * PAGE_SIZE;
    byId("list").replaceChildren(
      ...this.#found.slice(start, start + PAGE_SIZE).map((index) => this.#makeEntry(index)),
    );
    byId("page").textContent = `${this.#page} of ${this.#pages}`;
    byId("previous-page").disabled = this.#page === 1;
    byId("next-page").disabled = this.#page === this.#pages;
  }

  #makeEntry(index) {
    const { excerpt, where, signs, spoken: heard } = this.#view.describe(index);
    const shown = showControls(excerpt.slice(0, 200)).trim() || this.#view.idOf(index);
    return element(
      "li",
      null,
      element(
        "button",
        { type: "button", "data-index": index },
        element("span", { class: "excerpt", dir: "auto" }, shown),
        element(
          "span",
          { class: "under" },
          element("span", { class: "where" }, where),
          element("span", { class: "signs", "aria-hidden": "true" }, signs),
          spoken(heard),
        ),
      ),
    );
  }

  /** The position of the open sample; on a wide screen the first one is open before any is chosen. */
  get #open() {
    const asked = this.#state.sample ? this.#view.indexOf(this.#state.sample) : -1;
    if (asked >= 0) return asked;
    return wideScreen.matches ? (this.#found[(this.#page - 1) * PAGE_SIZE] ?? -1) : -1;
  }

  #showSample({ focus, goTo }) {
    const index = this.#open;
    const reading = focus || byId("sample-body").contains(document.activeElement);
    byId("explorer").classList.toggle("opened", this.#state.sample !== "" && index >= 0);
    byId("sample").hidden = index < 0;
    for (const button of byId("list").querySelectorAll("button")) {
      button.setAttribute("aria-current", String(Number(button.dataset.index) === index));
    }
    if (index < 0) {
      byId("sample-body").replaceChildren();
      return;
    }
    const place = this.#found.indexOf(index);
    byId("position").textContent =
      place < 0 ? "Not among the samples shown" : `${formatNumber(place + 1)} of ${formatNumber(this.#found.length)}`;
    byId("previous-sample").disabled = place <= 0;
    byId("next-sample").disabled = place < 0 || place === this.#found.length - 1;
    byId("sample-body").replaceChildren(...this.#view.show(index).filter(Boolean));
    if (reading) byId("sample-title").focus({ preventScroll: true });
    if (focus || (goTo && this.#state.sample)) this.#scrollToSample();
  }

  /** Bring the top of the sample into sight, below what sticks to the top of the window. */
  #scrollToSample() {
    const { top } = byId("sample").getBoundingClientRect();
    const { bottom } = document.querySelector("nav.bar").getBoundingClientRect();
    if (top < bottom || top > innerHeight / 2 || !wideScreen.matches) byId("sample").scrollIntoView();
  }

  #openSample(index, { focus = true } = {}) {
    const page = String(Math.floor(Math.max(0, this.#found.indexOf(index)) / PAGE_SIZE) + 1);
    this.#navigate({ sample: this.#view.idOf(index), page }, { push: true, focus, goTo: true });
  }

  #step(distance) {
    const next = this.#found[this.#found.indexOf(this.#open) + distance];
    if (next !== undefined) this.#openSample(next, { focus: false });
  }

  #close() {
    const index = this.#open;
    this.#navigate({ sample: "" }, { push: true });
    byId("list").querySelector(`button[data-index="${index}"]`)?.focus();
  }

  #listen() {
    for (const key of FILTERS) {
      byId(key).addEventListener("change", (event) =>
        this.#navigate({ [key]: event.target.value, page: "1", sample: "" }),
      );
    }
    byId("search").addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#navigate({ search: byId("search").value, page: "1", sample: "" }), PAUSE);
    });
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    byId("reset").addEventListener("click", () => {
      byId("search").value = "";
      const kept = Object.fromEntries([...FILTERS, "search"].map((key) => [key, DEFAULT_STATE[key]]));
      this.#navigate({ ...kept, sort: this.#state.sort, page: "1", sample: "" });
      byId("search").focus();
    });
    const turn = (distance) => this.#navigate({ page: String(this.#page + distance), sample: "" });
    byId("previous-page").addEventListener("click", () => turn(-1));
    byId("next-page").addEventListener("click", () => turn(1));
    byId("previous-sample").addEventListener("click", () => this.#step(-1));
    byId("next-sample").addEventListener("click", () => this.#step(1));
    byId("back").addEventListener("click", () => this.#close());
    byId("list").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.#openSample(Number(button.dataset.index));
    });
    byId("samples").addEventListener("keydown", (event) => this.#press(event));
  }

  #press(event) {
    const writing = event.target.closest("input, select");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && this.#state.sample) this.#close();
    else if (writing) return;
    else if (event.key === "j") this.#step(1);
    else if (event.key === "k") this.#step(-1);
    else if (event.key === "/") byId("search").focus();
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (!this.#moveInList(event.key === "ArrowDown" ? 1 : -1)) return;
    } else return;
    event.preventDefault();
  }

  #moveInList(distance) {
    const buttons = [...byId("list").querySelectorAll("button")];
    const place = buttons.indexOf(document.activeElement);
    if (place < 0) return false;
    buttons[place + distance]?.focus();
    return true;
  }
}
