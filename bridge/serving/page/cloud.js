// Point clouds that turn. A canvas in two dimensions is enough for some thousand points, works
// without a graphics card, and a page may hold any number of them.

import { el, watch } from "./dom.js";

const FRAME = 33; // milliseconds between two pictures
const TURN = 0.0007; // radians a millisecond
const DEPTHS = 8; // shades from far to near
const DISTANCE = 3.2; // of the eye from the centre; the cloud has radius 1

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const visible = new Set();
let turning = !calm.matches;
let last = 0;

/** Let the clouds turn, or stand still. */
export function setTurning(on) {
  turning = on;
  if (on) schedule();
}

export const isTurning = () => turning;

/**
 * A canvas with the cloud that `load` promises: {points: [[x, y, z]], colours: [[r, g, b]] or
 * null}, colours from 0 to 1.
 */
export function cloudView(load, label) {
  const canvas = el("canvas", { class: "cloud", role: "img", "aria-label": label });
  const cloud = { canvas, points: null, yaw: -0.4, pitch: 0.2, held: false };
  watch(canvas, (inView) => {
    if (!inView) return visible.delete(cloud);
    visible.add(cloud);
    load?.().then((told) => {
      cloud.points = centred(told.points);
      cloud.colours = told.colours && told.colours.map(css);
      draw(cloud);
      schedule();
    }).catch((error) => canvas.replaceWith(el("p", { class: "broken" }, error.message)));
    load = null; // only once
    schedule();
  });
  new ResizeObserver(() => draw(cloud)).observe(canvas);
  drag(cloud);
  return canvas;
}

function drag(cloud) {
  const { canvas } = cloud;
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    cloud.held = true;
    moved = 0;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!cloud.held) return;
    moved += Math.abs(event.movementX) + Math.abs(event.movementY);
    turn(cloud, event.movementX / 90, event.movementY / 90);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => { cloud.held = false; });
  }
  // A drag is no click on the card around the cloud.
  canvas.addEventListener("click", (event) => moved > 5 && event.stopPropagation());
}

function turn(cloud, yaw, pitch) {
  cloud.yaw += yaw;
  cloud.pitch = Math.max(-1.5, Math.min(1.5, cloud.pitch + pitch));
  draw(cloud);
}

let scheduled = false;

function schedule() {
  if (scheduled || !turning || !visible.size) return;
  scheduled = true;
  requestAnimationFrame(frame);
}

function frame(now) {
  scheduled = false;
  const passed = now - last;
  if (turning && passed >= FRAME) {
    last = now;
    for (const cloud of visible) {
      if (!cloud.canvas.isConnected) visible.delete(cloud);
      else if (!cloud.held) turn(cloud, Math.min(passed, 100) * TURN, 0);
    }
  }
  schedule();
}

function centred(points) {
  const middle = [0, 1, 2].map((axis) => {
    let [low, high] = [Infinity, -Infinity];
    for (const point of points) {
      low = Math.min(low, point[axis]);
      high = Math.max(high, point[axis]);
    }
    return (low + high) / 2;
  });
  let radius = 1e-9;
  for (const [x, y, z] of points) {
    radius = Math.max(radius, Math.hypot(x - middle[0], y - middle[1], z - middle[2]));
  }
  return points.map((point) => point.map((value, axis) => (value - middle[axis]) / radius));
}

const css = (colour) => `rgb(${colour.map((part) => Math.round(255 * part)).join(" ")})`;

function draw({ canvas, points, colours, yaw, pitch }) {
  const ratio = Math.min(devicePixelRatio, 2);
  const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio];
  if (!points || !width) return;
  if (canvas.width !== Math.round(width) || canvas.height !== Math.round(height)) {
    [canvas.width, canvas.height] = [Math.round(width), Math.round(height)];
  }
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  const scale = Math.min(width * 0.85, height * 1.1) * 0.5 * (DISTANCE - 0.5);
  const spaced = (0.3 * Math.min(width, height)) / ratio / Math.sqrt(points.length);
  const size = ratio * Math.max(1.1, Math.min(4, spaced)); // fewer points are larger
  const shades = Array.from({ length: DEPTHS }, () => []);
  const [sinYaw, cosYaw, sinPitch, cosPitch] =
    [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
  points.forEach(([x, y, z], i) => {
    const across = x * cosYaw + z * sinYaw;
    const away = z * cosYaw - x * sinYaw;
    const up = y * cosPitch - away * sinPitch;
    const near = y * sinPitch + away * cosPitch;
    const grow = scale / (DISTANCE - near);
    const shade = Math.max(0, Math.min(DEPTHS - 1, Math.floor((near + 1) * 0.5 * DEPTHS)));
    shades[shade].push([width / 2 + across * grow, height / 2 - up * grow, i]);
  });
  context.fillStyle = getComputedStyle(canvas).color;
  shades.forEach((drawn, shade) => {
    const nearness = (shade + 1) / DEPTHS;
    context.globalAlpha = 0.3 + 0.7 * nearness;
    const radius = size * (0.55 + 0.6 * nearness) * 0.8;
    context.beginPath();
    for (const [x, y, i] of drawn) {
      if (colours) {
        context.fillStyle = colours[i];
        context.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
      } else {
        context.moveTo(x + radius, y);
        context.arc(x, y, radius, 0, 2 * Math.PI);
      }
    }
    if (!colours) context.fill();
  });
}
