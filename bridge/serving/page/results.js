// The answer on the page: a page of one collection, strips of several, or why there is none.

import { openDetail } from "./detail.js";
import { count, el, hintScroll, listedWith, plural } from "./dom.js";
import { blanks, card, choose } from "./gallery.js";
import { pageSize, pagesOf } from "./search.js";
import { toAddress } from "./state.js";

const by = (id) => document.getElementById(id);
const results = by("results");
const gallery = by("hits");

/** Wait for an answer: what is there stays until it comes. */
export function drawWaiting(alone) {
  results.setAttribute("aria-busy", "true");
  by("alert").replaceChildren();
  if (gallery.querySelector(".card:not(.blank)")) return;
  gallery.replaceChildren(el("ul", { class: alone ? "grid" : "strip" }, ...blanks(alone ? 12 : 6)));
}

/**
 * One page of the only collection that was asked. unasked: collections where the query leads
 * nowhere; go: changes the state.
 */
export function drawPage({ hits, total, took_ms: took }, unasked, state, limits, go) {
  const last = pagesOf(total, limits);
  const from = (state.page - 1) * pageSize(limits) + 1;
  const grid = hits.length ? el("ul", { class: "grid" }, ...cards(hits, state)) : empty(total, state, go);
  show(grid, ...noteOf(unasked));
  const shown = `${count(from)} to ${count(from + hits.length - 1)} shown`;
  say(hits.length ? `${plural(total, "item")}, ${shown} · ${took.toFixed(0)} ms` : "No hits");
  by("pages").hidden = last < 2 || !hits.length;
  by("page").textContent = `${count(state.page)} of ${count(last)}`;
  by("previous").disabled = state.page <= 1;
  by("next").disabled = state.page >= last;
}

/** The best of several collections, or the neighbours in several memories. */
export function drawStrips(answers, unasked, state, go) {
  const near = state.view === "neighbours";
  const strips = answers.map(({ collection, answer, problem }) => {
    if (!collection) return empty(0, state, go, "No memory of the query's own space is served.");
    const all = !near && answer.hits.length && allOf(collection, answer.total, state, go);
    return group(collection, all,
      problem ? el("p", { class: "note" }, problem)
        : answer.hits.length ? strip(answer.hits, state)
          : empty(answer.total, state, go));
  });
  const note = near && el("p", { class: "note" },
    "Nearest to the query in its own space, before any bridge; filters do not apply.");
  show(...(note ? [note] : []), ...strips, ...(near ? [] : noteOf(unasked)));
  by("pages").hidden = true;
  const { took_ms: took } = answers[0].answer;
  const found = answers.reduce((sum, { answer }) => sum + answer.hits.length, 0);
  const memories = answers.length === 1 ? "1 memory" : `${answers.length} memories`;
  const places = near ? memories : plural(answers.length, "collection");
  say(found ? `The best ${count(found)} of ${places} · ${took.toFixed(0)} ms` : "No hits");
}

/** Before anything is asked: what can be, and a few items. */
export function drawStart(served, samples) {
  results.removeAttribute("aria-busy");
  const asked = { text: "a sentence", audio: "a sound", image: "an image", points: "a point cloud" };
  const ways = served.queries.map((modality) => asked[modality]);
  const listed = listedWith(ways, "or");
  const spaces = new Set(served.bridges.flatMap((bridge) => bridge.spaces.map((space) => space.name)));
  const { collections } = served;
  const items = collections.reduce((sum, collection) => sum + collection.items, 0);
  const bridges = plural(served.bridges.length, "bridge");
  const joined = spaces.size ? `, joined by ${bridges} between ${listedWith(spaces, "and")}` : "";
  const key = (name) => el("kbd", {}, name);
  show(
    el("div", { class: "start" },
      el("p", { class: "lead" }, `Ask with ${listed}.`),
      el("p", {}, `${plural(items, "item")} in ${plural(collections.length, "collection")}${joined}.`),
      el("p", { class: "hints" },
        key("/"), " to type, ", key("↓"), " into the hits, ", key("Enter"), " for one of them, ",
        key("m"), " for more like it, ", key("Esc"), " back. ",
        "Files may be dropped or pasted anywhere.")),
    ...samples.map(({ collection, hits }) =>
      group(collection, null, strip(hits, null))),
  );
  for (const id of ["share", "pages"]) by(id).hidden = true;
  say("");
}

/** An error in its sentence, and a way to try again. */
export function drawFailure(message, again) {
  results.removeAttribute("aria-busy");
  by("alert").replaceChildren(el("div", { class: "alert" },
    el("p", {}, message), el("button", { type: "button", onclick: again }, "Try again")));
  show();
  for (const id of ["share", "pages"]) by(id).hidden = true;
  say("");
}

function show(...elements) {
  results.removeAttribute("aria-busy");
  gallery.replaceChildren(...elements);
  by("share").hidden = false;
  by("turning").hidden = !gallery.querySelector(".cloud");
  for (const first of gallery.querySelectorAll("li:first-child article")) choose(first);
}

function noteOf(unasked) {
  if (!unasked.length) return [];
  const names = unasked.map(({ name }) => name).join(", ");
  return [el("p", { class: "note last" }, `No bridge leads from this query to ${names}.`)];
}

function say(words) {
  by("status").textContent = words;
}

function cards(hits, state) {
  const fresh = { collections: [], where: {}, ...state, page: 1, view: "hits" };
  const like = (hit) => toAddress({ ...fresh, query: { item: hit.id, of: hit.collection } });
  return hits.map((hit, index) =>
    card(hit, { more: like(hit), open: () => openDetail(hits, index, like), scored: Boolean(state) }));
}

const strip = (hits, state) => hintScroll(el("ul", { class: "strip" }, ...cards(hits, state)));

function group(collection, all, content) {
  return el("section", { class: "group" },
    el("h2", { class: collection.modality }, el("span", { class: "dot" }), collection.name, all), content);
}

function allOf(collection, total, state, go) {
  const only = { collections: [collection.name], page: 1 };
  const words = [`All ${count(total)}`, el("span", { class: "hidden" }, ` of ${collection.name}`)];
  if (state.query.file) return el("button", { type: "button", class: "quiet", onclick: () => go(only) }, ...words);
  return el("a", { href: toAddress({ ...state, ...only }), "data-go": "" }, ...words);
}

function empty(total, state, go, words) {
  const filtered = Object.keys(state.where).length > 0;
  const late = state.page > 1 && total > 0;
  const said = late ? `There is no page ${count(state.page)} of this.`
    : filtered && state.view === "hits" ? "Nothing passes these filters." : "Nothing here.";
  const button = (name, changes) => el("button", { type: "button", onclick: () => go(changes) }, name);
  return el("div", { class: "empty" }, el("p", {}, words ?? said),
    late && button("First page", { page: 1 }),
    !words && filtered && !late && button("Clear filters", { where: {}, page: 1 }));
}
