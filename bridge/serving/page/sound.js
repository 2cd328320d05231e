// A player of one sound: a button, its waveform to listen from any place, the time. One sound
// plays at a time.

import { el, icon, svg, whenVisible } from "./dom.js";

const audio = new Audio();
let current = null; // the player that owns `audio`

audio.addEventListener("play", follow);
audio.addEventListener("pause", () => current?.draw());
audio.addEventListener("ended", () => { audio.currentTime = 0; });
audio.addEventListener("error", () => current?.fail());

function follow() {
  if (!current) return;
  if (!current.element.isConnected) return stopSound();
  current.draw();
  if (!audio.paused) requestAnimationFrame(follow);
}

/** Silence. */
export function stopSound() {
  audio.pause();
  current = null;
}

/** A player of the file at `src`; `load` promises {seconds, peaks: [[low, high]]}. */
export function soundPlayer({ src, load, label }) {
  const button = el("button", { type: "button", class: "play", onclick: toggle });
  const wave = el("div", { class: "wave", onclick: seek });
  const time = el("span", { class: "time" });
  const element = el("div", { class: "sound" }, button, wave, time);
  const player = { element, draw, fail };
  let seconds = 0;

  element.toggle = toggle;
  draw();
  if (load) whenVisible(wave, () => load().then((told) => {
    seconds = told.seconds;
    wave.replaceChildren(waveform(told.peaks));
    draw();
  }).catch((error) => time.replaceChildren(error.message)));
  return element;

  function toggle(event) {
    event?.stopPropagation();
    if (current === player && !audio.paused) return audio.pause();
    begin();
    audio.play().catch(() => {}); // the error event says it
  }

  function seek(event) {
    event.stopPropagation();
    const at = event.offsetX / wave.clientWidth;
    begin();
    const jump = () => { audio.currentTime = at * audio.duration; };
    if (audio.readyState) jump();
    else audio.addEventListener("loadedmetadata", jump, { once: true });
    audio.play().catch(() => {});
  }

  function begin() {
    if (current === player) return;
    const before = current;
    audio.src = src;
    current = player;
    before?.draw();
  }

  function draw() {
    const mine = current === player;
    const plays = mine && !audio.paused;
    const length = mine && Number.isFinite(audio.duration) ? audio.duration : seconds;
    const at = mine ? audio.currentTime : 0;
    button.replaceChildren(icon(plays ? "pause" : "play"));
    button.setAttribute("aria-label", `${plays ? "Pause" : "Play"} ${label}`);
    const whole = length ? `${length.toFixed(1)} s` : ""; // nothing before the waveform tells
    time.textContent = at ? `${at.toFixed(1)} / ${whole}` : whole;
    const played = wave.querySelector(".played");
    if (played) played.style.clipPath = `inset(0 ${100 - (100 * at) / (length || 1)}% 0 0)`;
  }

  function fail() {
    time.textContent = "cannot be played here";
  }
}

/** An SVG of [low, high] pairs, twice: as it is, and the part that was played. */
function waveform(peaks) {
  const loudest = Math.max(1e-6, ...peaks.flat().map(Math.abs));
  const y = (value) => ((-value / loudest) * 0.95).toFixed(3);
  const upper = peaks.map(([, high], x) => `${x} ${y(high)}`);
  const lower = peaks.map(([low], x) => `${x} ${y(low)}`).reverse();
  const d = `M${upper.join("L")}L${lower.join("L")}z`;
  return svg(
    "svg",
    { viewBox: `0 -1 ${peaks.length - 1} 2`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { d }),
    svg("path", { d, class: "played" }),
  );
}

/** {seconds, peaks} of a sound file that the page itself holds. */
export async function peaksOf(file) {
  const sound = await decode(file);
  const samples = sound.getChannelData(0);
  const step = Math.max(1, Math.floor(samples.length / 400));
  const peaks = [];
  for (let start = 0; start < samples.length; start += step) {
    let [low, high] = [0, 0];
    for (const value of samples.subarray(start, start + step)) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    peaks.push([low, high]);
  }
  return { seconds: sound.duration, peaks };
}

/** The samples of a sound file, whatever the browser can read. */
export async function decode(file) {
  const context = new OfflineAudioContext(1, 1, 48000);
  return context.decodeAudioData(await file.arrayBuffer());
}
