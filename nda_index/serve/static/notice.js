/** The place where the page says what it is doing and what went wrong. */

import { announce, byId, element } from "./dom.js";
import { plural } from "./words.js";

/** Titles of refusals, by their code. The server's own sentence follows. */
const TITLES = {
  connection: "No connection",
  image: "This file cannot be read as a picture",
  bytes: "This is too large",
  pictures: "This is not a number of pictures that the server takes",
  archive: "This archive cannot be read",
  jobs: "The server has enough to do",
  pixels: "This picture is too large",
  option: "These settings are not accepted",
  where: "This condition is not understood",
  question: "This question cannot be answered",
  result: "This answer is no longer kept",
  deadline: "The server did not answer in time",
};

export class Notice {
  constructor() {
    this.box = byId("notice");
  }

  /**
   * Says what is being done, and since when.
   *
   * @returns {Object} `busy(seconds, error)`, to be called each second while the page waits to try again, and `end()`
   */
  work(words, onCancel) {
    const text = element("span", {}, words);
    const clock = element("span", { class: "soft figure", "aria-hidden": "true" });
    const cancel = element("button", { type: "button", class: "text", onclick: onCancel }, "Cancel");
    this.set("working", element("div", { class: "activity" }), element("p", {}, text, " ", clock), cancel);
    announce(words);
    const started = performance.now();
    let waiting = false;
    const timer = setInterval(() => {
      if (!waiting) clock.textContent = `${Math.round((performance.now() - started) / 1000)} s`;
    }, 1000);
    return {
      busy: (seconds, error) => {
        const reason = error.status === 429 ? "The server is busy." : "The server is still starting.";
        text.textContent = seconds > 0 ? `${reason} Trying again in ${plural(seconds, "second")}.` : words;
        clock.textContent = "";
        if (!waiting) announce(text.textContent);
        waiting = seconds > 0;
      },
      end: () => {
        clearInterval(timer);
        this.clear();
      },
    };
  }

  /** Says in plain words what went wrong. */
  error(error, onRetry) {
    const retry = error.mayBeRetried ? onRetry : null;
    this.refuse(TITLES[error.code] ?? "Something went wrong", asSentence(error.message), retry);
  }

  refuse(title, words, onRetry) {
    const again =
      onRetry && element("button", { type: "button", class: "button quiet", onclick: onRetry }, "Try again");
    const close = element("button", { type: "button", class: "text", onclick: () => this.clear() }, "Close");
    const text = element(
      "div",
      { role: "alert" },
      element("p", {}, element("strong", {}, title)),
      element("p", {}, words),
    );
    this.set("error", text, ...(again ? [again] : []), close);
  }

  clear() {
    this.box.hidden = true;
    this.box.replaceChildren();
  }

  set(kind, ...children) {
    this.box.className = kind;
    this.box.replaceChildren(...children);
    this.box.hidden = false;
  }
}

/** The server's messages begin with a small letter and end without a full stop, as those of the command line. */
const asSentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
