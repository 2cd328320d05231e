// Filters on the columns of the chosen collections: values to tick, and ranges of numbers.

import { count, el, hintScroll } from "./dom.js";
import { range } from "./state.js";

/** The columns of several collections, those of one name put together. */
export function columnsOf(collections) {
  const columns = new Map();
  for (const column of collections.flatMap((collection) => collection.columns)) {
    const known = columns.get(column.name);
    columns.set(column.name, known ? together(known, column) : column);
  }
  return [...columns.values()];
}

function together(one, other) {
  if (one.kind !== other.kind) return one;
  if (one.kind === "number") {
    return {
      ...one,
      minimum: Math.min(one.minimum, other.minimum),
      maximum: Math.max(one.maximum, other.maximum),
    };
  }
  const counts = new Map();
  for (const { value, count: items } of [...one.values, ...other.values]) {
    counts.set(value, (counts.get(value) ?? 0) + items);
  }
  const values = [...counts].map(([value, items]) => ({ value, count: items }));
  const distinct = Math.max(one.distinct, other.distinct, values.length);
  return { ...one, distinct, values: values.sort((a, b) => b.count - a.count) };
}

/** Draw the fields into `form`; change(where) is called when the reader changes one. */
export function drawFilters(form, columns, where, change) {
  const read = () => change(readFields(form));
  form.onchange = read;
  form.onsubmit = (event) => {
    event.preventDefault();
    read();
  };
  const clear = el("button", { type: "button", class: "quiet", onclick: () => change({}) }, "Clear filters");
  const chosen = ({ name }) => (Object.hasOwn(where, name) ? where[name] : []);
  const telling = columns.filter((column) => column.distinct > 1 || chosen(column).length);
  form.replaceChildren(
    ...telling.map((column) => fieldset(column, chosen(column))),
    ...(Object.keys(where).length ? [clear] : []),
  );
}

function fieldset(column, chosen) {
  return el(
    "fieldset",
    { "data-column": column.name, "data-kind": column.kind },
    el("legend", {}, column.name),
    column.kind === "number" ? numbers(column, chosen[0]) : values(column, chosen),
  );
}

function numbers(column, chosen) {
  const { min, max } = range(chosen);
  const end = (word, value, hint) =>
    el("label", {}, word, el("input", { type: "number", step: "any", value, placeholder: hint }));
  return el("div", { class: "range" }, end("from", min, column.minimum), end("to", max, column.maximum));
}

function values(column, chosen) {
  const known = column.values.map(({ value }) => String(value));
  const rare = chosen.filter((value) => !known.includes(value)).map((value) => ({ value }));
  const box = ({ value, count: items }) => el(
    "label", {},
    el("input", { type: "checkbox", value, checked: chosen.includes(String(value)) }),
    el("span", {}, String(value)),
    items != null && el("span", { class: "count" }, count(items)),
  );
  const boxes = hintScroll(el("div", { class: "values" }, ...[...rare, ...column.values].map(box)));
  if (column.distinct <= known.length) return boxes;
  const hint = `another of ${count(column.distinct)}`;
  const another = el("input", { type: "text", placeholder: hint, "aria-label": `${column.name}: ${hint}` });
  return el("div", { class: "many" }, boxes, another);
}

const isChosen = ({ type, checked, value }) => (type === "text" ? value : checked);

function readFields(form) {
  const where = Object.create(null);
  for (const set of form.querySelectorAll("fieldset")) {
    const inputs = [...set.querySelectorAll("input")];
    const chosen = set.dataset.kind === "number"
      ? inputs.some((input) => input.value) && [inputs.map((input) => input.value).join("..")]
      : inputs.filter(isChosen).map((input) => input.value);
    if (chosen?.length) where[set.dataset.column] = chosen;
  }
  return where;
}
