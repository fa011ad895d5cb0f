// What is being looked at, kept in the address: Back works, and a link to a search by item can be shared.
//
//   #id=church/1.jpg&box=10,20,300,400&where=city = 'Nice'&hit=church/7.jpg
//
// `id` (an item) and `file` (an upload) are the pictures of the query in their order; a `box` belongs to the one
// before it. Each `where` is one condition; all must hold. `hit` is shown large.

const uploads = new Map();
const listeners = [];
let made = 0;

/** Keep a picture for as long as the page lives; gives the name that stands for it in the address. */
export function keepUpload(blob) {
  // The time keeps names of a page that was closed from meaning another picture in this one.
  const key = `${Date.now().toString(36)}-${(made += 1)}`;
  uploads.set(key, { blob, url: URL.createObjectURL(blob), name: blob.name || "picture" });
  return key;
}

export const upload = (key) => uploads.get(key);

function readBox(text) {
  const edges = text.split(",").map(Number);
  return edges.length === 4 && edges.every(Number.isFinite) && edges[2] > edges[0] && edges[3] > edges[1] ? edges : null;
}

/** Read the state from the address; uploads that are gone with an earlier page are left out. */
export function read() {
  const state = { query: [], where: [], hit: null, lost: false };
  let last = null;
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    if (name === "id") {
      state.query.push((last = { id: value, box: null }));
    } else if (name === "file") {
      last = { file: value, box: null };
      if (uploads.has(value)) state.query.push(last);
      else state.lost = true;
    } else if (name === "box" && last) {
      last.box = readBox(value);
    } else if (name === "where" && value.trim()) {
      state.where.push(value);
    } else if (name === "hit") {
      state.hit = value;
    }
  }
  if (state.query.length === 0) state.hit = null;
  return state;
}

/** Write a state as an address; links made of it work like any other. */
export function href({ query, where, hit }) {
  const out = new URLSearchParams();
  for (const part of query) {
    out.append(part.id === undefined ? "file" : "id", part.id ?? part.file);
    if (part.box) out.append("box", part.box.join(","));
  }
  for (const condition of where) out.append("where", condition);
  if (hit) out.append("hit", hit);
  return `#${out}`;
}

/** Go somewhere: a step that Back takes back, or with `replace` none. */
export function go(changes, { replace = false, opened = false } = {}) {
  const target = href({ ...read(), ...changes });
  if (target === location.hash || (target === "#" && location.hash === "")) return;
  if (replace) history.replaceState(history.state, "", target);
  else history.pushState({ opened }, "", target);
  tell();
}

/** Tell what makes two states the same search. */
export const searchKey = ({ query, where }) => href({ query, where });

/** Join conditions to one. */
export function joined(where) {
  return where.length > 1 ? where.map((condition) => `(${condition})`).join(" and ") : (where[0] ?? "");
}

export function onChange(listener) {
  listeners.push(listener);
}

export function tell() {
  const state = read();
  for (const listener of listeners) listener(state);
}

// Links (pushes by the browser itself) and Back both arrive here.
addEventListener("popstate", tell);
