// One hit in full: the whole file, every column, and the way to the hits beside it.

import { el, icon } from "./dom.js";
import { mediaOf, titleOf } from "./gallery.js";
import { stopSound } from "./sound.js";

const dialog = document.getElementById("detail");
let shown = [];
let at = 0;
let moreLike = null;

/** Show hits[index]; more(hit) gives the address of what is like it. */
export function openDetail(hits, index, more) {
  [shown, at, moreLike] = [hits, index, more];
  if (!dialog.open) dialog.showModal();
  draw();
}

export const closeDetail = () => dialog.close();

dialog.addEventListener("close", () => {
  stopSound();
  dialog.replaceChildren();
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
dialog.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by) move(by);
});

function move(by) {
  if (!shown[at + by]) return;
  at += by;
  stopSound();
  draw(by);
}

function draw(by) {
  const hit = shown[at];
  const { text, label, columns } = hit;
  const where = hit.memory ? { memory: hit.memory } : { collection: hit.collection };
  const fields = { id: hit.id === text ? null : hit.id, ...where, label, ...columns };
  if (hit.score != null) fields.score = hit.score.toFixed(4);
  const step = (name, symbol, way) => el(
    "button",
    {
      type: "button", class: "icon", "aria-label": name, title: name, disabled: !shown[at + way],
      onclick: () => move(way),
    },
    icon(symbol),
  );
  const [left, right] = [step("Hit before", "left", -1), step("Next hit", "right", 1)];
  const end = { type: "button", class: "icon", "aria-label": "Close", title: "Close (Esc)" };
  const close = el("button", { ...end, onclick: closeDetail }, icon("close"));
  dialog.replaceChildren(
    el("div", { class: "top" }, el("h2", { id: "detail-title" }, titleOf(hit)), left, right, close),
    el("div", { class: `media ${hit.modality}` }, mediaOf(hit, true)),
    el("dl", {}, ...Object.entries(fields)
      .filter(([, value]) => value != null && value !== "")
      .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value))))),
    el("p", { class: "acts" },
      el("a", { class: "primary", href: moreLike(hit), "data-go": "" }, "More like this"),
      hit.media?.file
        && el("a", { href: hit.media.file, target: "_blank", rel: "noopener" }, "Open the file")),
  );
  const wanted = { "-1": left, 1: right }[by];
  (wanted && !wanted.disabled ? wanted : close).focus();
}
