// The page as a whole: it turns what the reader does into a state and its address, asks the
// server, and shows the answer.

import * as api from "./api.js";
import { isTurning, setTurning } from "./cloud.js";
import { closeDetail, openDetail } from "./detail.js";
import { count, el, plural } from "./dom.js";
import { columnsOf, drawFilters } from "./filters.js";
import { blanks, card, choose, keys } from "./gallery.js";
import { accepted, fileRequest, previewOf, remember } from "./query.js";
import { canRecord, record } from "./record.js";
import { stopSound } from "./sound.js";
import { asRequest, asWhere, fromAddress, toAddress } from "./state.js";

const PAGE = 24; // hits of one collection on a page
const STRIP = 10; // hits of one collection among several

const by = (id) => document.getElementById(id);
const words = by("words");
const results = by("results");
const gallery = by("hits");

let served = null; // GET /v1/info
let state = fromAddress(location.search);
let running = null; // AbortController of the search under way

// What is served, and the reader's choices

async function begin() {
  try {
    served = await api.info();
  } catch (error) {
    return fail(error, begin);
  }
  by("choose").hidden = !served.queries.some((modality) => modality !== "text");
  by("record").hidden = !(served.queries.includes("audio") && canRecord());
  by("file").accept = accepted(served.queries);
  words.disabled = !served.queries.includes("text");
  await show(fromAddress(location.search));
  if (!state.query) words.focus();
}

/** The collections that hits may come from: the shared ones, or whatever there is. */
function galleries() {
  const shared = served.collections.filter((collection) => collection.shared);
  return shared.length ? shared : served.collections;
}

/** Those that the state chooses, all where it chooses none. */
function chosen() {
  const named = galleries().filter(({ name }) => state.collections.includes(name));
  return named.length ? named : galleries();
}

function drawChoices() {
  const all = galleries();
  const toggle = ({ name }) => {
    const without = state.collections.filter((other) => other !== name);
    const collections = without.length < state.collections.length ? without : [...without, name];
    go({ collections, page: 1 });
  };
  const one = (collection) => el(
    "button",
    {
      type: "button", class: `chip ${collection.modality}`, title: `${collection.kind} of ${collection.modality} in ${collection.bridge ?? collection.space}`,
      "aria-pressed": String(state.collections.includes(collection.name)), onclick: () => toggle(collection),
    },
    el("span", { class: "dot" }), collection.name, el("span", { class: "count" }, count(collection.items)),
  );
  const everything = el(
    "button",
    { type: "button", class: "chip", "aria-pressed": String(!state.collections.length), onclick: () => go({ collections: [], page: 1 }) },
    "Everything",
  );
  const focused = [...by("collections").children].indexOf(document.activeElement);
  by("collections").replaceChildren(...(all.length > 1 ? [everything] : []), ...all.map(one));
  by("collections").children[focused]?.focus();

  const columns = columnsOf(chosen());
  by("side").hidden = !columns.length || !state.query;
  const named = Object.keys(state.where).length;
  by("filtered").textContent = named ? `(${named})` : "";
  const focus = fieldAt(document.activeElement);
  drawFilters(by("fields"), columns, state.where, (where) => go({ where, page: 1 }));
  const field = focus && [...by("fields").querySelectorAll("input")][focus.index];
  field?.focus();

  words.value = state.query?.text ?? (state.query ? "" : words.value);
  by("views").hidden = !state.query;
  for (const button of by("views").children) {
    button.setAttribute("aria-pressed", String(button.dataset.view === state.view));
  }
}

function fieldAt(input) {
  const index = [...by("fields").querySelectorAll("input")].indexOf(input);
  return index < 0 ? null : { index };
}

// Searching

/** Change the state, give it an address of its own, and show it. */
function go(changes) {
  const next = { ...state, ...changes };
  if (!next.query?.file) history.pushState(null, "", toAddress(next));
  return show(next);
}

async function show(next) {
  const moved = gallery.contains(document.activeElement);
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  state = next;
  closeDetail();
  stopSound();
  drawChoices();
  by("alert").replaceChildren();
  if (!state.query) return drawStart();
  wait();
  try {
    const answers = state.view === "hits" ? await askHits(signal) : await askNeighbours(signal);
    if (signal.aborted) return;
    const { query } = answers.find(({ answer }) => answer).answer;
    settle(query);
    draw(answers);
    await drawQuery(query);
    if (moved) gallery.querySelector("article")?.focus();
  } catch (error) {
    if (!signal.aborted) fail(error, () => show(state));
  } finally {
    if (!signal.aborted) results.removeAttribute("aria-busy");
  }
}

/** A file has an address once the server keeps its embeddings under a key. */
function settle(asked) {
  const { file } = state.query;
  if (file && asked.saved) {
    remember(asked.saved, file);
    state = { ...state, query: { saved: asked.saved } };
    history.pushState(null, "", toAddress(state));
  }
  document.title = `${state.query.text ?? state.query.item ?? asked.filename ?? asked.modality} · mcr search`;
}

/** [{collection, answer or error}]: a page of one collection, or the best of each of several. */
async function askHits(signal) {
  const collections = chosen();
  const alone = collections.length === 1;
  const [k, offset] = alone ? [Math.min(PAGE, served.limits.k), (state.page - 1) * PAGE] : [STRIP, 0];
  const where = asWhere(state.where, columnsOf(collections));
  const ask = async (collection, query) => {
    try {
      const options = { collections: [collection.name], k, offset, ...(where && { where }) };
      return { collection, answer: await api.search(query, options, signal) };
    } catch (error) {
      if (signal.aborted || !error.status) throw error;
      return { collection, error };
    }
  };
  const request = await requestOf(state.query);
  const first = await ask(collections[0], request);
  // The server has embedded the query: the others need not wait for that again.
  const saved = first.answer?.query.saved;
  const others = collections.slice(1).map((one) => ask(one, saved ? { saved } : request));
  const answers = [first, ...(await Promise.all(others))];
  if (answers.every(({ error }) => error)) throw first.error;
  return answers;
}

/** One "answer" for each memory in which the query was looked up without a bridge. */
async function askNeighbours(signal) {
  const options = { collections: [chosen()[0].name], k: STRIP, neighbours: true };
  const { query, neighbours } = await api.search(await requestOf(state.query), options, signal);
  const answers = neighbours.map(({ memory, hits }) => ({
    collection: served.collections.find(({ name }) => name === memory) ?? { name: memory, items: hits.length },
    answer: { query, hits },
  }));
  return answers.length ? answers : [{ collection: null, answer: { query, hits: [] } }];
}

const requestOf = (query) => (query.file ? fileRequest(query.file, served.limits) : asRequest(query));

// Showing

function wait() {
  results.setAttribute("aria-busy", "true");
  if (gallery.querySelector(".card:not(.blank)")) return; // what is there stays until the answer comes
  const alone = state.view === "hits" && chosen().length === 1;
  gallery.replaceChildren(el("ul", { class: alone ? "grid" : "strip" }, ...blanks(alone ? 12 : 6)));
}

const likeAddress = (hit) =>
  toAddress({ ...state, query: { item: hit.id, of: hit.collection }, page: 1, view: "hits" });

function cards(hits) {
  return hits.map((hit, index) =>
    card(hit, { more: likeAddress(hit), open: () => openDetail(hits, index, likeAddress) }));
}

function draw(answers) {
  const alone = state.view === "hits" && answers.length === 1;
  by("share").hidden = false;
  if (alone) drawPage(answers[0].answer);
  else drawStrips(answers);
  by("turning").hidden = !gallery.querySelector(".points");
  const first = gallery.querySelector("article");
  if (first) choose(gallery, first);
}

function drawPage({ hits, total, took_ms: took }) {
  const [from, last] = [(state.page - 1) * PAGE + 1, Math.ceil(total / PAGE)];
  gallery.replaceChildren(hits.length ? el("ul", { class: "grid" }, ...cards(hits)) : empty(total));
  by("status").textContent = hits.length
    ? `${plural(total, "item")}, ${count(from)} to ${count(from + hits.length - 1)} shown · ${took.toFixed(0)} ms`
    : "No hits";
  by("pages").hidden = last < 2;
  by("page").textContent = `${count(state.page)} of ${count(last)}`;
  by("previous").disabled = state.page <= 1;
  by("next").disabled = state.page >= last;
}

function drawStrips(answers) {
  by("pages").hidden = true;
  gallery.replaceChildren(...answers.map(({ collection, answer, error }) => {
    if (!collection) return empty(1, "No memory of the query's own space is served.");
    const only = toAddress({ ...state, collections: [collection.name], page: 1 });
    const all = state.view === "hits" && answer?.hits.length
      && el("a", { href: only, "data-go": "" }, `All ${count(answer.total)}`, el("span", { class: "hidden" }, ` of ${collection.name}`));
    return el("section", { class: "group" },
      el("h2", { class: collection.modality ?? "" }, el("span", { class: "dot" }), collection.name, all),
      error && el("p", { class: "note" }, error.message),
      answer && (answer.hits.length ? el("ul", { class: "strip" }, ...cards(answer.hits)) : empty(answer.total)));
  }));
  const took = Math.max(...answers.map(({ answer }) => answer?.took_ms ?? 0));
  const found = answers.reduce((sum, { answer }) => sum + (answer?.hits.length ?? 0), 0);
  const place = state.view === "hits" ? plural(answers.length, "collection") : plural(answers.length, "memory").replace("memorys", "memories");
  by("status").textContent = `The best ${count(found)} of ${place}${took ? ` · ${took.toFixed(0)} ms` : ""}`;
}

function empty(total, words) {
  const filtered = Object.keys(state.where).length > 0;
  const said = words ?? (filtered && !total ? "Nothing passes these filters." : "Nothing here.");
  const back = el("button", { type: "button", onclick: () => go({ where: {}, page: 1 }) }, "Clear filters");
  const first = el("button", { type: "button", onclick: () => go({ page: 1 }) }, "First page");
  return el("div", { class: "empty" }, el("p", {}, said), filtered && back, state.page > 1 && total > 0 && first);
}

async function drawQuery(asked) {
  const place = by("query");
  if (!state.query || state.query.text) return place.replaceChildren();
  const shown = state;
  const preview = await previewOf(state.query, asked).catch(() => null);
  if (shown !== state || !preview) return;
  preview.append(el("button", { type: "button", class: "quiet", onclick: clear }, "New search"));
  place.replaceChildren(preview);
}

function drawStart() {
  results.removeAttribute("aria-busy");
  document.title = "mcr search";
  for (const id of ["share", "turning", "pages"]) by(id).hidden = true;
  by("query").replaceChildren();
  by("status").textContent = "";
  const asked = { text: "a sentence", audio: "a sound", image: "an image", points: "a point cloud" };
  const ways = served.queries.map((modality) => asked[modality]);
  const listed = ways.length > 1 ? `${ways.slice(0, -1).join(", ")} or ${ways.at(-1)}` : ways.join("");
  const spaces = new Set(served.bridges.flatMap((bridge) => bridge.spaces.map((space) => space.name)));
  gallery.replaceChildren(el("div", { class: "start" },
    el("p", { class: "lead" }, `Ask with ${listed}.`),
    el("p", {}, `${plural(galleries().reduce((sum, { items }) => sum + items, 0), "item")} in ${plural(galleries().length, "collection")}; `
      + `${plural(served.bridges.length, "bridge")} between ${[...spaces].join(", ")}.`),
    el("p", { class: "hints" }, el("kbd", {}, "/"), " to type, ", el("kbd", {}, "↓"), " into the hits, ", el("kbd", {}, "Enter"), " for one of them, ",
      el("kbd", {}, "m"), " for more like it, ", el("kbd", {}, "Esc"), " back. Files may be dropped or pasted anywhere.")));
}

function fail(error, again) {
  results.removeAttribute("aria-busy");
  by("status").textContent = "";
  by("pages").hidden = true;
  const forgotten = error.status === 404 && state.query?.saved;
  by("alert").replaceChildren(el("div", { class: "alert" },
    el("p", {}, error.message, forgotten ? " Ask with the file once more." : ""),
    el("button", { type: "button", onclick: again }, "Try again")));
  gallery.replaceChildren();
}

// What the reader does

function clear() {
  words.value = "";
  go({ query: null, page: 1 });
  words.focus();
}

const askFile = (file) => file && served && go({ query: { file }, page: 1, view: "hits" });

by("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = words.value.trim();
  if (served) go({ query: text ? { text } : null, page: 1 });
});
by("home").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  words.value = "";
  go(fromAddress(""));
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-go]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(fromAddress(new URL(link.href).search));
  scrollTo(0, 0);
});
addEventListener("popstate", () => served && show(fromAddress(location.search)));

by("views").addEventListener("click", ({ target }) => target.dataset.view && go({ view: target.dataset.view, page: 1 }));
for (const [id, step] of [["previous", -1], ["next", 1]]) {
  by(id).addEventListener("click", async () => {
    await go({ page: state.page + step });
    results.scrollIntoView();
  });
}
by("turning").addEventListener("click", () => {
  setTurning(!isTurning());
  by("turning").setAttribute("aria-pressed", String(isTurning()));
});
by("turning").setAttribute("aria-pressed", String(isTurning()));
by("share").addEventListener("click", async () => {
  const said = by("share").querySelector("span");
  said.textContent = await navigator.clipboard.writeText(location.href).then(() => "Copied", () => "It is in the address bar");
  setTimeout(() => { said.textContent = "Copy link"; }, 2000);
});

by("choose").addEventListener("click", () => by("file").click());
by("file").addEventListener("change", () => {
  askFile(by("file").files[0]);
  by("file").value = "";
});
addEventListener("paste", (event) => askFile(event.clipboardData?.files[0]));
addEventListener("dragover", (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  by("drop").hidden = false;
});
addEventListener("dragleave", (event) => event.relatedTarget === null && (by("drop").hidden = true));
addEventListener("drop", (event) => {
  event.preventDefault();
  by("drop").hidden = true;
  askFile(event.dataTransfer.files[0]);
});

let recording = null;

by("record").addEventListener("click", async () => {
  if (recording) return;
  try {
    recording = await record({
      limit: served.limits.audio_seconds,
      full: finish,
      tell(seconds, level) {
        by("recorded").textContent = `${seconds.toFixed(1)} s`;
        by("level").value = level;
      },
    });
  } catch {
    return fail(new Error("The microphone cannot be used: allow it for this page."), () => by("record").click());
  }
  by("recorder").hidden = false;
  by("stop").focus();
});
async function finish() {
  const ended = recording;
  recording = null;
  by("recorder").hidden = true;
  if (ended) askFile(await ended.stop());
}
by("stop").addEventListener("click", finish);
by("cancel").addEventListener("click", discard);
function discard() {
  recording?.cancel();
  recording = null;
  by("recorder").hidden = true;
  words.focus();
}

keys(gallery, { leave: () => words.focus() });
words.addEventListener("keydown", (event) => {
  const first = event.key === "ArrowDown" && gallery.querySelector("article");
  if (!first) return;
  event.preventDefault();
  first.focus();
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && recording) return discard();
  const typing = event.target.closest?.("input, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  words.select();
  words.focus();
});
if (matchMedia("(max-width: 800px)").matches) by("filters").open = false;

begin();
