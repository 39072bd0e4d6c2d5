"use strict";

const wideScreen = window.matchMedia("(min-width: 960px)");

/** Shows a report, and keeps what is chosen in the address, so that a view can be shared and the way back works. */
class Page {
  #explorer;

  /** `look(state)` draws what depends on the state, and returns the view of its samples; see `Explorer`. */
  constructor(report, byline, look) {
    this.report = report;
    this.look = look;
    this.#explorer = new Explorer((changes, options) => this.navigate(changes, options));
    byId("byline").textContent = [...byline, report.created.replace("T", " ").replace(/:\d\d\+00:00$/, " UTC")]
      .filter(Boolean)
      .join(" · ");
    if (report.omitted.size) {
      byId("filters").before(
        paragraph(
          `Texts longer than ${formatCount(report.textLimit, "character")} are cut here, ${formatCount(report.omitted.size, "text")} in all, ` +
            "to keep this file small. Figures and highlights are of the whole texts.",
          { class: "note", id: "cut-note" },
        ),
      );
    }
    fillSection("making", describeMaking(report));
    window.addEventListener("popstate", () => this.#show({ goTo: true }));
    wideScreen.addEventListener("change", () => this.#show());
    for (const link of document.querySelectorAll("nav.bar a, a.skip"))
      link.addEventListener("click", (event) => jump(event));
    this.#show();
    const target = readState(location.hash).sample ? "sample" : location.hash.includes("=") ? "samples" : location.hash.slice(1);
    if (target) requestAnimationFrame(() => requestAnimationFrame(() => byId(target)?.scrollIntoView())); // charts have their height then
  }

  #show(options) {
    const state = readState(location.hash);
    const view = this.look(state);
    if (view) this.#explorer.show(view, state, options);
  }

  navigate(changes, { push = false, focus = false, goTo = false } = {}) {
    const hash = writeState({ ...readState(location.hash), ...changes });
    if (hash !== location.hash) history[push ? "pushState" : "replaceState"](null, "", hash);
    this.#show({ focus, goTo });
  }
}

/** "#subset=natural&show=wrong" -> state. Unknown keys are left out. */
function readState(hash) {
  const found = new URLSearchParams(hash.replace(/^#/, ""));
  return Object.fromEntries(Object.entries(DEFAULT_STATE).map(([key, value]) => [key, found.get(key) ?? value]));
}

/** State -> "#subset=natural&show=wrong", without what is as it is by default. */
function writeState(state) {
  const changed = Object.entries(state).filter(([key, value]) => value !== DEFAULT_STATE[key]);
  return `#${new URLSearchParams(changed)}`;
}

function fillSection(section, parts) {
  byId(section)
    .querySelector(".body")
    .replaceChildren(...parts.filter(Boolean));
}

/** Go to a section and leave the address alone, which holds what is chosen. */
function jump(event) {
  event.preventDefault();
  const section = document.querySelector(event.currentTarget.getAttribute("href"));
  section.scrollIntoView();
  section.querySelector("h2").focus({ preventScroll: true });
}

/** How it was made. */
function describeMaking(report) {
  return report.made.map(({ title, rows }, index) => {
    const list = element(
      "dl",
      { class: "facts" },
      rows.map(([name, value]) =>
        element("div", null, element("dt", null, formatName(name)), element("dd", null, value)),
      ),
    );
    const details = makeDetails(title, list);
    details.open = index === 0;
    return details;
  });
}

/** Read the data, show them by `show(report)`, and say so where that cannot be done. */
function openReport(show) {
  readReport()
    .then(show)
    .catch((error) => {
      byId("failure").hidden = false;
      byId("failure").textContent =
        `This report cannot be shown: ${error.message}. It needs a browser of 2023 or later.`;
      throw error;
    });
}
