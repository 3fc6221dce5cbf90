/** What was asked in this browser: each answer's id, headline and date. The service has the rest. */

import { announce, byId, element } from "./dom.js";
import { enlarge, showBlob } from "./pictures.js";
import { keep, recall } from "./storage.js";
import { earlier as texts } from "./texts.js";
import { dateTime } from "./words.js";

const KEY = `nda-index:questions:${new URL("./", document.baseURI).pathname}`; // services share a host by their paths
const MOST = 50;
const UNFOLDED = 6; // questions that are shown at once
const MARGIN = "200px"; // pictures so near to the screen are fetched

export class Earlier {
  /**
   * @param {Api} api
   * @param {Promise} ready is kept once the server is known, which may need a token
   */
  constructor(api, ready) {
    Object.assign(this, { api, ready, rows: new Map(), unfolded: false });
    this.nearby = new IntersectionObserver((entries) => this.fetchPictures(entries), { rootMargin: MARGIN });
    byId("forget").addEventListener("click", () => this.forget());
    byId("earlier-all").addEventListener("click", () => this.unfold());
  }

  /** Notes an answer that was just given, as the newest. */
  add({ id }, headline) {
    const others = stored().filter((one) => one.id !== id);
    store([{ id, headline, date: Date.now() }, ...others].slice(0, MOST));
  }

  /** Takes off an answer that the service has not any more; its row says so until the list is shown again. */
  drop(id) {
    store(stored().filter((one) => one.id !== id));
    const row = this.rows.get(id);
    if (!row || row.dataset.gone) return;
    row.dataset.gone = "";
    const link = row.querySelector("a");
    link.removeAttribute("href");
    link.tabIndex = -1; // it may have the focus
    row.querySelector(".date").textContent = texts.gone;
  }

  has(id) {
    return stored().some((one) => one.id === id);
  }

  /** Shows the list, newest first; hides it where nothing is kept. */
  show() {
    const kept = stored();
    this.nearby.disconnect();
    this.rows = new Map(kept.map((one) => [one.id, rowOf(one)]));
    byId("earlier-list").replaceChildren(...this.rows.values());
    for (const row of this.rows.values()) this.nearby.observe(row);
    byId("earlier-all").textContent = texts.all(kept.length);
    this.fold();
    byId("earlier").hidden = kept.length === 0;
  }

  hide() {
    byId("earlier").hidden = true;
  }

  fold() {
    const rows = [...this.rows.values()];
    rows.forEach((row, place) => {
      row.hidden = !this.unfolded && place >= UNFOLDED;
    });
    byId("earlier-all").hidden = rows.every((row) => !row.hidden);
  }

  unfold() {
    this.unfolded = true;
    this.fold();
    [...this.rows.values()][UNFOLDED].querySelector("a").focus();
  }

  forget() {
    store([]);
    this.unfolded = false;
    this.hide();
    byId("file").focus();
    announce(texts.forgotten);
  }

  async fetchPictures(entries) {
    await this.ready;
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting || !target.checkVisibility()) continue; // the list may have been shown anew, or an answer
      this.nearby.unobserve(target);
      this.fetchPicture(target);
    }
  }

  async fetchPicture(row) {
    const { id } = row.dataset;
    try {
      showBlob(row.querySelector("img"), await this.api.blob(`v1/results/${id}/query.png`));
    } catch (error) {
      if (error.status === 404) this.drop(id); // else its place stays empty
    }
  }
}

function rowOf({ id, headline, date }) {
  const picture = element("img", { class: "pixels", alt: "" });
  enlarge(picture);
  return element(
    "li",
    { "data-id": id },
    element(
      "a",
      { href: `#r=${encodeURIComponent(id)}` },
      element("span", { class: "picture" }, picture),
      element(
        "span",
        { class: "words" },
        element("span", { class: "key" }, headline),
        " ",
        element("span", { class: "soft small date" }, dateTime(date)),
      ),
    ),
  );
}

/** The kept questions, newest first. What somebody else wrote there is left out. */
function stored() {
  try {
    const kept = JSON.parse(recall("localStorage", KEY)) ?? [];
    return kept.filter(({ id, headline, date }) => /^[0-9a-f]+$/.test(id) && headline && Number.isFinite(date));
  } catch {
    return [];
  }
}

const store = (kept) => keep("localStorage", KEY, kept.length ? JSON.stringify(kept) : null);
