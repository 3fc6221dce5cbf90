/** Sharing an answer: its address, and files. */

import { announce, byId } from "./dom.js";
import { fileLink } from "./downloads.js";

const FORMS = { html: "Report", png: "Picture", json: "JSON", parquet: "Parquet" };
const COPY = "Copy link";
const CONFIRMED = 2500; // milliseconds for which the button says that the address was copied

export class Sharing {
  constructor(api, onError) {
    Object.assign(this, { api, onError });
    byId("copy-link").addEventListener("click", () => this.copy());
  }

  /** Offers the files of an answer. */
  show({ id }) {
    const links = Object.entries(FORMS).map(([form, words]) => {
      const href = `v1/results/${encodeURIComponent(id)}?format=${form}`;
      const file = `nda-${id.slice(0, 12)}.${form}`;
      return fileLink(this.api, href, file, words, this.onError);
    });
    byId("exports").replaceChildren("Save as", ...links.flatMap((link) => [" ", link]));
  }

  async copy() {
    const button = byId("copy-link");
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = "Copied";
      announce("The link is copied.");
      setTimeout(() => {
        button.textContent = COPY;
      }, CONFIRMED);
    } catch {
      // Browsers give no clipboard to pages without https.
      window.prompt("Copy this address:", location.href);
    }
  }
}
