// Limits on what may be found: conditions built from columns or written by hand, shown as chips.

import { $, icon, make } from "./dom.js";
import { example, operatorsOf } from "./where.js";

export class Filters {
  /** @param {{change: (where: string[]) => void}} told */
  constructor(told) {
    this.told = told;
    this.where = [];
    this.columns = [];
    $("where-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#add($("where").value.trim())) $("where").value = "";
    });
    $("build").addEventListener("click", () => this.#open($("builder").hidden));
    $("column").addEventListener("change", () => this.#operators());
    $("operator").addEventListener("change", () => this.#values());
    $("builder").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#build();
    });
    $("builder").addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.#open(false);
      $("build").focus();
    });
  }

  /** Offer the columns of the gallery. */
  offer({ columns, labels }) {
    const named = columns.map((column) => (column.name === "label" && labels.length ? { ...column, values: labels } : column));
    this.columns = [...named, { name: "id", kind: "text", values: null }];
    $("column").replaceChildren(...this.columns.map((column, i) => make("option", { value: String(i), textContent: column.name })));
    $("where").placeholder = `Filter, for instance ${example(this.columns)}`;
    this.#operators();
  }

  show(where) {
    this.where = where;
    $("chips").replaceChildren(...where.map((condition, i) => this.#chip(condition, i)));
  }

  focus() {
    $("where").focus();
    $("where").select();
  }

  #chip(condition, i) {
    const edit = make("button", { type: "button", className: "text", title: "Write it anew", textContent: condition });
    edit.addEventListener("click", () => {
      $("where").value = condition;
      this.told.change(this.where.toSpliced(i, 1));
      this.focus();
    });
    const remove = make("button", { type: "button", className: "remove", ariaLabel: `Take away the filter ${condition}` }, icon("x"));
    remove.addEventListener("click", () => {
      this.told.change(this.where.toSpliced(i, 1));
      const rest = $("chips").querySelectorAll(".remove");
      (rest[Math.min(i, rest.length - 1)] ?? $("where")).focus();
    });
    return make("li", { className: "chip" }, edit, remove);
  }

  #open(open) {
    $("builder").hidden = !open;
    $("build").ariaExpanded = String(open);
    if (open) $("column").focus();
  }

  get #column() {
    return this.columns[Number($("column").value)];
  }

  #operators() {
    const chosen = $("operator").selectedOptions[0]?.textContent;
    $("operator").replaceChildren(...operatorsOf(this.#column).map(({ word }) => make("option", { textContent: word, selected: word === chosen })));
    this.#values();
  }

  #operator() {
    return operatorsOf(this.#column)[$("operator").selectedIndex];
  }

  #values() {
    const { bare } = this.#operator();
    $("value-label").hidden = Boolean(bare);
    $("value").required = !bare;
    $("value").inputMode = this.#column.kind === "number" ? "decimal" : "text";
    $("values").replaceChildren(...(this.#column.values ?? []).map((value) => make("option", { value: String(value) })));
  }

  #build() {
    const condition = this.#operator().write(this.#column, $("value").value.trim());
    $("value").value = "";
    this.#open(false);
    this.#add(condition);
    $("build").focus();
  }

  #add(condition) {
    if (!condition) return false;
    if (!this.where.includes(condition)) this.told.change([...this.where, condition]);
    return true;
  }
}
