// How numbers and findings are said.

export const VERDICTS = {
  match: { icon: "match", word: "Match", heading: "Matches" },
  maybe: { icon: "maybe", word: "Maybe", heading: "Maybe the same" },
  none: { icon: "none", word: "No match", heading: "Nearest others, not matches" },
};

export const number = (value) => value.toLocaleString("en");

export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

export const score = (value) => value.toFixed(3);

const percent = (part) => `${Math.round(100 * part)} %`;

/** Name an item as people know it. */
export const title = (item) => item.label || item.id;

/** Say what is known of an item in a line: its further columns that are filled. */
export function metadata(item) {
  return Object.values(item.extra ?? {}).filter((value) => value !== null && value !== "").join(" · ");
}

/** Say what a search found: a headline, the verdict it stands for, and a line below it. */
export function findings(answer, hits, { items, several, filtered }) {
  if (hits.length === 0) {
    return filtered
      ? { verdict: null, headline: "Nothing fits the filters", subline: "Take a filter away to see more." }
      : { verdict: null, headline: "The gallery is empty", subline: "" };
  }
  const took = answer.milliseconds ?? {};
  const time = Math.round((took.read ?? 0) + (took.encode ?? 0) + (took.search ?? 0));
  const where = `${filtered ? "Within the filters, of " : "Of "}${count(items, "picture")}, in ${number(time)} ms.`;
  const tally = (verdict) => hits.filter((hit) => hit.verdict === verdict).length;
  // Hits come by score, so that a verdict ends where another begins.
  const rest = answer.more && hits.at(-1).verdict === answer.verdict ? " or more" : "";
  if (answer.verdict === "match") {
    return { verdict: "match", headline: `${count(tally("match"), "match", "matches")}${rest}`, subline: where };
  }
  if (answer.verdict === "maybe") {
    const headline = `No sure match, ${number(tally("maybe"))}${rest} possible`;
    return { verdict: "maybe", headline, subline: where };
  }
  if (answer.verdict === "none") {
    const subline = `None of ${filtered ? "those that fit the filters" : count(items, "picture")} shows this object, `
      + "as far as scores can tell. The nearest ones follow.";
    return { verdict: "none", headline: "No match", subline };
  }
  const why = several && answer.calibrated
    ? "Verdicts were measured on single pictures, so a query made of several has none."
    : "This gallery is not calibrated: scores put pictures in order, but do not say where matches end.";
  return { verdict: null, headline: "The most alike pictures", subline: `${where} ${why}` };
}

/** Say what can be searched with before anything is searched. */
export function invitation(total, filtered) {
  if (total === 0 && filtered) return { verdict: null, headline: "Nothing fits the filters", subline: "Take a filter away to see more." };
  if (total === 0) return { verdict: null, headline: "The gallery is empty", subline: "" };
  if (filtered) return { verdict: null, headline: count(total, "picture"), subline: "Choose one to search with it." };
  return { verdict: null, headline: "Or start with one of these", subline: "" };
}

/** Mark the fewest cells that have half of the score; null where regions for and against nearly cancel out. */
export function strongest({ shares, decided }) {
  if (!decided) return null;
  const cells = shares.flat();
  const total = cells.reduce((sum, share) => sum + share, 0);
  const order = cells.map((share, i) => [share, i]).sort(([a, i], [b, j]) => b - a || i - j);
  const marked = new Set();
  let sum = 0;
  for (const [share, i] of order) {
    marked.add(i);
    sum += share;
    if (sum >= total / 2) break;
  }
  return shares.map((row, y) => row.map((_, x) => marked.has(y * row.length + x)));
}

/** Say how little of a picture makes up half of the score. */
export function sayRegions(marked, boxed) {
  if (!marked) return "Regions for and against a match nearly cancel out.";
  const cells = marked.flat();
  const part = cells.filter(Boolean).length / cells.length;
  return `Half of the score comes from the outlined ${percent(part)} of the ${boxed ? "part" : "picture"}.`;
}

/** Say how many places were found alike. */
export function sayMatches(matches, most) {
  if (matches.length === 0) return "No place in one picture is most like a place in the other.";
  const distinct = matches.filter((match) => match.distinct).length;
  const pairs = matches.length === 1 ? "1 pair of places is" : `${number(matches.length)} pairs of places are`;
  const drawn = matches.length > most ? ` ${most} are drawn.` : "";
  return `${pairs} each other's most alike, ${distinct ? `${number(distinct)} of them distinctly (bold)` : "none distinctly"}.${drawn}`;
}
