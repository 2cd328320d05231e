// What the page shows, and its address: the one can be made from the other, so that every search
// can be shared, and back and forward work.
//
// A state: query: null, {text}, {item, of}, {saved, as} (a key of the server, and the modality
// that it stands for) or, without an address, {file} and what `embedFile` makes of it;
// collections: names, none for all;
// where: {column: [values]}, for numbers one "from..to"; page: from 1; view: hits or neighbours.

const FILTER = "where.";

/** The state that an address (its `?...` part) asks for. */
export function fromAddress(address) {
  const parameters = new URLSearchParams(address);
  const where = Object.create(null); // columns may be called "constructor"
  for (const [name, value] of parameters) {
    if (name.startsWith(FILTER)) (where[name.slice(FILTER.length)] ??= []).push(value);
  }
  return {
    query: queryOf(parameters),
    collections: parameters.getAll("in"),
    where,
    page: Math.max(1, Number.parseInt(parameters.get("page"), 10) || 1),
    view: parameters.get("view") === "neighbours" ? "neighbours" : "hits",
  };
}

function queryOf(parameters) {
  if (parameters.get("q")?.trim()) return { text: parameters.get("q").trim() };
  if (parameters.has("item")) return { item: parameters.get("item"), of: parameters.get("of") ?? "" };
  const [saved, as] = [parameters.get("saved"), parameters.get("as") ?? undefined];
  return saved ? { saved, as } : null;
}

/** The address (`?...`, or `.` for the bare page) of a state. */
export function toAddress({ query, collections, where, page, view }) {
  const parameters = new URLSearchParams();
  if (query?.text) parameters.set("q", query.text);
  else if (query?.item != null) {
    parameters.set("item", query.item);
    parameters.set("of", query.of);
  } else if (query?.saved) {
    parameters.set("saved", query.saved);
    if (query.as) parameters.set("as", query.as);
  }
  for (const name of collections) parameters.append("in", name);
  for (const [column, values] of Object.entries(where)) {
    for (const value of values) parameters.append(FILTER + column, value);
  }
  if (page > 1) parameters.set("page", page);
  if (view !== "hits") parameters.set("view", view);
  return parameters.size ? `?${parameters}` : ".";
}

/** A state's query, as `POST /v1/search` takes it. */
export function asRequest({ text, item, of, saved, content }) {
  if (text) return { text };
  if (content) return content;
  return item != null ? { item: { collection: of, id: item } } : { saved };
}

/** A state's filters, as `POST /v1/search` takes them; null for none. */
export function asWhere(where, columns) {
  const wanted = Object.create(null);
  for (const [name, values] of Object.entries(where)) {
    const kind = columns.find((column) => column.name === name)?.kind;
    const asked = kind === "number" ? range(values[0]) : values;
    if (Object.keys(asked).length) wanted[name] = asked;
  }
  return Object.keys(wanted).length ? wanted : null;
}

/** {min, max} of "from..to", either side left out where it is open. */
export function range(text) {
  const [from, to] = (text ?? "").split("..");
  const ends = {};
  if (from && Number.isFinite(Number(from))) ends.min = Number(from);
  if (to && Number.isFinite(Number(to))) ends.max = Number(to);
  return ends;
}
