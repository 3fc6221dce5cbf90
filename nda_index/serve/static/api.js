/** Requests to the server: every request of the page goes through here. */

import { keep, recall } from "./storage.js";
import { notice as texts } from "./texts.js";

const AREA = "sessionStorage";
const TOKEN = "nda-index:token"; // its name there
const LONGEST_WAIT = 60; // seconds; if the server says more, the page tries again after this

/** A refusal, or no answer at all (status 0). `message` is a sentence for a person. */
export class ApiError extends Error {
  constructor(status, code, message, retryAfter = null) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }

  /** Whether the page should try again by itself after a while. */
  get isTemporary() {
    return (this.status === 429 && this.code !== "jobs") || (this.status === 503 && this.code === "not_ready");
  }

  /** Whether trying again may help, as the question is not at fault. */
  get mayBeRetried() {
    return this.status === 0 || this.status === 408 || this.status >= 500;
  }
}

/** Whether a file is an archive of pictures, by its name. */
export const isArchive = ({ name }) => /\.(tar|zip)$/i.test(name);

export class Api {
  /**
   * @param {(refused: boolean) => Promise<string>} askToken asks the person for the access token
   */
  constructor(askToken) {
    this.askToken = askToken;
    this.newToken = null;
    this.token = recall(AREA, TOKEN);
  }

  index(options) {
    return this.json("v1/index", options);
  }

  result(id, options) {
    return this.json(`v1/results/${encodeURIComponent(id)}`, options);
  }

  /** Asks the server where a picture comes from. `source` holds a `blob` or an `imageId`. */
  attribute(source, settings, options) {
    const form = new FormData();
    if (source.blob) form.append("image", source.blob, source.blob.name || "picture");
    else form.append("image_id", String(source.imageId));
    for (const [field, value] of Object.entries(settings)) {
      if (value !== null) form.append(field, String(value));
    }
    return this.json("v1/attribute", { ...options, method: "POST", body: form });
  }

  jobs(options) {
    return this.json("v1/jobs", options);
  }

  erase(id) {
    return this.request(`v1/jobs/${encodeURIComponent(id)}`, { method: "DELETE" });
  }

  /** Sends many pictures: files, or one archive, whose settings are in the address. */
  submit(files, settings, options) {
    const given = Object.entries(settings).filter(([, value]) => value !== null);
    if (files.length === 1 && isArchive(files[0])) {
      const query = new URLSearchParams(given.map(([field, value]) => [field, String(value)]));
      const type = /\.zip$/i.test(files[0].name) ? "application/zip" : "application/x-tar";
      return this.json(`v1/jobs?${query}`, { ...options, method: "POST", body: files[0], type });
    }
    const form = new FormData();
    for (const [field, value] of given) form.append(field, String(value));
    for (const file of files) form.append("image", file, file.name || "picture");
    return this.json("v1/jobs", { ...options, method: "POST", body: form });
  }

  async json(path, options) {
    return (await this.request(path, options)).json();
  }

  async blob(path, options) {
    return (await this.request(path, options)).blob();
  }

  /**
   * Sends a request, and repeats it while the server is busy or needs a token.
   *
   * @param {string} path
   * @param {Object} options `method`, `body`, `signal` as for fetch; `type` of the body; `onWait(seconds, error)` is called
   *     each second with the seconds left, 0 at last
   */
  async request(path, { method = "GET", body, type, signal, onWait = () => {} } = {}) {
    for (;;) {
      const sent = this.token;
      const response = await this.send(path, {
        method,
        body,
        signal,
        headers: { ...(type && { "Content-Type": type }), ...(sent && { Authorization: `Bearer ${sent}` }) },
      });
      if (response.ok) return response;
      const error = await readRefusal(response);
      if (error.status === 401) await this.renewToken(sent);
      else if (error.isTemporary) await wait(error, signal, onWait);
      else throw error;
    }
  }

  async send(path, options) {
    try {
      return await fetch(path, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, "connection", texts.lost);
    }
  }

  /** Asks the person for a token, once even if several requests were refused. */
  async renewToken(refused) {
    if (this.token !== refused) return; // another request has got one meanwhile
    this.newToken ??= this.askToken(refused !== null).then((token) => {
      this.token = token;
      keep(AREA, TOKEN, token);
      this.newToken = null;
    });
    await this.newToken;
  }
}

async function readRefusal(response) {
  const { code = "", message = texts.status(response.status) } = await response.json().then(
    (body) => body.error ?? {},
    () => ({}),
  );
  return new ApiError(response.status, code, message, Number(response.headers.get("Retry-After")) || null);
}

async function wait(error, signal, onWait) {
  const seconds = Math.min(Math.ceil(error.retryAfter ?? 2), LONGEST_WAIT);
  for (let left = seconds; left > 0; left -= 1) {
    onWait(left, error);
    await pause(1000, signal);
  }
  onWait(0, error);
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
