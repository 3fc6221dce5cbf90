/** Lights regions that belong together: one of the query and those of the images, or the other way round. */

import { announce } from "./dom.js";
import { stage as texts } from "./texts.js";
import { percent } from "./words.js";

const TOUCH = matchMedia("(hover: none)").matches;
const NAMED = 3; // images that are named for a region

export class Spotlight {
  /**
   * @param {Links} links
   * @param {Element} readout shows in words what is lit
   * @param {Object} pictures `query` (Regions), `train(rank)` (all Regions that show this image), `chosen()` (a rank),
   *     `all` (ranks)
   */
  constructor(links, readout, pictures) {
    Object.assign(this, { links, readout, pictures, place: null });
    this.clear();
  }

  /** Lights what belongs to the region of the query that is pointed at; null: none. */
  fromQuery(cell, how) {
    this.move(cell === null ? null : { cell }, how);
  }

  /** Lights what belongs to the region of an image that is pointed at; null: none. */
  fromTrain(rank, cell, how) {
    this.move(cell === null ? null : { cell, rank }, how);
  }

  clear() {
    this.move(null, { keyboard: false });
  }

  /** Draws again, when links have arrived or another image or scale was chosen. */
  draw() {
    this.darken();
    if (this.place === null) this.readout.textContent = TOUCH ? texts.touchHint : texts.hint;
    else if (this.links.failed) this.readout.textContent = texts.failed(this.links.failed.message);
    else if (this.place.rank === undefined) this.drawFromQuery();
    else this.drawFromTrain();
  }

  move(place, { keyboard }) {
    this.place = place;
    this.announced = !keyboard;
    if (place !== null) this.links.load(place.rank ?? this.pictures.chosen());
    this.draw();
  }

  darken() {
    this.light(this.pictures.query, null);
    for (const rank of this.pictures.all) {
      for (const regions of this.pictures.train(rank)) this.light(regions, null);
    }
  }

  drawFromQuery() {
    const { cell } = this.place;
    this.pictures.query.mark(cell);
    const loaded = this.pictures.all
      .filter((rank) => this.links.of(rank))
      .map((rank) => {
        const weights = this.links.toTrain(rank, cell);
        return { rank, weights, highest: Math.max(...weights), sum: weights.reduce((a, b) => a + b) };
      });
    const highest = Math.max(0, ...loaded.map((one) => one.highest));
    for (const { rank, weights } of loaded) {
      for (const regions of this.pictures.train(rank)) regions.light(weights, highest);
    }
    const complete = loaded.length === this.pictures.all.length;
    this.say(complete ? this.queryWords(loaded) : texts.searching, complete);
  }

  /** In words: the shares of the images in one region, among those shown. */
  queryWords(loaded) {
    const sum = loaded.reduce((total, one) => total + one.sum, 0);
    if (sum === 0) return texts.nothing;
    const best = loaded
      .filter((one) => one.sum / sum >= 0.01)
      .sort((a, b) => b.sum - a.sum)
      .slice(0, NAMED);
    const parts = best.map((one) => texts.shareOf(percent(one.sum / sum), one.rank));
    return texts.shares(parts.join(", "));
  }

  drawFromTrain() {
    const { cell, rank } = this.place;
    for (const regions of this.pictures.train(rank)) regions.mark(cell);
    if (!this.links.of(rank)) {
      this.say(texts.searching, false);
      return;
    }
    const weights = this.links.toQuery(rank, cell);
    const highest = Math.max(...weights);
    this.pictures.query.light(weights, highest);
    const lit = weights.filter((weight) => weight > highest / 4).length;
    this.say(highest > 0 ? texts.foundIn(rank, lit) : texts.foundNowhere(rank), true);
  }

  /** Shows a text. A screen reader says it once, when it is complete, and only for regions chosen by keyboard. */
  say(words, complete) {
    this.readout.textContent = words;
    if (this.announced || !complete) return;
    this.announced = true;
    announce(words);
  }

  light(regions, weights) {
    regions.light(weights, 0);
    regions.mark(null);
  }
}
