// Small helpers around the document. Text from the server only ever goes through textContent or properties.

export const $ = (id) => document.getElementById(id);

/** Make an element: properties are set as properties, `data` and `aria` as attributes, children appended. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "data") Object.assign(element.dataset, value);
    else if (name === "aria") for (const [key, text] of Object.entries(value)) element.setAttribute(`aria-${key}`, text);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Give one of the icons that index.html holds. */
export function icon(name, more = "") {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", `icon ${more}`.trim());
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Tell people who listen rather than look; the same words twice are told twice. */
export function announce(words) {
  const status = $("status");
  status.textContent = "";
  // A screen reader notices a change only if the emptiness was there for a moment.
  setTimeout(() => { status.textContent = words; }, 50);
}

/** Show a picture, or a word in its place when it cannot be shown. */
export function picture(src, alt, properties = {}) {
  const image = make("img", { alt, decoding: "async", draggable: false, ...properties });
  image.addEventListener("error", () => {
    image.replaceWith(make("span", { className: "gone", role: "img", ariaLabel: alt }, "cannot be shown"));
  });
  image.src = src;
  return image;
}

/** Let a frame have the shape of its picture as soon as that is known, and as much room as its place gives. */
export function hug(frame, image) {
  const shape = () => {
    if (image.naturalWidth) frame.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
  };
  image.addEventListener("load", shape);
  shape();
}

/** Shut a dialog by a click beside it; its own edge belongs to it. */
export function shutBeside(dialog, shut) {
  dialog.addEventListener("click", (event) => {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    const within = event.clientX >= left && event.clientX <= right && event.clientY >= top && event.clientY <= bottom;
    if (event.target === dialog && !within) shut();
  });
}

/** Fill a <dl> with pairs, leaving out what is empty. */
export function fill(list, pairs) {
  list.replaceChildren();
  for (const [term, value] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    list.append(make("dt", { textContent: term }), make("dd", { textContent: String(value) }));
  }
}
