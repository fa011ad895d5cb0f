// The pictures that are searched with: one large, on which a part can be drawn, and all of them in a strip.

import * as api from "./api.js";
import { Boxed } from "./box.js";
import { $, announce, hug, icon, make, picture } from "./dom.js";
import { watchInput } from "./intake.js";
import { upload } from "./state.js";
import { count, title } from "./words.js";

export const MOST_PICTURES = 8;

const items = new Map();

/** Look an item up once. */
export async function itemOf(id, signal) {
  if (!items.has(id)) items.set(id, await api.item(id, signal));
  return items.get(id);
}

/** Remember items that an answer brought along. */
export function learn(found) {
  for (const one of found) items.set(one.id, one);
}

/** Where to find the picture of a part; a box on an item counts from the corner of the item's own box. */
export const urlOf = (part, boxed = true) => (part.id === undefined ? upload(part.file).url : api.pictureOf(part.id, boxed));

export function nameOf(part) {
  if (part.id === undefined) return upload(part.file).name;
  const item = items.get(part.id);
  return item ? title(item) : part.id;
}

/** Make of a part of the query what goes to the service. */
export async function request(part, signal) {
  if (part.id === undefined) return { blob: upload(part.file).blob, box: part.box };
  if (!part.box) return { id: part.id };
  // An item is searched by its descriptor; another part of it has none, so its picture is sent.
  return { blob: await api.pictureBlob(part.id, signal), box: part.box };
}

export class QueryPanel {
  /** @param {{change: (query: object[]) => void, offer: (files: FileList, add: boolean) => void}} told */
  constructor(told) {
    this.told = told;
    this.parts = [];
    this.active = 0;
    this.shown = null;
    this.boxed = null;
    this.later = 0;
    $("select-part").addEventListener("click", (event) => this.#select(event));
    $("whole").addEventListener("click", () => this.#whole());
  }

  show(parts) {
    const added = parts.length > this.parts.length;
    this.parts = parts;
    this.active = added ? parts.length - 1 : Math.min(this.active, Math.max(parts.length - 1, 0));
    if (parts.length === 0) {
      this.shown = this.boxed = null;
      $("stage").replaceChildren();
      return;
    }
    this.#strip();
    this.#stage();
  }

  async #stage() {
    const part = this.parts[this.active];
    const key = part.id ?? part.file;
    clearTimeout(this.later);
    if (this.shown === key) {
      this.#place();
      return;
    }
    this.shown = key;
    this.boxed = null;
    this.#say(null);
    const image = picture(urlOf(part), `Query: ${nameOf(part)}`);
    const frame = make("div", { className: "frame" }, image);
    hug(frame, image);
    $("stage").replaceChildren(frame);
    const [loaded] = await Promise.all([
      image.decode().then(() => true, () => false),
      part.id === undefined ? null : itemOf(part.id).catch(() => null),
    ]);
    if (this.shown !== key) return;
    image.alt = `Query: ${nameOf(part)}`;
    if (loaded) this.boxed = new Boxed(image, frame, { changed: (box) => this.#changed(box), done: (box) => this.#set(box), cancel: () => this.#whole() });
    else $("stage").replaceChildren(make("p", { className: "gone" }, "This browser cannot show this picture; it is searched all the same."));
    this.#place();
    this.#strip();
  }

  #place() {
    this.boxed?.set(this.parts[this.active].box);
    this.#say(this.boxed?.box ?? null);
  }

  #say(box) {
    const asked = this.boxed?.wanted;
    $("box-words").textContent = box ? `Part of ${box[2] - box[0]} × ${box[3] - box[1]} px`
      : asked ? "Drag over the part." : matchMedia("(hover: none)").matches ? "" : "Drag over a part to search it.";
    $("whole").hidden = !box;
    $("select-part").hidden = Boolean(box);
    $("select-part").disabled = !this.boxed;
    $("select-part").setAttribute("aria-pressed", String(Boolean(asked)));
  }

  #select(event) {
    const byKeys = event.detail === 0;
    this.boxed.want(!this.boxed.wanted && !byKeys);
    if (byKeys) this.boxed.begin();
    this.#say(this.boxed.box);
  }

  #changed(box) {
    this.#say(box);
    clearTimeout(this.later);
    // Who moves it by keys is done when the keys rest.
    if (box && document.activeElement === this.boxed.element) this.later = setTimeout(() => this.#set(box), 900);
  }

  #set(box) {
    clearTimeout(this.later);
    this.boxed.want(false);
    if (box) announce(`Searching the part of ${box[2] - box[0]} by ${box[3] - box[1]} pixels`);
    this.told.change(this.parts.map((part, i) => (i === this.active ? { ...part, box } : part)));
  }

  #whole() {
    const focused = document.activeElement === this.boxed.element || document.activeElement === $("whole");
    this.#set(null);
    this.#place();
    if (focused) $("select-part").focus();
  }

  #strip() {
    const list = $("strip");
    const alone = this.parts.length === 1; // it is large above already
    list.classList.toggle("alone", alone);
    list.replaceChildren(...(alone ? [] : this.parts.map((part, i) => this.#tile(part, i))));
    if (this.parts.length < MOST_PICTURES) {
      const input = make("input", { type: "file", accept: "image/*", multiple: true, className: "unseen", id: "add" });
      watchInput(input, true, (files, add) => this.told.offer(files, add));
      const words = "Add another picture of it";
      const label = make("label", { className: "add", title: words }, input, icon("plus"), make("span", { className: alone ? "" : "unseen" }, words));
      list.append(make("li", {}, label));
    }
    $("strip-words").textContent = alone ? "" : `${count(this.parts.length, "picture")} of one object, searched together.`;
  }

  #tile(part, i) {
    const name = nameOf(part);
    const choose = make("button", { type: "button", className: "thumb", ariaLabel: `Show ${name}`, ariaPressed: String(i === this.active) },
      picture(urlOf(part), ""));
    choose.addEventListener("click", () => {
      this.active = i;
      this.show(this.parts);
      $("strip").querySelectorAll(".thumb")[i].focus();
    });
    const remove = make("button", { type: "button", className: "remove", ariaLabel: `Take ${name} out of the query` }, icon("x"));
    remove.addEventListener("click", () => this.told.change(this.parts.filter((_, j) => j !== i)));
    return make("li", {}, choose, remove);
  }
}
