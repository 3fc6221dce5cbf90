/** The query and one image side by side, with heat maps and regions; below them the facts about that image. */

import { byId, element, name } from "./dom.js";
import { enlarge, show } from "./pictures.js";
import { Regions } from "./regions.js";
import { count, stage as texts } from "./texts.js";
import { longVerdict } from "./verdict.js";
import { margin, percent, scaleWords, shareMargin, valueText } from "./words.js";

const UNFOLDED = 6; // metadata columns that are shown at once

export class Stage {
  /**
   * @param {Api} api
   * @param {Object} on `query(cell, how)`, `train(cell, how)`: a region is pointed at; `scale(name)`: one is chosen;
   *     `use(imageId)`: an image is to be the next query
   */
  constructor(api, on) {
    Object.assign(this, { api, on, scale: null, chosen: null });
    this.query = pictureOf("query-figure", (cell, how) => this.on.query(cell, how), texts.regionsOfYours);
    this.train = pictureOf("train-figure", (cell, how) => this.on.train(cell, how), texts.regionsOfImage);
    byId("opacity").addEventListener("input", () => this.applyOpacity());
    byId("scales").addEventListener("keydown", (event) => this.pressTab(event));
    this.applyOpacity();
  }

  /** Offers a tab for each scale of an answer, by its name, and one for all together. */
  offerTabs(scales) {
    const tab = (scale, words) =>
      element(
        "button",
        {
          type: "button",
          role: "tab",
          "data-scale": scale ?? "",
          "aria-controls": "query-figure train-figure",
          onclick: () => this.choose(scale),
        },
        words,
      );
    const tabs = scales.map((scale) => tab(scale, scaleWords(scale)));
    byId("scales").replaceChildren(...(tabs.length > 1 ? [tab(null, texts.allScales), ...tabs] : []));
    byId("scales").hidden = tabs.length < 2;
    this.markTab();
  }

  /** Shows an answer's query. `select` puts an image next to it. */
  show(answer) {
    this.answer = answer;
    this.chosen = answer.images[0];
    this.scale = null;
    this.offerTabs(answer.scales);
    show(this.api, this.query.image, answer.query.url);
    const shape = `${answer.query.width} / ${answer.query.height}`;
    for (const { frame } of [this.query, this.train]) frame.style.aspectRatio = shape;
  }

  /** Puts another image next to the query. */
  select(rank) {
    this.chosen = this.answer.images[rank - 1];
    const { url, key } = this.chosen;
    show(this.api, this.train.image, url);
    this.train.image.alt = texts.image(rank, key);
    this.train.caption.replaceChildren(element("span", { class: "rank" }, String(rank)), " ", name(key));
    this.showHeat();
    this.describeChosen();
  }

  choose(scale) {
    this.scale = scale;
    this.markTab();
    this.showHeat();
    this.on.scale(scale);
  }

  /** Loads the maps of the two pictures on the stage only, since maps are large. */
  showHeat() {
    const scale = this.scale === null ? "" : `?scale=${encodeURIComponent(this.scale)}`;
    show(this.api, this.query.heat, this.chosen.query_map + scale);
    show(this.api, this.train.heat, this.chosen.train_map + scale);
  }

  applyOpacity() {
    document.documentElement.style.setProperty("--heat", byId("opacity").value / 100);
  }

  markTab() {
    for (const tab of byId("scales").children) {
      const chosen = tab.dataset.scale === (this.scale ?? "");
      tab.setAttribute("aria-selected", chosen);
      tab.tabIndex = chosen ? 0 : -1;
    }
  }

  pressTab(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const tabs = [...byId("scales").children];
    const next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
    event.preventDefault();
  }

  describeChosen() {
    const image = this.chosen;
    const use = element(
      "button",
      { type: "button", class: "button quiet", onclick: () => this.on.use(image.image_id) },
      texts.use,
    );
    const values = Object.entries(image.metadata).filter(([, value]) => value !== null);
    const more = values.slice(UNFOLDED);
    const folded = more.length
      ? [element("details", {}, element("summary", {}, texts.more(more.length)), factList(more))]
      : [];
    byId("chosen").replaceChildren(
      element("p", {}, longVerdict(image)),
      factList([...figuresOf(image, this.answer), ...values.slice(0, UNFOLDED)]),
      ...folded,
      use,
    );
  }
}

/** A list of names and values. */
export function factList(facts) {
  const rows = facts.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, name(valueText(value)))]);
  return element("dl", { class: "facts" }, ...rows);
}

function figuresOf(image, { images }) {
  const off = shareMargin(image);
  const together = images.filter(({ group }) => group === image.group).length;
  const facts = [[texts.share, percent(image.share) + (off === null ? "" : ` ${margin(off)}`)]];
  if (together > 1) facts.push([texts.copies(together), texts.together(percent(image.group_share))]);
  const scoreError = image.score_error > 0 ? ` ± ${(2 * image.score_error).toPrecision(2)}` : "";
  facts.push([texts.score, `${image.score.toPrecision(4)}${scoreError}`], [texts.id, count(image.image_id)]);
  return facts;
}

function pictureOf(id, onCell, label) {
  const figure = byId(id);
  const [image, heat] = figure.querySelectorAll("img");
  enlarge(image);
  const regions = new Regions(figure.querySelector(".regions"), onCell);
  regions.offerKeyboard(label);
  return { frame: figure.querySelector(".picture"), image, heat, regions, caption: figure.querySelector("figcaption") };
}
