/** Conditions on the metadata: with which images of the collection the picture is compared. */

import { byId, element } from "./dom.js";
import { filters as texts } from "./texts.js";

const EMPTY = [
  ["empty", texts.empty],
  ["given", texts.given],
];
const DATE = [[">=", texts.from], ["<", texts.before], ...EMPTY];
const OPERATORS = {
  string: [["=", texts.is], ["<>", texts.isNot], ["contains", texts.contains], ...EMPTY],
  number: [["=", texts.is], ["<>", texts.isNot], [">=", texts.atLeast], ["<=", texts.atMost], ...EMPTY],
  boolean: [["true", texts.isTrue], ["false", texts.isFalse], EMPTY[0]],
  date: DATE,
  timestamp: DATE,
}; // by column type, as the server names it; columns of other types cannot be compared
const WITHOUT_VALUE = new Set(["true", "false", "empty", "given"]);

/**
 * One condition as SQL. Values are written as literals of their column's type, so that no value can become SQL.
 *
 * @returns {string|null} null if the value does not fit the column's type
 */
export function conditionSql({ name, type }, operator, value) {
  const column = `\`${name}\``;
  if (operator === "empty") return `${column} IS NULL`;
  if (operator === "given") return `${column} IS NOT NULL`;
  if (type === "boolean") return `${column} = ${operator}`;
  if (operator === "contains") return `${column} LIKE ${quoted(`%${value.replace(/[\\%_]/g, "\\$&")}%`)}`;
  const literal = sqlLiteral(type, value.trim());
  return literal === null ? null : `${column} ${operator} ${literal}`;
}

function sqlLiteral(type, value) {
  if (type === "string") return quoted(value);
  if (type === "number") return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value) ? value : null;
  return /^\d{4}-\d{2}-\d{2}$/.test(value) ? quoted(value) : null;
}

const quoted = (text) => `'${text.replaceAll("'", "''")}'`;

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
    this.columns = columns.filter(({ name, type }) => type in OPERATORS && !name.includes("`"));
    byId("filters").hidden = !filters;
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

  /** The fields whose value does not fit their column. */
  get wrong() {
    const rows = [...this.list.children].filter((row) => row.querySelector(".operator") && this.sql(row) === null);
    return rows.map((row) => row.querySelector("input"));
  }

  /** Whether each condition has a value that fits; if not, the person is shown the first that has none. */
  check() {
    const [first] = this.wrong;
    first?.setCustomValidity(texts.wrong);
    first?.reportValidity();
    return first === undefined;
  }

  add() {
    const options = this.columns.map(({ name }, number) => element("option", { value: number }, name));
    const column = element("select", { class: "column", "aria-label": texts.column }, ...options);
    const operator = element("select", { class: "operator", "aria-label": texts.comparison });
    const value = element("input", { "aria-label": texts.value });
    const row = element("li", {}, column, operator, value, this.removeButton());
    column.addEventListener("change", () => this.offerOperators(row));
    operator.addEventListener("change", () => this.offerValue(row));
    this.list.append(row);
    this.offerOperators(row);
    this.changed();
  }

  fixedRow(where) {
    return element(
      "li",
      {},
      element("code", {}, where),
      this.removeButton(() => {
        this.fixed = null;
      }),
    );
  }

  removeButton(forget = () => {}) {
    const remove = (event) => {
      forget();
      event.currentTarget.closest("li").remove();
      byId("add-condition").focus();
      this.changed();
    };
    return element(
      "button",
      { type: "button", class: "remove", "aria-label": texts.remove, onclick: remove },
      "×",
    );
  }

  offerOperators(row) {
    const { type } = this.column(row);
    const options = OPERATORS[type].map(([value, words]) => element("option", { value }, words));
    row.querySelector(".operator").replaceChildren(...options);
    this.offerValue(row);
  }

  offerValue(row) {
    const { type } = this.column(row);
    const input = row.querySelector("input");
    input.type = OPERATORS[type] === DATE ? "date" : "text";
    input.inputMode = type === "number" ? "decimal" : "text";
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
    byId("all-images").textContent = this.list.children.length ? texts.onlyWhere : texts.all;
    byId("add-condition").textContent = this.list.children.length ? texts.another : texts.first;
    this.onChange();
  }
}
