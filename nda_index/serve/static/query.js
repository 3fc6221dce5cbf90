/** How a person gives a picture: drop, choose, paste, or an example of the collection. */

import { isArchive } from "./api.js";
import { byId, element } from "./dom.js";
import { enlarge, show, showBlob } from "./pictures.js";
import { start as texts } from "./texts.js";
import { fileSize } from "./words.js";

export class QueryInput {
  /**
   * @param {Api} api
   * @param {(source: Object) => void} onSource is given `{blob}` or `{imageId}`
   * @param {(files: File[]) => void} onFiles is given what is dropped or pasted
   * @param {(title: string, words: string) => void} onRefusal
   */
  constructor(api, onSource, onFiles, onRefusal) {
    Object.assign(this, { api, onSource, onFiles, onRefusal, largest: Infinity });
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
    byId("limits").textContent = texts.limits(limits.formats.join(", "), fileSize(limits.bytes, Math.floor));
    const buttons = examples.map((imageId) => {
      const image = element("img", { alt: "", class: "pixels", width: shape[2], height: shape[1] });
      enlarge(image);
      show(this.api, image, `v1/images/${imageId}`);
      const ask = () => this.onSource({ imageId });
      return element(
        "li",
        {},
        element("button", { type: "button", "aria-label": texts.example(imageId), onclick: ask }, image),
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
      const words = texts.tooLargeWords(fileSize(file.size, Math.ceil), fileSize(this.largest, Math.floor));
      this.onRefusal(texts.tooLarge, words);
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
      if (files.length) this.onFiles(files);
    });
  }

  paste(event) {
    const given = [...(event.clipboardData?.files ?? [])];
    const files = given.filter((file) => file.type.startsWith("image/") || isArchive(file));
    if (!files.length) return; // text into a field
    event.preventDefault();
    this.onFiles(files);
  }
}
