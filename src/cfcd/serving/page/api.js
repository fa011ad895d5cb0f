// What the page asks of the service; every answer is JSON, every problem has a message and a way to mend it.

export class Problem extends Error {
  constructor(message, mend = "", status = 0) {
    super(message);
    this.mend = mend;
    this.status = status;
  }

  /** Whether the same might go well in a moment. */
  get passing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

async function ask(path, { signal, body, json } = {}) {
  const options = { signal, headers: { Accept: "application/json" } };
  if (json !== undefined) {
    options.body = JSON.stringify(json);
    options.headers["Content-Type"] = "application/json";
  } else if (body !== undefined) {
    options.body = body;
  }
  if (options.body !== undefined) options.method = "POST";
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The service does not answer.", "See whether cfcd serve still runs, then try again.");
  }
  let value;
  try {
    value = await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(`The service answered ${answer.status} without any words.`, "Try again.", answer.status);
  }
  if (!answer.ok) {
    const { message, mend } = value.error ?? {};
    throw new Problem(message ?? `The service answered ${answer.status}.`, mend ?? "Try again.", answer.status);
  }
  return value;
}

function parameters(pairs) {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(pairs)) if (value !== "" && value !== null) out.set(name, value);
  return out.toString();
}

/** Write an id into a path as the service does: slashes stay, but where browsers would tidy the path up. */
function inPath(id) {
  const parts = id.toWellFormed().split("/");
  const plain = parts.every((part) => !["", ".", ".."].includes(part));
  return parts.map(encodeURIComponent).join(plain ? "/" : "%2F");
}

/** Where the picture of an item is: all of it, or the box it has in the gallery. */
export const pictureOf = (id, boxed) => `/v1/pictures/${inPath(id)}${boxed ? "?boxed=true" : ""}`;

export const gallery = (signal) => ask("/v1/gallery", { signal });

export const item = (id, signal) => ask(`/v1/items/${inPath(id)}`, { signal });

export const items = ({ where, offset, k }, signal) => ask(`/v1/items?${parameters({ where, offset, k })}`, { signal });

/** Search with the parts of one query: {id} for an item as it is, {blob, box} for a picture or a part of it. */
export function search(parts, { where, offset, k }, signal) {
  if (parts.every((part) => part.blob === undefined)) {
    const json = { ids: parts.map((part) => part.id), k, offset };
    if (where) json.where = where;
    return ask("/v1/search", { json, signal });
  }
  const body = new FormData();
  for (const part of parts) {
    if (part.blob === undefined) {
      body.append("id", part.id);
    } else {
      body.append("picture", part.blob, "picture");
      body.append("box", part.box ? part.box.join(",") : "");
    }
  }
  body.append("k", k);
  body.append("offset", offset);
  if (where) body.append("where", where);
  return ask("/v1/search/pictures", { body, signal });
}

/** Ask which regions of one part of the query and a hit agree. */
export function explain(part, hitId, signal) {
  const body = new FormData();
  body.append("hit", hitId);
  if (part.blob === undefined) {
    body.append("id", part.id);
  } else {
    body.append("picture", part.blob, "picture");
    if (part.box) body.append("box", part.box.join(","));
  }
  return ask("/v1/explain", { body, signal });
}

/** Fetch what an item shows, to search a part of it. */
export async function pictureBlob(id, signal) {
  const answer = await fetch(pictureOf(id, true), { signal });
  if (!answer.ok) throw new Problem("The picture of this item cannot be read any more.", "Search with another one.", answer.status);
  return answer.blob();
}
