// Queries that are no sentence: a file that was chosen, dropped, pasted or recorded, and an item
// that the server knows. What goes to the server, and how the page shows it.

import { item } from "./api.js";
import { el, icon } from "./dom.js";
import { mediaOf, nameOf } from "./gallery.js";
import { toWav } from "./record.js";
import { peaksOf, soundPlayer } from "./sound.js";

const READ_BY_SERVER = /\.(wav|flac|ogg|opus|mp3|aiff?)$/i;
const SOUND = /\.(m4a|aac|weba|webm)$/i;
const MODALITIES = { image: "image/*", audio: "audio/*", points: ".npz,.npy,.ply,.pcd,.xyz,.pts,.off" };
const WORDS = { text: "sentence", audio: "sound", image: "image", points: "point cloud" };
const KEPT = 20; // files to show again after going back

const files = new Map(); // saved key -> file
let shown = null; // the address of the file on the page

/** What a file input should offer. */
export const accepted = (queries) =>
  queries.map((modality) => MODALITIES[modality]).filter(Boolean).join(",");

/** The modality that a file seems to be of, as the server tells it by its name. */
export function modalityOf(file) {
  const kind = file?.type.split("/")[0];
  if (kind === "image" || kind === "audio") return kind;
  return SOUND.test(file?.name) || READ_BY_SERVER.test(file?.name) ? "audio" : "points";
}

/** A file as `POST /v1/search` takes it. Raises an Error in one sentence. */
export async function fileRequest(file, limits) {
  let sent = file;
  if (!READ_BY_SERVER.test(file.name) && modalityOf(file) === "audio") {
    sent = await toWav(file).catch(() => {
      throw new Error(`${file.name} cannot be decoded by this browser: save it as WAV, FLAC or Ogg.`);
    });
  }
  if (limits?.upload_bytes && sent.size > limits.upload_bytes) {
    const most = megabytes(limits.upload_bytes);
    throw new Error(`${file.name} has ${megabytes(sent.size)}, the server takes up to ${most}.`);
  }
  return { content: await base64(sent), filename: sent.name };
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error(`${file.name} cannot be read: was it moved or removed?`));
    reader.readAsDataURL(file);
  });
}

/** Remember the file of a query, so that the page can show it beside its hits. */
export function remember(key, file) {
  files.set(key, file);
  if (files.size > KEPT) files.delete(files.keys().next().value);
}

/** Whether the page can show a query without the server's answer. */
export const isKnown = (query) =>
  Boolean(query.text || query.item != null || query.file || files.has(query.saved));

/** The picture, player or name of a query; asked: {modality, filename} from the server's answer. */
export async function previewOf(query, asked) {
  if (query.item != null) {
    const hit = await item(query.item, query.of);
    return strip(hit.modality, mediaOf(hit), `more like this ${WORDS[hit.modality]}`, nameOf(hit));
  }
  const file = query.file ?? files.get(query.saved);
  const modality = query.as ?? asked?.modality ?? modalityOf(file);
  const name = asked?.text ?? asked?.filename ?? file?.name ?? "a file asked about before";
  return strip(modality, file && fileMedia(file, modality), WORDS[modality], name);
}

function strip(modality, media, word, name) {
  return el("div", { class: `asked ${modality}` },
    el("div", { class: "media" }, media ?? el("p", { class: "broken" }, icon(modality))),
    el("p", {}, el("span", { class: "word" }, word), el("strong", {}, name)));
}

function fileMedia(file, modality) {
  if (modality !== "image" && modality !== "audio") return null;
  if (shown) URL.revokeObjectURL(shown); // else the browser holds the file until the page is left
  const src = URL.createObjectURL(file);
  shown = src;
  if (modality === "audio") return soundPlayer({ src, load: () => peaksOf(file), label: file.name });
  const image = el("img", { src, alt: `the query, ${file.name}` });
  image.addEventListener("error", () => image.replaceWith(icon(modality)));
  return image;
}
