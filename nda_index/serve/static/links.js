/** Which regions of the query belong to which regions of each image of an answer. */

import { SIDE } from "./regions.js";

export class Links {
  /**
   * @param {Api} api
   * @param {Object} answer
   * @param {() => void} onLoad is called when an image's links have arrived
   */
  constructor(api, answer, onLoad) {
    Object.assign(this, { api, answer, onLoad, loaded: new Map(), order: [], loading: false, failed: null });
    this.scale = null;
    this.stopped = new AbortController();
  }

  /** Loads the links of all images, those of one image first. Links that are loaded are not requested again. */
  async load(firstRank) {
    const ranks = this.answer.images.map(({ rank }) => rank);
    const missing = ranks.filter((rank) => !this.loaded.has(this.place(rank)));
    this.order = missing.sort((a, b) => (b === firstRank) - (a === firstRank));
    if (this.loading) return; // the loop below takes up the new order
    this.loading = true;
    try {
      while (this.order.length) await this.loadOne(this.order.shift());
      this.failed = null;
    } catch (error) {
      if (error.name !== "AbortError") this.failed = error;
      this.order = [];
    }
    this.loading = false;
    this.onLoad();
  }

  /** Stops loading. */
  stop() {
    this.stopped.abort();
  }

  /** The links of an image: `[query region, image region, weight]` each; undefined before they are loaded. */
  of(rank) {
    return this.loaded.get(this.place(rank));
  }

  /** How much each region of an image gives to a region of the query. */
  toTrain(rank, queryCell) {
    return sumOver(this.of(rank), 0, queryCell, 1);
  }

  /** How much each region of the query gets from a region of an image. */
  toQuery(rank, trainCell) {
    return sumOver(this.of(rank), 1, trainCell, 0);
  }

  async loadOne(rank) {
    const place = this.place(rank);
    if (this.loaded.has(place)) return;
    const { links } = this.answer.images[rank - 1];
    const path = this.scale === null ? links : `${links}?scale=${encodeURIComponent(this.scale)}`;
    const { pairs } = await this.api.json(path, { signal: this.stopped.signal });
    this.loaded.set(place, pairs);
    this.onLoad();
  }

  place(rank) {
    return `${this.scale ?? ""}/${rank}`;
  }
}

function sumOver(pairs, side, cell, other) {
  const weights = new Float64Array(SIDE * SIDE);
  for (const pair of pairs ?? []) {
    if (pair[side] === cell) weights[pair[other]] += pair[2];
  }
  return weights;
}
