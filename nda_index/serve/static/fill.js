/** Puts the texts into index.html, before anything else is done. style.css hides a page that has no language yet. */

import * as texts from "./texts.js";

const ATTRIBUTES = ["alt", "aria-label", "placeholder", "title"];

/** The text of a place: "start.title". */
function textAt(place) {
  const [group, name] = place.split(".");
  return texts[group][name];
}

for (const place of document.querySelectorAll("[data-text]")) place.textContent = textAt(place.dataset.text);
for (const attribute of ATTRIBUTES) {
  for (const place of document.querySelectorAll(`[data-text-${attribute}]`)) {
    place.setAttribute(attribute, textAt(place.getAttribute(`data-text-${attribute}`)));
  }
}
document.title = texts.page.title;
document.documentElement.lang = texts.language;
