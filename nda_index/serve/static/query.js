/** How a person gives a picture: drop, choose, paste, or an example of the collection. */

import { byId, element } from "./dom.js";
import { enlarge, show, showBlob } from "./pictures.js";
import { count, fileSize } from "./words.js";

export class QueryInput {
  /**
   * @param {Api} api
   * @param {(source: Object) => void} onSource is given `{blob}` or `{imageId}`
   * @param {(files: File[]) => void} onDrop is given what is dropped
   * @param {(title: string, words: string) => void} onRefusal
   */
  constructor(api, onSource, onDrop, onRefusal) {
    Object.assign(this, { api, onSource, onDrop, onRefusal, largest: Infinity });
    this.preview = byId("preview");
    enlarge(this.preview);
    this.preview.addEventListener("error", () => this.clear()); // a broken file; the server says what is wrong with it
    this.listenToFiles();
    this.listenToDrops();
    document.addEventListener("paste", (event) => this.paste(event));
  }

  /** Takes over which files the server accepts, and its examples. */
  describe({ limits, examples, shape }) {
    this.largest = limits.bytes;
    byId("limits").textContent = `${limits.formats.join(", ")}, up to ${fileSize(limits.bytes, Math.floor)}`;
    const buttons = examples.map((imageId) => {
      const image = element("img", { alt: "", class: "pixels", width: shape[2], height: shape[1] });
      enlarge(image);
      show(this.api, image, `v1/images/${imageId}`);
      const ask = () => this.onSource({ imageId });
      return element(
        "li",
        {},
        element("button", { type: "button", "aria-label": `Ask about image ${count(imageId)}`, onclick: ask }, image),
      );
    });
    byId("examples")
      .querySelector("ul")
      .replaceChildren(...buttons);
    byId("examples").hidden = examples.length === 0;
  }

  /** Shows the picture of the question. */
  showSource(source) {
    if (source.blob) showBlob(this.preview, source.blob);
    else show(this.api, this.preview, `v1/images/${source.imageId}`);
    this.preview.hidden = false;
  }

  clear() {
    this.preview.hidden = true;
  }

  give(file) {
    if (file.size > this.largest) {
      const [has, takes] = [fileSize(file.size, Math.ceil), fileSize(this.largest, Math.floor)];
      this.onRefusal(
        "This file is too large",
        `It has ${has}; the server takes up to ${takes}. Save the picture smaller and try again.`,
      );
    } else {
      this.onSource({ blob: file });
    }
  }

  listenToFiles() {
    const input = byId("file");
    byId("another").addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      const [file] = input.files;
      if (file) this.give(file);
      input.value = ""; // so that the same file can be chosen again
    });
  }

  /** Takes drops anywhere on the page: otherwise the browser would open the file instead of the page. */
  listenToDrops() {
    const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
    const mark = (over) => document.body.classList.toggle("dropping", over);
    document.addEventListener("dragover", (event) => {
      if (!carriesFile(event)) return;
      event.preventDefault();
      mark(true);
    });
    document.addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) mark(false); // it has left the window
    });
    document.addEventListener("drop", (event) => {
      if (!carriesFile(event)) return;
      event.preventDefault();
      mark(false);
      const files = [...event.dataTransfer.files];
      if (files.length) this.onDrop(files);
    });
  }

  paste(event) {
    const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    if (!file) return; // text into a field
    event.preventDefault();
    this.give(file);
  }
}
