// The page: the address says what is looked at, this brings it about.

import { introduce } from "./about.js";
import * as api from "./api.js";
import { Detail } from "./detail.js";
import { $, announce, make } from "./dom.js";
import { Filters } from "./filters.js";
import { watchIntake } from "./intake.js";
import { MOST_PICTURES, QueryPanel, learn, request } from "./query.js";
import { Results, shownWords } from "./results.js";
import { go, href, joined, keepUpload, onChange, read, searchKey, tell } from "./state.js";
import { count, findings, invitation } from "./words.js";

const PAGE = 48; // pictures at a time: divides into 2, 3, 4 and 6 columns
const SAMPLES = 12; // places of the gallery that the first page shows
const KEPT = 12; // searches that Back shows at once

const kept = new Map();
let known = null; // what GET /v1/gallery said
let meeting = null;
let current = { key: null, items: [], record: null };
let asking = null;
let overdue = 0;

const query = new QueryPanel({ change: (parts) => go({ query: parts, hit: null }), offer: take });
const filters = new Filters({ change: (where) => go({ where, hit: null }) });
const results = new Results({
  link: (item) => {
    const state = read();
    return state.query.length ? href({ ...state, hit: item.id }) : href({ query: [{ id: item.id }], where: state.where });
  },
  open: (id) => (read().query.length ? go({ hit: id }, { opened: true }) : go({ query: [{ id }] })),
});
const detail = new Detail({
  hit: (id) => current.items.find((item) => item.id === id),
  beside: (id, step) => current.items[current.items.findIndex((item) => item.id === id) + step]?.id,
  turn: (id) => go({ hit: id }, { replace: true }),
  shut: () => {
    // Closing what was opened from here is going back; a link that led right into it has no before.
    if (read().hit && history.state?.opened) history.back();
    else go({ hit: null }, { replace: true });
  },
  left: (id) => results.focus(id),
});

function take(files, add) {
  const before = add ? read().query : [];
  const room = MOST_PICTURES - before.length;
  const taken = [...files].slice(0, room).map((file) => ({ file: keepUpload(file), box: null }));
  if (files.length > room) announce(`A query has at most ${MOST_PICTURES} pictures; the others were left out.`);
  go({ query: [...before, ...taken], hit: null });
}

function complain(problem, again = null) {
  const box = $("problem");
  box.replaceChildren(make("strong", { textContent: problem.message }), make("span", { textContent: problem.mend ?? "" }));
  if (again) {
    const button = make("button", { type: "button" }, "Try again");
    button.addEventListener("click", again);
    box.append(button);
  }
  box.hidden = false;
}

function busy(words) {
  clearTimeout(overdue);
  results.list.ariaBusy = String(Boolean(words));
  if (!words) {
    $("busy").hidden = true;
    return;
  }
  $("busy-words").textContent = words;
  // What is answered at once should not flicker.
  overdue = setTimeout(() => {
    $("busy").hidden = false;
    announce(words);
  }, 150);
}

/** Ask for items from all over the gallery: the first ones are often all of one object. */
async function sample(total, signal) {
  const starts = [...Array(SAMPLES).keys()].map((i) => Math.floor((i * total) / SAMPLES));
  const pages = await Promise.all(starts.map((offset) => api.items({ where: "", offset, k: PAGE / SAMPLES }, signal)));
  // One of each place in turn, so that already the first row is of many objects.
  const items = [...Array(PAGE / SAMPLES).keys()].flatMap((i) => pages.flatMap((page) => page.items.slice(i, i + 1)));
  return { answer: { total, more: true }, items, next: 0 };
}

/** Ask the service for a page of what the state wants; `next` is where the one after it starts. */
async function ask(state, offset, signal) {
  const where = joined(state.where);
  await meeting;
  if (state.query.length === 0) {
    if (offset === null && !where && known?.items > 2 * PAGE) return sample(known.items, signal);
    const answer = await api.items({ where, offset: offset ?? 0, k: PAGE }, signal);
    const next = answer.offset + answer.items.length;
    return { answer: { ...answer, more: next < answer.total }, items: answer.items, next };
  }
  const parts = await Promise.all(state.query.map((part) => request(part, signal)));
  refuseTooMuch(parts);
  const k = Math.min(PAGE, known ? known.max_k - offset : PAGE);
  const answer = await api.search(parts, { where, offset: offset ?? 0, k }, signal);
  return { answer, items: answer.hits, next: answer.offset + answer.hits.length };
}

/** Say so before sending what the service would hang up on, which looks like a broken network. */
function refuseTooMuch(parts) {
  const bytes = parts.reduce((sum, { blob }) => sum + (blob?.size ?? 0), 0);
  if (known && bytes > known.max_body_bytes) {
    const [given, most] = [bytes, known.max_body_bytes].map((one) => (one / 2 ** 20).toFixed(1));
    throw new api.Problem(`The pictures have ${given} MB, and this service takes ${most} MB.`, "Give smaller or fewer pictures.");
  }
}

/** Run what asks, one at a time: the last one counts. */
async function run(words, does, again) {
  asking?.abort();
  const own = (asking = new AbortController());
  $("problem").hidden = true;
  busy(words);
  try {
    await does(own.signal);
  } catch (problem) {
    if (asking !== own) return;
    if (problem.name === "AbortError") complain({ message: "The search was cancelled." }, again);
    else if (problem instanceof api.Problem) complain(problem, problem.passing ? again : null);
    else throw problem;
    // What an earlier search found would look like the answer to this one.
    if (!current.record) {
      results.show([]);
      results.headline({ verdict: null, headline: "Nothing to show", subline: "" });
      $("more").hidden = true;
    }
  } finally {
    if (asking === own) {
      asking = null;
      busy(null);
    }
  }
}

function search(state) {
  const key = searchKey(state);
  if (key === current.key) return;
  if (current.key !== null && current.record) current.record.scroll = scrollY;
  current = { key, items: [], record: null };
  const before = kept.get(key);
  if (before) {
    asking?.abort();
    asking = null;
    busy(null);
    $("problem").hidden = true;
    display(state, before);
    scrollTo(0, before.scroll);
    return;
  }
  const again = () => {
    current.key = null;
    search(read());
  };
  run(state.query.length ? "Searching" : "Loading", async (signal) => {
    const { answer, items, next } = await ask(state, null, signal);
    if (signal.aborted) return;
    const record = { answer, items, next, scroll: 0 };
    kept.set(key, record);
    if (kept.size > KEPT) kept.delete(kept.keys().next().value);
    display(state, record);
    if (state.query.length && scrollY > $("main").offsetTop) $("main").scrollIntoView();
    announce(shownWords(items, $("headline").textContent));
  }, again);
}

function display(state, record) {
  current.record = record;
  current.items = record.items;
  learn(record.items);
  results.show(record.items);
  headline(state, record);
  detail.show(read());
  if (document.activeElement === document.body && state.query.length) $("headline").focus({ preventScroll: true });
}

function headline(state, { answer, items }) {
  const filtered = state.where.length > 0;
  results.headline(state.query.length
    ? findings(answer, items, { items: known?.items ?? items.length, several: state.query.length > 1, filtered })
    : invitation(answer.total, filtered));
  $("more").hidden = !answer.more || (state.query.length > 0 && items.length >= known?.max_k);
}

function more() {
  const state = read();
  const { record } = current;
  if (!record || asking) return;
  run("Loading more", async (signal) => {
    const { answer, items, next } = await ask(state, record.next, signal);
    if (signal.aborted || current.record !== record) return;
    // The gallery may have changed since, and brought some of these back.
    const fresh = items.filter((item) => !record.items.some(({ id }) => id === item.id));
    record.next = next;
    record.items = current.items = [...record.items, ...fresh];
    record.answer = { ...record.answer, more: answer.more };
    learn(fresh);
    results.append(fresh)?.focus();
    headline(state, record);
    announce(`${count(fresh.length, "more picture")} shown`);
  }, more);
}

async function meet() {
  try {
    known = await api.gallery();
  } catch (problem) {
    complain(problem, meet);
    return;
  }
  introduce(known);
  filters.offer(known);
  if (current.record) headline(read(), current.record);
}

onChange((state) => {
  $("main").dataset.mode = state.query.length ? "asked" : "start";
  query.show(state.query);
  filters.show(state.where);
  search(state);
  if (state.lost) complain({ message: "Pictures that were given before the page was loaded anew are gone.", mend: "Give them again." });
  if (current.record) detail.show(state);
});

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  const writing = event.target instanceof Element && event.target.closest("input, select, textarea");
  if (event.key === "/" && !writing && !document.querySelector("dialog[open]")) {
    event.preventDefault();
    filters.focus();
  } else if (event.key === "Escape" && asking) {
    asking.abort();
  }
});
$("cancel").addEventListener("click", () => asking?.abort());
$("more").addEventListener("click", more);
$("home").addEventListener("click", () => scrollTo(0, 0));
watchIntake({ take, asked: () => read().query.length > 0, refuse: (words) => complain({ message: words, mend: "Drop or paste a picture file." }) });
history.scrollRestoration = "manual"; // results come later than the browser would scroll
meeting = meet();
tell();
