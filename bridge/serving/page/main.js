// The page as a whole: it turns what the reader does into a state and its address, has the server
// asked, and the answer shown.

import * as api from "./api.js";
import { isTurning, setTurning } from "./cloud.js";
import { closeDetail } from "./detail.js";
import { count, el, hintScroll, icon } from "./dom.js";
import { columnsOf, drawFilters } from "./filters.js";
import { keys } from "./gallery.js";
import { offerInputs, wireInputs } from "./inputs.js";
import { accepted, isKnown, previewOf, remember } from "./query.js";
import { drawFailure, drawPage, drawStart, drawStrips, drawWaiting } from "./results.js";
import { askable, embedFile, hitsOf, neighboursOf, someOf } from "./search.js";
import { stopSound } from "./sound.js";
import { fromAddress, toAddress } from "./state.js";

const by = (id) => document.getElementById(id);
const words = by("words");
const gallery = by("hits");

let served = null; // GET /v1/info
let state = fromAddress(location.search);
let running = new AbortController(); // of the search under way
let setReady;
const ready = new Promise((resolve) => (setReady = resolve)); // when `served` is there

async function begin() {
  try {
    served = await api.info();
  } catch (error) {
    return drawFailure(error.message, begin);
  }
  offerInputs(served.queries, accepted(served.queries));
  if (!state.query) words.focus();
  setReady();
  await show(fromAddress(location.search));
}

/**
 * The collections that the state chooses; where it chooses none, all that can answer, those of the
 * same items once.
 */
function chosen() {
  const named = served.collections.filter(({ name }) => state.collections.includes(name));
  if (named.length) return named;
  const able = askable(once(), asked());
  return able.length ? able : once();
}

const once = () => served.collections.filter((one) => !one.same_as);

/** The modality of the query, as far as it is known before the answer. */
function asked() {
  const { text, of, as } = state.query ?? {};
  return text ? "text" : as ?? served.collections.find(({ name }) => name === of)?.modality;
}

/** The collections that were left out as the query leads nowhere near them. */
const unasked = () =>
  (state.collections.length ? [] : once().filter((one) => !chosen().includes(one)));

/** Change the state, give it an address of its own, and show it. */
async function go(changes) {
  if (!served) await ready; // who asks before the page knows its collections is not forgotten
  const next = { ...state, ...changes };
  if (!isNew(next.query)) move(next);
  return show(next);
}

/** Whether a query is a file that the server has not seen yet. */
const isNew = (query) => Boolean(query?.file && !query.content);

function move(next) {
  const address = new URL(toAddress(next), location.href).href;
  if (address !== location.href) history.pushState(null, "", address);
}

async function show(next) {
  const inGallery = gallery.contains(document.activeElement) || by("detail").open;
  running.abort();
  running = new AbortController();
  const { signal } = running;
  state = next;
  // Asked first, so that the server works while the page is drawn.
  let asking = state.query && !isNew(state.query) ? ask(signal) : null;
  asking?.catch(() => {}); // it is awaited below
  closeDetail();
  stopSound();
  drawChoices();
  try {
    if (!state.query) return await start(signal);
    drawWaiting(state.view === "hits" && chosen().length === 1);
    const known = isKnown(state.query);
    let drawn = drawQuery(known ? state.query : null, null, signal);
    if (isNew(state.query)) {
      await settle(signal);
      if (signal.aborted) return;
      asking = ask(signal);
    }
    const answers = await asking;
    if (signal.aborted) return;
    const alone = state.view === "hits" && answers.length === 1;
    if (alone) drawPage(answers[0].answer, unasked(), state, served.limits, go);
    else drawStrips(answers, unasked(), state, go);
    const told = answers[0].answer.query;
    const { text, item } = state.query;
    document.title = `${text ?? item ?? told.filename ?? told.modality} · mcr search`;
    if (!known) drawn = drawQuery(state.query, told, signal);
    if (told.note) drawn.then(() => sayOfQuery(told.note, signal));
    if (inGallery) gallery.querySelector("article")?.focus({ preventScroll: true });
  } catch (error) {
    if (signal.aborted) return;
    by("query").hidden ||= !by("query").firstChild;
    const forgotten = error.status === 404 && state.query?.saved;
    drawFailure(forgotten ? `${error.message}, with the same file` : error.message, () => show(state));
  }
}

const ask = (signal) => (state.view === "neighbours"
  ? neighboursOf(state, served, asked(), signal)
  : hitsOf(state, chosen(), columnsOf(chosen()), served.limits, signal));

async function start(signal) {
  document.title = "mcr search";
  by("query").hidden = true;
  by("alert").replaceChildren();
  const shown = { ...served, collections: once() };
  const samples = await someOf(shown);
  if (!signal.aborted) drawStart(shown, samples);
}

/** A file has an address once the server keeps its embeddings under a key, if it keeps any. */
async function settle(signal) {
  const { file } = state.query;
  const query = await embedFile(file, served, signal);
  if (signal.aborted) return;
  if (query.saved) remember(query.saved, file);
  state = { ...state, query };
  move(state);
}

/** Show a query that is no sentence; null: one of which nothing is known until the answer. */
async function drawQuery(query, told, signal) {
  by("query").hidden = Boolean(query?.text);
  const preview = !query || query.text ? null : await previewOf(query, told).catch(() => null);
  if (signal.aborted) return;
  if (!preview) return by("query").replaceChildren();
  const name = "New search";
  const end = { type: "button", class: "icon", "aria-label": name, title: name, onclick: clear };
  preview.append(el("button", end, icon("close")));
  by("query").replaceChildren(preview);
}

/** Say beside the query what of it the server did not embed. */
function sayOfQuery(note, signal) {
  if (!signal.aborted) by("query").querySelector(".asked > p")?.append(el("span", { class: "word" }, note));
}

// The choices beside the hits

function drawChoices() {
  keepingFocus(by("collections"), "button", drawCollections);
  keepingFocus(by("fields"), "input", drawColumns);
  if (state.query) words.value = state.query.text ?? "";
  by("views").hidden = !state.query;
  for (const button of by("views").children) {
    button.setAttribute("aria-pressed", String(button.dataset.view === state.view));
  }
}

/** Draw anew, and leave the focus where it was. */
function keepingFocus(root, kind, redraw) {
  const at = [...root.querySelectorAll(kind)].indexOf(document.activeElement);
  redraw();
  root.querySelectorAll(kind)[at]?.focus();
}

function drawCollections() {
  const chip = (attributes, pressed, collections, ...content) => el(
    "button",
    {
      type: "button", "aria-pressed": String(pressed), ...attributes,
      onclick: () => go({ collections, page: 1 }),
    },
    ...content,
  );
  const one = ({ name, modality, kind, space, bridge, items }) => {
    const others = state.collections.filter((other) => other !== name);
    const on = others.length < state.collections.length;
    const title = `${kind} of ${modality} in ${bridge ?? space}`;
    return chip({ class: `chip ${modality}`, title }, on, on ? others : [...others, name],
      el("span", { class: "dot" }), name, el("span", { class: "count" }, count(items)));
  };
  const all = served.collections;
  const everything = chip({ class: "chip" }, !state.collections.length, [], "Everything");
  by("collections").replaceChildren(...(all.length > 1 ? [everything] : []), ...all.map(one));
  const pressed = by("collections").querySelector("[aria-pressed=true]");
  if (pressed) by("collections").scrollLeft = pressed.offsetLeft - 20; // where they do not fit
}

function drawColumns() {
  const columns = columnsOf(chosen());
  by("side").hidden = !columns.length || !state.query || state.view !== "hits";
  const filtered = Object.keys(state.where).length;
  by("filtered").textContent = filtered ? `(${filtered})` : "";
  drawFilters(by("fields"), columns, state.where, (where) => go({ where, page: 1 }));
}

// What the reader does

function clear() {
  words.value = "";
  go({ query: null, page: 1, view: "hits" });
  words.focus();
}

const follows = (event) => !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);

by("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = words.value.trim();
  go({ query: text ? { text } : null, page: 1 });
});
by("home").addEventListener("click", (event) => {
  if (!served || !follows(event)) return;
  event.preventDefault();
  words.value = "";
  go(fromAddress(""));
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-go]");
  if (!link || !follows(event)) return;
  event.preventDefault();
  go(fromAddress(new URL(link.href).search));
  scrollTo(0, 0);
});
addEventListener("popstate", () => {
  const next = fromAddress(location.search);
  if (!served || toAddress(next) === toAddress(state)) return; // a jump within the page
  words.value = "";
  show(next);
});
hintScroll(by("collections"));
by("views").addEventListener("click", ({ target }) => {
  if (target.dataset.view) go({ view: target.dataset.view, page: 1 });
});
for (const [id, step] of [["previous", -1], ["next", 1]]) {
  by(id).addEventListener("click", async () => {
    await go({ page: state.page + step });
    scrollTo(0, 0);
  });
}
const sayTurning = () => {
  const says = isTurning() ? "Pause 3D" : "Turn 3D";
  by("turning").replaceChildren(icon(isTurning() ? "pause" : "play"), el("span", {}, says));
};
by("turning").addEventListener("click", () => {
  setTurning(!isTurning());
  sayTurning();
});
sayTurning();
by("share").addEventListener("click", async () => {
  if (state.query?.file) {
    by("status").textContent = "This search has no address: the server keeps no files that were asked by.";
    return;
  }
  const copied = navigator.clipboard?.writeText(location.href) ?? Promise.reject();
  const told = await copied.then(() => "The address is copied.", () => "The address is in the address bar.");
  by("status").textContent = told;
});
keys(gallery, { leave: () => words.focus() });
words.addEventListener("keydown", (event) => {
  const first = event.key === "ArrowDown" && gallery.querySelector("article");
  if (!first) return;
  event.preventDefault();
  first.focus();
});
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, dialog") && !(event.target === words && !words.value);
  if (event.key !== "/" || typing || !follows(event)) return;
  event.preventDefault();
  words.select();
  words.focus();
});
wireInputs({
  ask: (file) => go({ query: { file }, page: 1, view: "hits" }),
  fail: (error, again) => drawFailure(error.message, again),
  limits: () => served.limits,
});
if (matchMedia("(max-width: 800px)").matches) by("filters").open = false;

begin();
