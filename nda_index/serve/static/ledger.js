/** The images of an answer, best first: one line each, near-duplicates under the first of them. */

import { byId, element, name } from "./dom.js";
import { enlarge, show } from "./pictures.js";
import { Regions } from "./regions.js";
import { ledger as texts, stage as stageTexts } from "./texts.js";
import { shortVerdict } from "./verdict.js";
import { margin, percent, shareMargin, valueText } from "./words.js";

const COLUMNS = 2; // metadata values that a line has room for; the stage shows all

const span = (kind, ...children) => element("span", { class: kind }, ...children);

export class Ledger {
  /**
   * @param {Api} api
   * @param {Object} on `select(rank)`; `use(imageId)`; `region(rank, cell, how)`: a region of an image is pointed at
   */
  constructor(api, on) {
    Object.assign(this, { api, on, list: byId("matches"), regions: new Map(), lines: new Map() });
    this.list.addEventListener("keydown", (event) => this.press(event));
  }

  show(answer) {
    this.regions.clear();
    this.lines.clear();
    const highest = Math.max(...answer.images.map((image) => image.share + (shareMargin(image) ?? 0)));
    const groups = new Map();
    for (const image of answer.images) {
      const line = this.line(image, highest, answer.query);
      if (groups.has(image.group)) groups.get(image.group).push(line);
      else groups.set(image.group, [line]);
    }
    this.list.replaceChildren(...[...groups.values()].map(([first, ...copies]) => grouped(first, copies, answer)));
    byId("ledger-note").textContent = noteOf(answer);
  }

  select(rank) {
    for (const [other, line] of this.lines) {
      if (other === rank) line.querySelector(".pick").setAttribute("aria-current", "true");
      else line.querySelector(".pick").removeAttribute("aria-current");
    }
  }

  line(image, highest, { width, height }) {
    const { rank, key, share } = image;
    const picture = element("img", { class: "pixels", alt: "", width, height }); // nothing moves when it has loaded
    enlarge(picture);
    show(this.api, picture, image.url);
    const overlay = element("span", { class: "regions", "aria-hidden": "true" });
    this.regions.set(rank, new Regions(overlay, (cell, how) => this.on.region(rank, cell, how)));
    const off = shareMargin(image);
    const pick = element(
      "button",
      { type: "button", class: "pick", onclick: () => this.on.select(rank) },
      span("rank", String(rank)),
      span("picture", picture, overlay),
      span("words", span("key", name(key)), factsOf(image), bar(share, off ?? 0, highest)),
      span("figure", span("share", percent(share)), span("soft small", off === null ? "" : margin(off))),
    );
    const useAsQuery = () => this.on.use(image.image_id);
    const label = stageTexts.useOf(rank);
    const use = element(
      "button",
      { type: "button", class: "text small use", "aria-label": label, onclick: useAsQuery },
      stageTexts.use,
    );
    const line = element("div", { class: "line", "data-rank": rank }, pick, use);
    this.lines.set(rank, line);
    return line;
  }

  /** Moves from line to line with the arrow keys up and down. */
  press(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.matches(".pick")) return;
    const picks = [...this.list.querySelectorAll(".pick")].filter((pick) => pick.checkVisibility());
    picks[picks.indexOf(event.target) + step]?.focus();
    event.preventDefault();
  }
}

function factsOf(image) {
  const verdict = span(image.verdict?.strong ? "strong" : "weak", shortVerdict(image));
  const values = Object.values(image.metadata)
    .filter((value) => value !== null)
    .slice(0, COLUMNS);
  const parts = [...(image.verdict ? [verdict] : []), ...values.map((value) => name(valueText(value)))];
  return span("soft small", ...parts.flatMap((part, number) => (number ? [" · ", part] : [part])));
}

/** A share as a bar, relative to the longest, with a whisker for what it may be off by. */
function bar(share, off, highest) {
  const place = (value) => `${(100 * Math.max(0, value)) / highest}%`;
  const filled = span("filled");
  filled.style.width = place(share);
  const whisker = span("whisker");
  whisker.style.left = place(share - off);
  whisker.style.width = place(share + off - Math.max(0, share - off));
  return element("span", { class: "share-bar", "aria-hidden": "true" }, filled, ...(off > 0 ? [whisker] : []));
}

function grouped(first, copies, { images }) {
  if (!copies.length) return element("li", {}, first);
  const { group_share: together } = images[first.dataset.rank - 1];
  const summary = element(
    "summary",
    { class: "small" },
    texts.copies(copies.length, percent(together)),
  );
  return element("li", {}, first, element("details", { class: "copies" }, summary, ...copies));
}

function noteOf({ images, collection }) {
  const shown = images.reduce((sum, { share }) => sum + share, 0);
  const others = collection - images.length;
  const sentences = [texts.bars];
  if (images.some((image) => shareMargin(image) !== null)) sentences.push(texts.margins);
  if (others > 0) sentences.push(texts.rest(others, percent(Math.max(0, 1 - shown))));
  return sentences.join(" ");
}
