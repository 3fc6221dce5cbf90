/** The place where the page says what it is doing and what went wrong. */

import { announce, byId, element } from "./dom.js";
import { refusals, notice as texts } from "./texts.js";

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
    const cancel = element("button", { type: "button", class: "text", onclick: onCancel }, texts.cancel);
    this.set("working", element("div", { class: "activity" }), element("p", {}, text, " ", clock), cancel);
    announce(words);
    const started = performance.now();
    let waiting = false;
    const timer = setInterval(() => {
      if (!waiting) clock.textContent = texts.seconds(Math.round((performance.now() - started) / 1000));
    }, 1000);
    return {
      busy: (seconds, error) => {
        const reason = error.status === 429 ? texts.busy : texts.starting;
        text.textContent = seconds > 0 ? texts.waiting(reason, seconds) : words;
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

  /** Says in plain words what went wrong, and what followed from it. */
  error(error, onRetry, followed = "") {
    const retry = error.mayBeRetried ? onRetry : null;
    this.refuse(refusals[error.code] ?? refusals.other, `${asSentence(error.message)} ${followed}`.trim(), retry);
  }

  refuse(title, words, onRetry) {
    const again =
      onRetry && element("button", { type: "button", class: "button quiet", onclick: onRetry }, texts.again);
    const close = element("button", { type: "button", class: "text", onclick: () => this.clear() }, texts.close);
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
