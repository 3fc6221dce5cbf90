/** Regions of a photograph: where they lie in the picture, and beside each the region of the indexed picture. */

import { byId, element, name } from "./dom.js";
import { followDrags, showPart } from "./part.js";
import { show } from "./pictures.js";
import { pieces as texts } from "./texts.js";
import { shortVerdict } from "./verdict.js";

const LIKELY = 3; // regions that are shown where none is strong

/** The regions that an answer is about: the strong ones, or the first few; none where regions were not looked for. */
export function leadingRegions({ regions }) {
  const strong = regions.filter((region) => region.strong);
  return strong.length ? strong : regions.slice(0, LIKELY);
}

export function showPieces(api, answer) {
  const section = byId("pieces");
  section.hidden = !answer.picture_size;
  if (section.hidden) return;
  const shown = leadingRegions(answer);
  const strong = shown.some((region) => region.strong);
  byId("pieces-words").textContent = strong
    ? texts.strong(shown[0].null_pictures)
    : shown.length
      ? texts.likely
      : texts.none;
  const address = `v1/results/${answer.id}`;
  const [width, height] = answer.picture_size;
  const whole = drawing(api, texts.boxes(shown.length), [0, 0, width, height], address, width, height);
  shown.forEach(({ box: [left, top, right, bottom] }, place) => {
    const frame = { x: left, y: top, width: right - left, height: bottom - top };
    const text = drawn("text", { x: left + width * 0.008, y: top + width * 0.035, "font-size": width * 0.035 });
    text.textContent = place + 1;
    whole.append(drawn("rect", { ...frame, class: "halo" }), drawn("rect", { ...frame, class: "box" }), text);
  });
  const part = drawn("rect", { class: "part" });
  showPart(part, answer.settings.region ?? null);
  whole.append(part);
  followDrags(whole, part, answer.picture_size);
  byId("pieces-whole").replaceChildren(whole);
  byId("pieces-list").replaceChildren(
    ...shown.map((region, place) => piece(api, region, place + 1, address, width, height)),
  );
}

function piece(api, region, number, address, width, height) {
  const [left, top, right, bottom] = region.box;
  const yours = drawing(api, texts.region(number), [left, top, right - left, bottom - top], address, width, height);
  const theirs = element("img", { alt: texts.source(region.key) });
  show(api, theirs, `${address}/crops/${number}.jpg`);
  const place = (box) => `(${box[0]}, ${box[1]})-(${box[2]}, ${box[3]})`;
  return element(
    "li",
    {},
    element(
      "div",
      {},
      element("p", {}, element("strong", {}, `${number}. `, name(region.key))),
      element("p", { class: region.strong ? "strong" : "weak" }, shortVerdict({ verdict: region })),
      element("p", { class: "small soft" }, texts.places(region.what, place(region.box), place(region.source_box))),
    ),
    element("figure", {}, yours, element("figcaption", { class: "small soft" }, texts.yours)),
    element("figure", {}, theirs, element("figcaption", { class: "small soft" }, texts.indexed)),
  );
}

/** A part of the picture, as a drawing that keeps the picture's own pixels for coordinates. */
function drawing(api, label, view, address, width, height) {
  const made = drawn("svg", { role: "img", "aria-label": label, viewBox: view.join(" ") });
  const picture = drawn("image", { width, height });
  show(api, picture, `${address}/picture.jpg`);
  made.append(picture);
  return made;
}

function drawn(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
