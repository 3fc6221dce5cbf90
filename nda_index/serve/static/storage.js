/** What this browser keeps. Where it keeps nothing, as it is told to or is full, nothing is found and nothing fails. */

/** A kept text, or null. `area` is "localStorage" or "sessionStorage". */
export function recall(area, key) {
  try {
    return window[area].getItem(key);
  } catch {
    return null;
  }
}

/** Keeps a text; null takes it away. */
export function keep(area, key, text) {
  try {
    if (text === null) window[area].removeItem(key);
    else window[area].setItem(key, text);
  } catch {
    // As said above.
  }
}
