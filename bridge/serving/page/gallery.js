// Hits as cards, whatever their modality, and the way among them with the arrow keys.

import { json } from "./api.js";
import { cloudView } from "./cloud.js";
import { el, icon } from "./dom.js";
import { soundPlayer } from "./sound.js";

/** What to call a hit in one line; ids are often paths. */
export const nameOf = (hit) => hit.text ?? hit.label ?? lastOf(hit.id);

const lastOf = (id) => id.split("/").at(-1) || id;

/** What to write under a hit, whose words, if it has any, stand above. */
export function titleOf(hit) {
  if (hit.modality !== "text") return nameOf(hit);
  return hit.label ?? (hit.id === hit.text ? "Sentence" : lastOf(hit.id));
}

/** A hit's picture, player, cloud or words. large: at its full size, for the detail. */
export function mediaOf(hit, large = false) {
  const { media, modality } = hit;
  const label = `${modality} ${nameOf(hit)}`;
  if (modality === "text") return el("p", { class: "words" }, hit.text ?? hit.id);
  if (modality === "audio" && media?.file) {
    const load = media.waveform && (() => json(media.waveform));
    return soundPlayer({ src: media.file, load, label: nameOf(hit) });
  }
  if (modality === "points" && media?.points) return cloudView(() => json(media.points), label);
  const picture = large ? media?.file ?? media?.thumbnail : media?.thumbnail ?? media?.file;
  if (modality === "image" && picture) {
    const image = el("img", { src: picture, alt: label, loading: "lazy", draggable: "false" });
    image.addEventListener("error", () => {
      const small = media.thumbnail; // a browser shows no TIFF, the server makes a picture of it
      if (small && image.getAttribute("src") !== small) image.src = small;
      else image.replaceWith(nothing(modality, "The file cannot be shown."));
    });
    return image;
  }
  return nothing(modality, hit.id);
}

const nothing = (modality, words) => el("p", { class: "broken" }, icon(modality), words);

/**
 * A card. more: the address of what is like it; open: called to show it in full; scored: whether
 * the score answers a query.
 */
export function card(hit, { more, open, scored }) {
  const media = el("div", { class: "media", onclick: open }, mediaOf(hit));
  const score = scored ? hit.score.toFixed(3) : null;
  const what = `${hit.modality} ${nameOf(hit)}`;
  const said = score ? `${hit.rank}: ${what}, score ${score}` : what;
  const name = { type: "button", class: "name", title: `${hit.id}: show all of it`, tabindex: "-1" };
  const article = el(
    "article",
    { tabindex: "-1", "aria-label": said },
    media,
    el("div", { class: "about" },
      el("button", { ...name, onclick: open }, titleOf(hit)),
      score && el("span", { class: "score", title: "Cosine similarity with the query" }, score)),
    el("a", { class: "more", href: more, tabindex: "-1", "data-go": "" }, "More like this"),
  );
  return el("li", { class: `card ${hit.modality}` }, article);
}

/** Cards in the place of some that are on their way. */
export const blanks = (number) =>
  Array.from({ length: number }, () => el("li", { class: "card blank", "aria-hidden": "true" }));

/** Of every list one card, and what is in it, is reached with Tab: the arrow keys choose it. */
export function choose(article) {
  for (const other of article.closest("ul").querySelectorAll("article")) {
    const tabindex = other === article ? "0" : "-1";
    other.setAttribute("tabindex", tabindex);
    for (const inner of other.querySelectorAll("button, a")) inner.setAttribute("tabindex", tabindex);
  }
}

/** Keys in the gallery. leave: called on Escape and above the first row. */
export function keys(root, { leave }) {
  root.addEventListener("focusin", (event) => {
    const article = event.target.closest("article");
    if (article) choose(article);
  });
  root.addEventListener("keydown", (event) => {
    const article = event.target.closest("article");
    if (!article || event.ctrlKey || event.metaKey || event.altKey) return;
    const own = event.target === article;
    if (event.key === "Enter" && own) article.querySelector(".name").click();
    else if (event.key === " " && own && article.querySelector(".sound")) play(article);
    else if (event.key === "m") article.querySelector(".more").click();
    else if (event.key === "Escape") leave();
    else if (!step(root, article, event.key, leave)) return;
    event.preventDefault();
  });
}

const play = (article) => article.querySelector(".sound").toggle();

function step(root, article, key, leave) {
  const all = [...root.querySelectorAll("article")];
  const at = all.indexOf(article);
  const places = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 };
  let to = all[places[key]];
  if (key === "ArrowDown" || key === "ArrowUp") {
    to = nearest(all, article, key === "ArrowDown" ? 1 : -1);
    if (!to && key === "ArrowUp") leave();
  } else if (!(key in places)) return false;
  to?.focus();
  to?.scrollIntoView({ block: "nearest", inline: "nearest" });
  return true;
}

/** The card in the next row (direction 1) or the row before (-1) that is closest sideways. */
function nearest(all, article, direction) {
  const here = article.getBoundingClientRect();
  const beyond = all
    .map((other) => ({ other, box: other.getBoundingClientRect() }))
    .filter(({ box }) => direction * (box.top - here.top) > 4);
  const row = Math.min(...beyond.map(({ box }) => direction * box.top));
  return beyond
    .filter(({ box }) => direction * box.top < row + 4)
    .sort((a, b) => Math.abs(a.box.left - here.left) - Math.abs(b.box.left - here.left))[0]?.other;
}
