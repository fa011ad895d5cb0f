// The found pictures as a grid of links, in sections by verdict, walked by arrow keys.

import { $, icon, make, picture } from "./dom.js";
import { VERDICTS, count, metadata, score, title } from "./words.js";

/** Give a verdict as a badge: a sign and a word, so that colour is not all. */
export function badge(verdict) {
  const { icon: name, word } = VERDICTS[verdict];
  return make("span", { className: `verdict ${verdict}` }, icon(name), word);
}

function card(item, href, index) {
  const tile = make("span", { className: "tile" }, picture(item.thumbnail, `Picture of ${title(item)}`, { loading: "lazy", width: 256, height: 256 }));
  const caption = make("span", { className: "caption" });
  if (item.rank !== undefined) {
    caption.append(make("span", { className: "line" }, item.verdict ? badge(item.verdict) : null,
      make("span", { className: "score", title: "Score: 1 is the same picture" }, score(item.score))));
  }
  const known = metadata(item);
  caption.append(make("span", { className: "label", textContent: title(item) }));
  if (known) caption.append(make("span", { className: "meta", textContent: known }));
  const link = make("a", { href, title: item.id, data: { id: item.id, index: String(index) }, tabIndex: -1 }, tile, caption);
  return make("li", { className: "hit" }, link);
}

export class Results {
  /** @param {{open: (id: string) => void, link: (item: object) => string}} told */
  constructor(told) {
    this.told = told;
    this.list = $("hits");
    this.verdict = undefined;
    this.list.addEventListener("click", (event) => this.#click(event));
    this.list.addEventListener("keydown", (event) => this.#key(event));
    this.list.addEventListener("focusin", (event) => this.#mark(event.target.closest("a")));
  }

  get links() {
    return [...this.list.querySelectorAll("a[data-id]")];
  }

  /** Show items from the start. */
  show(items) {
    this.list.replaceChildren();
    this.verdict = undefined;
    this.append(items);
    this.#mark(this.links[0]);
  }

  /** Show more items below; gives the link of the first of them. */
  append(items) {
    const before = this.links.length;
    const cards = [];
    items.forEach((item, i) => {
      const { verdict = null } = item;
      // One section alone needs no heading: the headline says it.
      if (verdict !== this.verdict && verdict && this.verdict !== undefined) cards.push(this.#heading(verdict));
      this.verdict = verdict;
      cards.push(card(item, this.told.link(item), before + i));
    });
    this.list.append(...cards);
    return this.links[before];
  }

  /** Say above the grid what was found; the words tell the verdict, its sign goes before them. */
  headline({ verdict, headline, subline }) {
    const sign = verdict && badge(verdict);
    sign?.lastChild.remove();
    $("headline").replaceChildren(...(sign ? [sign] : []), headline);
    $("subline").textContent = subline;
  }

  focus(id) {
    const link = this.links.find((one) => one.dataset.id === id);
    link?.focus();
    link?.scrollIntoView({ block: "nearest" });
  }

  #heading(verdict) {
    return make("li", { className: "heading" }, make("h3", {}, VERDICTS[verdict].heading));
  }

  #click(event) {
    const link = event.target.closest("a[data-id]");
    if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    this.told.open(link.dataset.id, link.hash);
  }

  /** Let Tab reach one picture only, the last one walked to; arrow keys reach the others. */
  #mark(link) {
    if (!link) return;
    for (const other of this.list.querySelectorAll('a[tabindex="0"]')) other.tabIndex = -1;
    link.tabIndex = 0;
  }

  #key(event) {
    const link = event.target.closest("a[data-id]");
    if (!link || event.altKey || event.ctrlKey || event.metaKey) return;
    const { links } = this;
    const at = links.indexOf(link);
    const to = {
      ArrowLeft: () => links[at - 1],
      ArrowRight: () => links[at + 1],
      ArrowUp: () => across(links, at, -1),
      ArrowDown: () => across(links, at, 1),
      Home: () => links[0],
      End: () => links.at(-1),
    }[event.key];
    if (!to) return;
    event.preventDefault();
    to()?.focus();
  }
}

/** Find the picture above or below: rows may be broken by headings, so the places on the page decide. */
function across(links, at, step) {
  const middle = (link) => {
    const { left, width } = link.getBoundingClientRect();
    return left + width / 2;
  };
  const top = (link) => Math.round(link.getBoundingClientRect().top);
  let i = at;
  while (links[i] && top(links[i]) === top(links[at])) i += step;
  if (!links[i]) return undefined;
  const row = top(links[i]);
  let best = links[i];
  for (; links[i] && top(links[i]) === row; i += step) {
    if (Math.abs(middle(links[i]) - middle(links[at])) < Math.abs(middle(best) - middle(links[at]))) best = links[i];
  }
  return best;
}

/** Say how many pictures are shown, for those who listen. */
export const shownWords = (hits, headline) => `${headline}. ${count(hits.length, "picture")} shown.`;
