/** Conditions on the metadata: which images of the collection take part. */

import { byId, element } from "./dom.js";

const OPERATORS = {
  text: [["=", "is"], ["<>", "is not"], ["contains", "contains"], ["empty", "is empty"], ["given", "is not empty"]],
  number: [["=", "is"], ["<>", "is not"], [">=", "is at least"], ["<=", "is at most"], ["empty", "is empty"], ["given", "is not empty"]],
  truth: [["true", "is true"], ["false", "is false"], ["empty", "is empty"]],
  date: [[">=", "is on or after"], ["<", "is before"], ["empty", "is empty"], ["given", "is not empty"]],
};
const WITHOUT_VALUE = new Set(["true", "false", "empty", "given"]);

/** How a column is compared, from its Arrow type; null if the page cannot. */
export function columnKind(type) {
  if (/^(large_)?string$|^(large_)?utf8$|^dictionary</.test(type)) return "text";
  if (/^u?int\d+$/.test(type)) return "number";
  if (/^(half_?|)float(16|32|64)?$|^double$/.test(type)) return "number";
  if (type === "bool") return "truth";
  if (/^(date|timestamp)/.test(type)) return "date";
  return null;
}

/**
 * One condition as SQL. Values are written as literals of their column's kind, so that no value can become SQL.
 *
 * @returns {string} or null if the value is none of the column's kind
 */
export function conditionSql({ name, type }, operator, value) {
  const kind = columnKind(type);
  const column = `\`${name}\``;
  if (operator === "empty") return `${column} IS NULL`;
  if (operator === "given") return `${column} IS NOT NULL`;
  if (kind === "truth") return `${column} = ${operator}`;
  const literal = sqlLiteral(kind, type, value);
  if (literal === null) return null;
  return operator === "contains" ? `contains(lower(${column}), lower(${literal}))` : `${column} ${operator} ${literal}`;
}

function sqlLiteral(kind, type, value) {
  if (kind === "text") return `'${value.replaceAll("'", "''")}'`;
  if (kind === "date") {
    if (!/^\d{4}-\d{2}-\d{2}$/.test(value)) return null;
    return type.startsWith("date") ? `date '${value}'` : `timestamp '${value} 00:00:00'`;
  }
  const number = value.trim();
  if (type.includes("int")) return /^-?\d{1,19}$/.test(number) ? number : null;
  return number !== "" && Number.isFinite(Number(number)) ? String(Number(number)) : null;
}

export class Filters {
  constructor(onChange) {
    this.onChange = onChange;
    this.fixed = null; // a condition of an opened answer, kept as it was written
    this.list = byId("conditions");
    byId("add-condition").addEventListener("click", () => {
      this.add();
      this.list.lastElementChild.querySelector("select").focus();
    });
    byId("filters").addEventListener("input", () => this.changed());
  }

  /** Offers the collection's columns. A name with a backtick cannot be written in SQL. */
  describe({ columns, filters }) {
    const known = columns.some(({ name }) => name === "key") ? columns : [{ name: "key", type: "string" }, ...columns];
    this.columns = known.filter(({ name, type }) => columnKind(type) && !name.includes("`"));
    byId("filters").hidden = filters === false;
  }

  /** The conditions as one SQL expression; null if there are none. */
  get where() {
    const parts = [...this.list.children].map((row) => this.sql(row)).filter((sql) => sql !== null);
    if (this.fixed !== null) parts.unshift(`(${this.fixed})`);
    if (parts.length === 1) return this.fixed ?? parts[0];
    return parts.length ? parts.join(" AND ") : null;
  }

  /** Takes over the condition of an answer. */
  restore(where) {
    if (where === this.where) return;
    this.list.replaceChildren();
    this.fixed = where;
    if (where !== null) this.list.append(this.fixedRow(where));
    this.changed();
  }

  /** Whether each condition has a value; the first that has none is shown to the person. */
  check() {
    for (const row of this.list.children) {
      const input = row.querySelector("input");
      if (input?.hidden !== false) continue;
      input.setCustomValidity(this.sql(row) === null ? "Give a value of the kind that this column holds." : "");
      if (!input.reportValidity()) return false;
    }
    return true;
  }

  add() {
    const options = this.columns.map(({ name }, number) => element("option", { value: number }, name));
    const column = element("select", { class: "column", "aria-label": "Column" }, ...options);
    const operator = element("select", { class: "operator", "aria-label": "Comparison" });
    const value = element("input", { "aria-label": "Value", required: true });
    const row = element("li", {}, column, operator, value, this.removeButton());
    column.addEventListener("change", () => this.offerOperators(row));
    operator.addEventListener("change", () => this.offerValue(row));
    this.list.append(row);
    this.offerOperators(row);
    this.changed();
  }

  fixedRow(where) {
    return element("li", {}, element("code", {}, where), this.removeButton(() => { this.fixed = null; }));
  }

  removeButton(forget = () => {}) {
    const remove = (event) => {
      forget();
      event.currentTarget.closest("li").remove();
      byId("add-condition").focus();
      this.changed();
    };
    return element("button", { type: "button", class: "text", "aria-label": "Remove this condition", onclick: remove }, "Remove");
  }

  offerOperators(row) {
    const { type } = this.column(row);
    const options = OPERATORS[columnKind(type)].map(([value, words]) => element("option", { value }, words));
    row.querySelector(".operator").replaceChildren(...options);
    this.offerValue(row);
  }

  offerValue(row) {
    const kind = columnKind(this.column(row).type);
    const input = row.querySelector("input");
    input.type = kind === "date" ? "date" : "text";
    input.inputMode = kind === "number" ? "decimal" : "text";
    input.hidden = WITHOUT_VALUE.has(row.querySelector(".operator").value);
    input.setCustomValidity("");
    this.changed();
  }

  column(row) {
    return this.columns[row.querySelector(".column").value];
  }

  sql(row) {
    const operator = row.querySelector(".operator");
    if (!operator) return null; // the fixed condition
    const value = row.querySelector("input").value;
    if (value === "" && !WITHOUT_VALUE.has(operator.value)) return null;
    return conditionSql(this.column(row), operator.value, value);
  }

  changed() {
    for (const input of this.list.querySelectorAll("input")) input.setCustomValidity("");
    byId("all-images").textContent = this.list.children.length ? "only images where" : "all images";
    byId("add-condition").textContent = this.list.children.length ? "Another condition" : "Only some images …";
    this.onChange();
  }
}
