// One hit large beside the query, with the regions that agree.

import * as api from "./api.js";
import { $, fill, hug, make, picture, shutBeside } from "./dom.js";
import { paint, paintRamp } from "./heat.js";
import { MOST_LINES, paintLines } from "./lines.js";
import { itemOf, nameOf, request, urlOf } from "./query.js";
import { badge } from "./results.js";
import { href } from "./state.js";
import { sayMatches, sayRegions, score, strongest, title } from "./words.js";

export class Detail {
  /**
   * @param {{hit: (id: string) => object|undefined, beside: (id: string, step: number) => string|undefined,
   *   turn: (id: string) => void,
   *   shut: () => void, left: (id: string) => void}} told
   */
  constructor(told) {
    this.told = told;
    this.dialog = $("detail");
    this.shown = null;
    this.side = 0;
    this.explained = null;
    this.asking = null;
    this.on = { heat: true, lines: true };
    for (const name of ["heat", "lines"]) $(name).addEventListener("click", () => this.#toggle(name));
    $("previous").addEventListener("click", () => this.#turn(-1));
    $("next").addEventListener("click", () => this.#turn(1));
    $("shut").addEventListener("click", () => told.shut());
    // The browser itself shuts a dialog on Escape; the address has to follow.
    this.dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      told.shut();
    });
    this.dialog.addEventListener("close", () => {
      if (this.shown) told.shut();
    });
    shutBeside(this.dialog, told.shut);
    this.dialog.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step && !event.altKey && !event.ctrlKey && !event.metaKey) this.#turn(step);
    });
    for (const frame of this.dialog.querySelectorAll(".seen")) hug(frame, frame.querySelector("img"));
    paintRamp($("ramp-bar"));
    new ResizeObserver(() => this.#draw()).observe($("pair"));
  }

  /** Show a hit of a search, or nothing. */
  show(state) {
    if (!state.hit) {
      this.#leave();
      return;
    }
    if (this.shown?.hit === state.hit && this.shown.query === href({ query: state.query, where: [] })) return;
    if (this.shown?.query !== href({ query: state.query, where: [] })) this.side = 0;
    this.shown = { hit: state.hit, query: href({ query: state.query, where: [] }), state };
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.scrollTop = 0;
    this.#fill();
  }

  #leave() {
    this.asking?.abort();
    const { hit } = this.shown ?? {};
    this.shown = null;
    this.explained = null;
    if (!this.dialog.open) return;
    this.dialog.close();
    this.told.left(hit);
  }

  async #fill() {
    const { shown } = this;
    const { state } = shown;
    let item = this.told.hit(state.hit);
    if (!item) {
      try {
        item = await itemOf(state.hit);
      } catch (problem) {
        if (this.shown === shown) this.#say(`${problem.message} ${problem.mend ?? ""}`);
        return;
      }
      if (this.shown !== shown) return;
    }
    this.#head(item);
    this.#sides(state.query);
    $("previous").disabled = !this.told.beside(state.hit, -1);
    $("next").disabled = !this.told.beside(state.hit, 1);
    $("with-this").href = href({ query: [{ id: item.id }], where: state.where });
    $("and-this").href = href({ query: [...state.query, { id: item.id }], where: state.where });
    $("and-this").hidden = state.query.length >= 8 || state.query.some(({ id }) => id === item.id);
    $("open-picture").href = item.picture;
    fill($("facts"), [["Label", item.label], ["Id", item.id], ["Split", item.split], ["Box", item.box?.join(", ")], ...Object.entries(item.extra ?? {})]);
    await this.#compare(item);
  }

  #head(item) {
    $("detail-title").textContent = title(item);
    $("detail-facts").replaceChildren(...[
      item.verdict ? badge(item.verdict) : null,
      item.score === undefined ? null : make("span", { className: "score" }, `Score ${score(item.score)}`),
      item.rank === undefined ? null : make("span", { className: "soft" }, `Rank ${item.rank}`),
    ].filter(Boolean));
  }

  /** Let people choose which of several pictures of the query stands beside the hit. */
  #sides(query) {
    $("sides").replaceChildren(...(query.length < 2 ? [] : query.map((part, i) => {
      const button = make("button", { type: "button", className: "thumb", ariaLabel: `Compare with ${nameOf(part)}`, ariaPressed: String(i === this.side) },
        picture(urlOf(part), ""));
      button.addEventListener("click", () => {
        this.side = i;
        this.#fill().then(() => $("sides").querySelectorAll("button")[i]?.focus());
      });
      return make("li", {}, button);
    })));
  }

  async #compare(item) {
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    const { signal } = asking;
    const part = this.shown.state.query[this.side];
    this.explained = null;
    this.#draw();
    this.#say("Comparing the pictures");
    $("pair").ariaBusy = "true";
    const images = [this.#figure("left", urlOf(part, Boolean(part.box)), "Query", nameOf(part)), this.#figure("right", item.picture, "Found", title(item))];
    try {
      const [found] = await Promise.all([
        request(part, signal).then((sent) => api.explain(sent, item.id, signal)),
        // A picture that cannot be shown can be explained all the same.
        ...images.map((image) => image.decode().catch(() => {})),
      ]);
      if (signal.aborted) return;
      this.explained = { ...found, marked: [found.query, found.hit].map(strongest) };
      this.#say(sayMatches(found.lines, MOST_LINES));
      this.#draw();
    } catch (problem) {
      if (signal.aborted || problem.name === "AbortError") return;
      this.#say(`${problem.message} ${problem.mend ?? ""}`);
    } finally {
      if (!signal.aborted) $("pair").ariaBusy = "false";
    }
  }

  #figure(id, src, role, name) {
    const figure = $(id);
    figure.querySelector("figcaption").textContent = role === name ? role : `${role}: ${name}`;
    figure.querySelector("p").textContent = "";
    const image = figure.querySelector("img");
    image.alt = `${role}: ${name}`;
    if (image.getAttribute("src") !== src) image.src = src;
    return image;
  }

  #say(words) {
    $("said").textContent = words;
  }

  #toggle(name) {
    this.on[name] = !this.on[name];
    $(name).ariaPressed = String(this.on[name]);
    this.#draw();
  }

  #turn(step) {
    const id = this.shown && this.told.beside(this.shown.hit, step);
    if (id) this.told.turn(id);
  }

  #draw() {
    const found = this.explained;
    const sides = found ? [found.query, found.hit] : [null, null];
    const most = Math.max(1e-12, ...sides.flatMap((side) => side?.shares.flat() ?? []));
    ["left", "right"].forEach((id, i) => {
      const figure = $(id);
      const canvas = figure.querySelector("canvas");
      figure.classList.toggle("heated", Boolean(found) && this.on.heat);
      canvas.hidden = !found;
      if (!found) return;
      const { width, height, box } = sides[i];
      // A picture that the browser cannot show has its shape all the same.
      figure.querySelector(".seen").style.setProperty("--ratio", width / height);
      const boxed = String(box) !== String([0, 0, width, height]);
      figure.querySelector("p").textContent = this.on.heat ? sayRegions(found.marked[i], boxed) : "";
      paint(canvas, sides[i], { heat: this.on.heat, marked: found.marked[i], score: found.score, most });
    });
    $("ramp").hidden = !(found && this.on.heat);
    $("between").hidden = !(found && this.on.lines);
    if (found && this.on.lines) {
      paintLines($("between"), [...$("pair").querySelectorAll(".seen")], found);
    }
  }
}
