/** Many pictures at once: they are sent as a job, and the page shows how far each has come. */

import { isArchive } from "./api.js";
import { announce, byId, element } from "./dom.js";
import { fileLink } from "./downloads.js";
import { files as fileTexts, jobs as texts } from "./texts.js";
import { dateTime, fileSize, timeLeft } from "./words.js";

const LOOK = 2000; // milliseconds between two looks at jobs that go on
const FORMS = ["csv", "parquet", "ndjson"];
const ENDED = ["done", "failed"];

export class Jobs {
  /**
   * @param {Api} api
   * @param {Object} on `ready`, kept once the limits are known; `send(words, request)`, which sends visibly;
   *   `refuse(title, words)`; `error(error)`
   */
  constructor(api, on) {
    Object.assign(this, { api, on, lines: new Map(), limits: null, watched: false, timer: null });
    const input = byId("files");
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = ""; // so that the same files can be chosen again
      if (files.length) this.give(files);
    });
  }

  /** Takes over how much the server accepts. */
  describe({ job_limits: limits, limits: { formats } }) {
    this.limits = limits;
    const size = fileSize(limits.bytes, Math.floor);
    byId("job-limits").textContent = texts.limits(formats.join(", "), limits.pictures, size);
  }

  /** Sends pictures, or one archive of them. */
  async give(files) {
    await this.on.ready; // they may be chosen earlier
    const { pictures, bytes } = this.limits;
    const size = files.reduce((sum, file) => sum + file.size, 0);
    if (files.length > pictures) {
      this.on.refuse(texts.tooMany, texts.tooManyWords(pictures));
    } else if (size > bytes) {
      const words = texts.tooLargeWords(fileSize(size, Math.ceil), fileSize(bytes, Math.floor));
      this.on.refuse(texts.tooLarge, words);
    } else if (files.length > 1 && files.some(isArchive)) {
      this.on.refuse(texts.archiveAlone, texts.archiveAloneWords);
    } else {
      const words = isArchive(files[0]) ? texts.sendingArchive(files[0].name) : texts.sending(files.length);
      const job = await this.on.send(words, files);
      if (!job) return;
      announce(texts.wereSent(job.total));
      await this.look();
      this.lines.get(job.id)?.row.scrollIntoView({ block: "nearest" });
    }
  }

  /** Begins or ends to follow the jobs. */
  watch(watched) {
    this.watched = watched;
    if (watched) this.look();
    else clearTimeout(this.timer);
  }

  async look() {
    clearTimeout(this.timer);
    try {
      const { jobs } = await this.api.jobs();
      this.show(jobs);
      if (!jobs.some(({ state }) => !ENDED.includes(state))) return;
    } catch (error) {
      if (!error.mayBeRetried) this.on.error(error);
    }
    if (this.watched) this.timer = setTimeout(() => this.look(), LOOK);
  }

  /** Shows the jobs, newest first. A line that is there already is changed in place, so that it keeps the focus. */
  show(jobs) {
    const shown = new Set(jobs.map(({ id }) => id));
    for (const [id, line] of this.lines) {
      if (shown.has(id)) continue;
      line.row.remove();
      this.lines.delete(id);
    }
    for (const job of [...jobs].reverse()) {
      if (!this.lines.has(job.id)) {
        const line = this.line(job);
        this.lines.set(job.id, line);
        byId("job-list").prepend(line.row);
      }
      update(this.lines.get(job.id), job);
    }
    byId("no-jobs").hidden = jobs.length > 0;
  }

  line(job) {
    const title = texts.job(job.total, dateTime(1000 * job.created));
    const bar = element("progress", { "aria-label": texts.progress(title) });
    const words = element("p", { class: "small soft" });
    const links = FORMS.flatMap((form) => {
      const file = `nda-${job.id.slice(0, 12)}.${form}`;
      const address = `v1/jobs/${job.id}/results?format=${form}`;
      return [" ", fileLink(this.api, address, file, fileTexts[form], this.on.error)];
    });
    const results = element("p", { class: "files" }, texts.results, ...links);
    const erase = element("button", { type: "button", class: "text", onclick: () => this.erase(job.id) });
    const row = element("li", {}, element("p", { class: "title" }, title), bar, words, results, erase);
    return { row, bar, words, results, erase, title, state: job.state };
  }

  async erase(id) {
    const next = this.lines.get(id).row.nextElementSibling?.querySelector("button") ?? byId("files");
    try {
      await this.api.erase(id);
      next.focus();
      announce(texts.isErased);
      await this.look();
    } catch (error) {
      this.on.error(error);
    }
  }
}

function update(line, job) {
  const ended = ENDED.includes(job.state);
  line.bar.max = job.total;
  line.bar.value = job.done;
  line.bar.hidden = ended;
  line.words.textContent = progressWords(job);
  line.results.hidden = job.done === 0;
  line.erase.textContent = ended ? texts.erase : texts.cancel;
  line.erase.setAttribute("aria-label", texts.buttonOf(line.erase.textContent, line.title));
  if (ended && line.state !== job.state) announce(texts.ended(line.title, progressWords(job)));
  line.state = job.state;
}

function progressWords({ state, done, total, strong, failures, seconds_left: left, reason }) {
  if (state === "queued") return texts.waits;
  const found = [
    texts.done(done, total),
    texts.strong(strong),
    ...(failures ? [texts.failures(failures)] : []),
  ].join(", ");
  if (state === "failed") return `${found}. ${texts.endedEarly(reason)}`;
  return left === null ? `${found}.` : `${found}. ${timeLeft(left)}`;
}
