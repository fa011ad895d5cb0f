// Conditions on columns as text, the way `cfcd search --where` reads them.

const PLAIN = /^[\p{L}_][\p{L}\p{N}_.]*$/u;
const KEYWORDS = new Set(["and", "or", "not", "in", "like", "is", "null", "true", "false", "escape"]);
const NUMBER = /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i;

const name = (column) => (PLAIN.test(column) && !KEYWORDS.has(column.toLowerCase()) ? column : `"${column.replaceAll('"', '""')}"`);

const text = (value) => `'${value.replaceAll("'", "''")}'`;

/** A number stays one only where it is meant as one: '007' in a column of texts is a text. */
const same = (value, column) => (column.kind === "number" && NUMBER.test(value) ? value : text(value));

const ordered = (value) => (NUMBER.test(value) ? value : text(value));

function like(value, before, after) {
  const escaped = /[%_\\]/.test(value);
  const pattern = escaped ? value.replace(/[%_\\]/g, "\\$&") : value;
  return `${text(before + pattern + after)}${escaped ? " escape '\\'" : ""}`;
}

export const OPERATORS = [
  { word: "is", write: (column, value) => `${name(column.name)} = ${same(value, column)}` },
  { word: "is not", write: (column, value) => `${name(column.name)} != ${same(value, column)}` },
  { word: "contains", kinds: ["text"], write: (column, value) => `${name(column.name)} like ${like(value, "%", "%")}` },
  { word: "starts with", kinds: ["text"], write: (column, value) => `${name(column.name)} like ${like(value, "", "%")}` },
  { word: "is less than", write: (column, value) => `${name(column.name)} < ${ordered(value)}` },
  { word: "is at most", write: (column, value) => `${name(column.name)} <= ${ordered(value)}` },
  { word: "is more than", write: (column, value) => `${name(column.name)} > ${ordered(value)}` },
  { word: "is at least", write: (column, value) => `${name(column.name)} >= ${ordered(value)}` },
  { word: "is empty", bare: true, write: (column) => `${name(column.name)} is null` },
  { word: "is not empty", bare: true, write: (column) => `${name(column.name)} is not null` },
];

/** List the operators that make sense for a column. */
export const operatorsOf = (column) => OPERATORS.filter(({ kinds }) => !kinds || kinds.includes(column.kind));

/** Give a condition that shows people how theirs could look, made of a column they have. */
export function example(columns) {
  const short = ({ values }) => values?.length > 1 && String(values[0]).length < 20;
  // A column of their own shows more of what is possible than the label.
  const column = columns.find((one) => short(one) && !["label", "split"].includes(one.name)) ?? columns.find(short);
  return column ? OPERATORS[0].write(column, String(column.values[0])) : "label = 'church'";
}
