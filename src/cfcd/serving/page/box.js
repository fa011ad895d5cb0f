// A box on a picture: drawn with mouse or finger, moved and resized by it or by keys.
// Boxes are [x1, y1, x2, y2] in whole pixels of the upright picture, whatever size it is shown at.

import { make } from "./dom.js";

const LEAST = 16; // pixels of the picture: less has nothing to recognise
const STEP = 0.02; // of the longer side, per arrow key
const CORNERS = ["nw", "ne", "sw", "se"];

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export class Boxed {
  /**
   * @param {HTMLImageElement} image loaded, shown in `frame`
   * @param {HTMLElement} frame hugs the image; gets the box as its child
   * @param {{changed: (box) => void, done: (box) => void, cancel: () => void}} told `changed` while a box moves,
   *   `done` when the search should follow, `cancel` for the whole picture
   */
  constructor(image, frame, told) {
    this.frame = frame;
    this.told = told;
    this.size = [image.naturalWidth, image.naturalHeight];
    this.least = this.size.map((side) => Math.min(LEAST, side));
    this.box = null;
    this.wanted = false;
    this.element = make("div", {
      className: "box", hidden: true, tabIndex: 0, role: "application", ariaRoleDescription: "part of the picture",
    }, ...CORNERS.map((corner) => make("i", { className: corner, data: { corner } })));
    frame.append(this.element);
    frame.addEventListener("pointerdown", (event) => this.#press(event));
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show a box, or none. */
  set(box) {
    this.box = box;
    this.element.hidden = !box;
    if (!box) return;
    const [width, height] = this.size;
    const [x1, y1, x2, y2] = box;
    Object.assign(this.element.style, {
      left: `${(100 * x1) / width}%`, top: `${(100 * y1) / height}%`,
      width: `${(100 * (x2 - x1)) / width}%`, height: `${(100 * (y2 - y1)) / height}%`,
    });
    this.element.ariaLabel = `Part of ${x2 - x1} by ${y2 - y1} pixels at ${x1}, ${y1}. Arrow keys move it, `
      + "with Shift they change its size, Enter searches, Escape takes the whole picture.";
  }

  /** Let a finger draw: until then it scrolls the page. */
  want(wanted) {
    this.wanted = wanted;
    this.frame.classList.toggle("drawing", wanted);
  }

  /** Begin with a box in the middle, for those who use keys. */
  begin() {
    const [width, height] = this.size;
    if (!this.box) this.set([width / 4, height / 4, (width * 3) / 4, (height * 3) / 4].map(Math.round));
    this.told.changed(this.box);
    this.element.focus();
  }

  #at(event) {
    const bounds = this.frame.getBoundingClientRect();
    return [
      clamp(((event.clientX - bounds.left) / bounds.width) * this.size[0], 0, this.size[0]),
      clamp(((event.clientY - bounds.top) / bounds.height) * this.size[1], 0, this.size[1]),
    ];
  }

  #press(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    const { corner } = event.target.dataset;
    const inside = event.target === this.element;
    // Drawing anew with a finger has to be asked for: it would take scrolling away.
    if (!corner && !inside && event.pointerType === "touch" && !this.wanted) return;
    event.preventDefault();
    const start = this.#at(event);
    const before = this.box;
    const scale = this.size[0] / this.frame.clientWidth;
    const drag = corner ? this.#resizing(corner) : inside ? this.#moving(start) : this.#drawing(start, 6 * scale);
    const stop = new AbortController();
    const listen = (name, does) => this.frame.addEventListener(name, does, { signal: stop.signal });
    this.frame.setPointerCapture(event.pointerId);
    listen("pointermove", (move) => {
      const box = drag(this.#at(move));
      if (!box) return;
      this.set(box);
      this.told.changed(box);
    });
    listen("pointerup", () => {
      stop.abort();
      if (this.box && String(this.box) !== String(before)) this.told.done(this.box);
    });
    listen("pointercancel", () => {
      stop.abort();
      this.set(before);
      this.told.changed(before);
    });
  }

  #drawing([x, y], least) {
    let begun = false;
    return ([toX, toY]) => {
      // A click that trembles is no box.
      begun ||= Math.hypot(toX - x, toY - y) >= least;
      return begun ? this.#between(x, y, toX, toY) : null;
    };
  }

  #moving([x, y]) {
    const [x1, y1, x2, y2] = this.box;
    return ([toX, toY]) => this.#moved([x1, y1, x2, y2], toX - x, toY - y);
  }

  #resizing(corner) {
    const [x1, y1, x2, y2] = this.box;
    const [fixedX, fixedY] = [corner.includes("w") ? x2 : x1, corner.includes("n") ? y2 : y1];
    return ([toX, toY]) => this.#between(fixedX, fixedY, toX, toY);
  }

  #moved([x1, y1, x2, y2], byX, byY) {
    const dx = Math.round(clamp(byX, -x1, this.size[0] - x2));
    const dy = Math.round(clamp(byY, -y1, this.size[1] - y2));
    return [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
  }

  /** Give the box between a fixed corner and another, no smaller than can be searched. */
  #between(x, y, toX, toY) {
    const edges = [[x, toX], [y, toY]].map(([fixed, to], axis) => {
      const [most, least] = [this.size[axis], this.least[axis]];
      const backwards = to < fixed;
      const length = Math.max(Math.abs(to - fixed), least);
      const low = Math.round(clamp(backwards ? fixed - length : fixed, 0, most - least));
      const high = Math.round(clamp(backwards ? fixed : fixed + length, low + least, most));
      return [low, high];
    });
    return [edges[0][0], edges[1][0], edges[0][1], edges[1][1]];
  }

  #key(event) {
    const by = Math.max(1, Math.round(Math.max(...this.size) * STEP));
    const [dx, dy] = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] }[event.key] ?? [0, 0];
    if (dx || dy) {
      const [x1, y1, x2, y2] = this.box;
      const box = event.shiftKey
        ? [x1, y1, clamp(x2 + dx, x1 + this.least[0], this.size[0]), clamp(y2 + dy, y1 + this.least[1], this.size[1])]
        : this.#moved(this.box, dx, dy);
      this.set(box);
      this.told.changed(box);
    } else if (event.key === "Enter") {
      this.told.done(this.box);
    } else if (["Escape", "Delete", "Backspace"].includes(event.key)) {
      this.told.cancel();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }
}
