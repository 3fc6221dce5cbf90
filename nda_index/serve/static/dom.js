/** Making and finding elements. No text is ever parsed as HTML: names and metadata come from other people's files. */

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/**
 * A new element.
 *
 * @param {string} name of the element
 * @param {Object} attributes "on..." values are listeners; false, null and undefined leave an attribute out
 * @param {...(Node|string)} children
 */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null && value !== undefined)
      made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** A file's name or a value: its direction does not affect the text around it, and it may break after separators. */
export function name(text) {
  const parts = text.split(/(?<=[/_.-])/).flatMap((part, number) => (number ? [element("wbr"), part] : [part]));
  return element("bdi", {}, ...parts);
}

let lastText = "";

/** Has a screen reader say a text. The same text twice in a row is said twice. */
export function announce(text) {
  lastText = text === lastText ? `${text}\u00a0` : text;
  byId("live").textContent = lastText;
}
