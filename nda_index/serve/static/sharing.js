/** Sharing an answer: its address, and files. */

import { announce, byId } from "./dom.js";
import { fileLink } from "./downloads.js";
import { files, answer as texts } from "./texts.js";

const FORMS = ["html", "png", "json", "parquet"];
const CONFIRMED = 2500; // milliseconds for which the button says that the address was copied

export class Sharing {
  constructor(api, onError) {
    Object.assign(this, { api, onError });
    byId("copy-link").addEventListener("click", () => this.copy());
  }

  /** Offers the files of an answer. */
  show({ id }) {
    const links = FORMS.map((form) => {
      const href = `v1/results/${encodeURIComponent(id)}?format=${form}`;
      const file = `nda-${id.slice(0, 12)}.${form}`;
      return fileLink(this.api, href, file, files[form], this.onError);
    });
    byId("exports").replaceChildren(texts.saveAs, ...links.flatMap((link) => [" ", link]));
  }

  async copy() {
    const button = byId("copy-link");
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = texts.copied;
      announce(texts.isCopied);
      setTimeout(() => {
        button.textContent = texts.copyLink;
      }, CONFIRMED);
    } catch {
      // Browsers give no clipboard to pages without https.
      window.prompt(texts.copyThis, location.href);
    }
  }
}
