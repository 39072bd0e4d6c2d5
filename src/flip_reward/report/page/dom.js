"use strict";
// The scripts of the report share one scope and stand in the order in which its `Layout` lists them.
// Texts come from models. They reach the page as text nodes and attribute values only, never as markup.

/** Make an element. Attributes that are null or false are left out; children are elements or texts. */
function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Return the element with an id. */
function byId(id) {
  return document.getElementById(id);
}

function isNumber(value) {
  return typeof value === "number";
}

/** Make text that only a screen reader says. */
function spoken(text) {
  return element("span", { class: "spoken" }, text);
}

/**
 * Make a table that scrolls by itself where it is wider than the page.
 *
 * @param {string} caption What it shows, for those who cannot see it.
 * @param {string[]} columns Their titles.
 * @param {(string | Node)[][]} rows The first cell of a row is its header.
 * @param {{left: number[]}} options The columns of texts, which stand left; those of numbers stand right.
 */
function makeTable(caption, columns, rows, { left = [0] } = {}) {
  const side = (column) => (left.includes(column) ? "left" : null);
  const head = columns.map((title, column) => element("th", { scope: "col", class: side(column) }, title));
  const makeCell = (cell, column) =>
    column === 0
      ? element("th", { scope: "row", class: side(0) }, cell)
      : element("td", { class: side(column) }, cell);
  return element(
    "div",
    { class: "table", role: "region", tabindex: "0", "aria-label": caption },
    element(
      "table",
      null,
      element("caption", { class: "spoken" }, caption),
      element("thead", null, element("tr", null, head)),
      element("tbody", null, ...rows.map((row) => element("tr", null, row.map(makeCell)))),
    ),
  );
}

function paragraph(text, attributes) {
  return element("p", attributes, text);
}

/** Make something that is closed until it is asked for. */
function makeDetails(summary, ...children) {
  return element("details", null, element("summary", null, summary), ...children);
}

/** Make a select's options. */
function fillSelect(select, options, value) {
  select.replaceChildren(...options.map(([key, title]) => element("option", { value: key }, title)));
  select.value = options.some(([key]) => key === value) ? value : options[0][0];
}
