// Small helpers to build the page. Nothing here or elsewhere writes HTML from strings: whatever
// the server says is text.

/** A new element: attributes by name, `on...` as listeners, false and null left out. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null && child !== false));
  return element;
}

/** A new SVG element. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** One of the symbols of index.html. */
export const icon = (name) => svg("svg", { "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));

const waiting = new WeakMap();
const observer = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) waiting.get(entry.target)?.(entry.isIntersecting);
  },
  { rootMargin: "100px" },
);

/** Call `tell(visible)` whenever the element comes into view or leaves it. */
export function watch(element, tell) {
  waiting.set(element, tell);
  observer.observe(element);
}

/** Call `act` once, when the element first comes into view. */
export function whenVisible(element, act) {
  watch(element, (visible) => {
    if (!visible) return;
    observer.unobserve(element);
    act();
  });
}

/** Mark at which ends an element that scrolls goes on, for the style sheet to show it. */
export function hintScroll(element) {
  const say = () => {
    const { scrollLeft: left, scrollTop: top } = element;
    const on = (name, pixels) => element.classList.toggle(name, pixels > 2);
    on("more-left", left);
    on("more-right", element.scrollWidth - element.clientWidth - left);
    on("more-down", element.scrollHeight - element.clientHeight - top);
  };
  element.addEventListener("scroll", say, { passive: true });
  new ResizeObserver(say).observe(element);
  return element;
}

export const count = (number) => number.toLocaleString("en");

/** "1 item", "2 items". */
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** Words in a row, with `last` (and, or) before the last of them. */
export function listedWith(words, last) {
  const all = [...words];
  return all.length > 1 ? `${all.slice(0, -1).join(", ")} ${last} ${all.at(-1)}` : all.join("");
}
