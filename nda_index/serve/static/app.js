/** The page: sends pictures to the server and shows its answers. The address names the answer: /#r=<id>. */

import "./fill.js";
import { Api, isArchive } from "./api.js";
import { announce, byId } from "./dom.js";
import { Earlier } from "./earlier.js";
import { Jobs } from "./jobs.js";
import { Ledger } from "./ledger.js";
import { Links } from "./links.js";
import { Notice } from "./notice.js";
import { QueryInput } from "./query.js";
import { Settings } from "./settings.js";
import { Sharing } from "./sharing.js";
import { Spotlight } from "./spotlight.js";
import { Stage } from "./stage.js";
import { showSummary } from "./summary.js";
import { notice as noticeTexts, page, answer as texts } from "./texts.js";
import { askToken } from "./token.js";
import { headline, leading } from "./verdict.js";

const SHOWN = 1024; // pixels of the longer side of an answer's picture

let markReady;
const ready = new Promise((resolve) => {
  markReady = resolve;
}); // the server has described the collection

const api = new Api(askToken);
const notice = new Notice();
const input = new QueryInput(
  api,
  (source) => ask(source),
  (files) => takeFiles(files),
  (title, words) => notice.refuse(title, words),
);
const settings = new Settings(() => askAgain());
const sharing = new Sharing(api, (error) => notice.error(error));
const stage = new Stage(api, {
  query: (cell, how) => spotlight.fromQuery(cell, how),
  train: (cell, how) => spotlight.fromTrain(stage.chosen.rank, cell, how),
  scale: (name) => {
    links.scale = name;
    spotlight.clear();
  },
  use: (imageId) => ask({ imageId }),
});
const ledger = new Ledger(api, {
  select,
  use: (imageId) => ask({ imageId }),
  region: (rank, cell, how) => spotlight.fromTrain(rank, cell, how),
});

const jobs = new Jobs(api, {
  ready,
  send: (words, files) => submit(words, files),
  refuse: (title, words) => notice.refuse(title, words),
  error: (error) => notice.error(error),
});
const earlier = new Earlier(api, ready);

let images = 0; // of the collection
let source = null; // of the last question: a picture or an image
let answer = null; // on the page
let links = null;
let spotlight = null;
let work = new AbortController(); // of the request that is under way

/**
 * Sends one request at a time and says so; returns null if it failed, was cancelled or replaced by another.
 * `onError(error)` may return what is to be said besides the error.
 */
async function runVisibly(words, request, retry, onError = () => {}) {
  work.abort();
  const own = new AbortController();
  work = own;
  const task = notice.work(words, () => own.abort());
  try {
    const result = await request({ signal: own.signal, onWait: task.busy });
    task.end();
    return own === work ? result : null;
  } catch (error) {
    if (own !== work) return null; // the other request has the notice
    task.end();
    if (error.name !== "AbortError") notice.error(error, retry, onError(error));
    return null;
  }
}

async function ask(next) {
  await ready; // a picture may be dropped earlier
  if (!settings.check()) return;
  source = next;
  input.showSource(next);
  const { values } = settings;
  const received = await runVisibly(
    texts.asking(images),
    (options) => api.attribute(next, values, options),
    () => ask(next),
  );
  if (!received) return;
  history.pushState(null, "", `#r=${received.id}`);
  settings.markShown(values);
  earlier.add(received, headline(received));
  show(received);
}

/** Sends pictures as a job, with the settings that hold for any picture. */
async function submit(words, files) {
  if (!settings.check()) return null;
  const { region, top, ...values } = settings.values;
  return runVisibly(
    words,
    (options) => api.submit(files, values, options),
    () => jobs.give(files),
  );
}

/** Takes what is dropped or pasted: several files and archives as a job, and any file where jobs are shown. */
async function takeFiles(files) {
  await ready; // they may be given earlier
  const many = files.length > 1 || files.some(isArchive);
  if (!jobs.limits.jobs || !(jobs.watched || many)) {
    input.give(files[0]);
    return;
  }
  if (!jobs.watched) {
    history.pushState(null, "", "#jobs");
    showJobs();
  }
  jobs.give(files);
}

/** Asks about the same picture with other settings. An answer that was opened by its address has its picture, reduced. */
async function askAgain() {
  if (!settings.check()) return;
  if (!source && answer.picture_size) settings.scaleRegion(Math.min(1, SHOWN / Math.max(...answer.picture_size)));
  const url = answer.picture_size ? `v1/results/${answer.id}/picture.jpg` : answer.query.url;
  const next = source ?? (await runVisibly(texts.fetching, (options) => api.blob(url, options), askAgain));
  if (next) ask(next instanceof Blob ? { blob: next } : next);
}

async function open(id) {
  source = null;
  const received = await runVisibly(
    texts.opening,
    (options) => api.result(id, options),
    () => open(id),
    (error) => dropIfGone(id, error),
  );
  if (!received) return;
  settings.restore(received.settings, received.images.length);
  show(received);
}

/** Takes an answer that is not kept any more off the earlier questions, and says so. */
function dropIfGone(id, error) {
  if (error.code !== "result" || !earlier.has(id)) return "";
  earlier.drop(id);
  return noticeTexts.taken;
}

function show(shown) {
  links?.stop();
  answer = shown;
  ledger.show(shown);
  stage.show(shown);
  links = new Links(api, shown, () => spotlight.draw());
  spotlight = new Spotlight(links, byId("readout"), {
    query: stage.query.regions,
    train: (rank) => [ledger.regions.get(rank), ...(stage.chosen.rank === rank ? [stage.train.regions] : [])],
    chosen: () => stage.chosen.rank,
    all: shown.images.map(({ rank }) => rank),
  });
  showSummary(api, shown);
  select(leading(shown).rank);
  sharing.show(shown);
  setView("answer");
  document.title = page.titleOfAnswer(headline(shown));
  byId("verdict").focus();
  announce(texts.here(headline(shown)));
}

function select(rank) {
  spotlight.clear();
  stage.query.regions.release();
  stage.train.regions.release();
  stage.select(rank);
  ledger.select(rank);
  spotlight.draw();
}

function setView(view) {
  document.body.dataset.view = view;
  byId("intake").hidden = view !== "start";
  byId("answer").hidden = view !== "answer";
  for (const part of ["jobs", "sent"]) byId(part).hidden = view !== "jobs";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.for === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  jobs.watch(view === "jobs");
  if (view === "start") earlier.show();
  else earlier.hide();
}

function begin() {
  work.abort();
  answer = null;
  source = null;
  document.title = page.title;
  input.clear();
  settings.forget();
  setView("start");
}

/** Shows what the address names: after the start, and when the person goes back or forward. */
function followAddress() {
  const id = new URLSearchParams(location.hash.slice(1)).get("r");
  if (location.hash === "#jobs" && jobs.limits.jobs) showJobs();
  else if (id === null) begin();
  else if (id !== answer?.id) open(id);
  else setView("answer");
}

function showJobs() {
  if (jobs.watched) return; // pictures may be on their way
  begin();
  document.title = page.titleOfJobs;
  setView("jobs");
}

/** Skips to the content without changing the address, which names the answer. */
function skip(event) {
  event.preventDefault();
  byId("main").focus();
}

async function start() {
  setView("start");
  const index = await runVisibly(texts.looking, (options) => api.index(options), start);
  if (!index) return;
  images = index.images;
  byId("collection").textContent = page.collection(index.images, index.shape[2], index.shape[1]);
  byId("version").textContent = page.version(index.version, index.index_hash.slice(0, 12));
  input.describe(index);
  settings.describe(index);
  jobs.describe(index);
  document.querySelector("[data-for=jobs]").hidden = !index.job_limits.jobs;
  window.addEventListener("popstate", followAddress);
  followAddress();
  markReady();
}

document.querySelector(".skip").addEventListener("click", skip);
start();
