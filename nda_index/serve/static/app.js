/** The page: gives pictures to the server and shows its answers. The address tells which answer: /#r=<id>. */

import { Api } from "./api.js";
import { announce, byId } from "./dom.js";
import { Ledger } from "./ledger.js";
import { Links } from "./links.js";
import { Notice } from "./notice.js";
import { QueryInput } from "./query.js";
import { Settings } from "./settings.js";
import { Sharing } from "./sharing.js";
import { Spotlight } from "./spotlight.js";
import { Stage } from "./stage.js";
import { showSummary } from "./summary.js";
import { askToken } from "./token.js";
import { headline, leading } from "./verdict.js";
import { plural } from "./words.js";

const TITLE = document.title;

let tellKnown;
const known = new Promise((resolve) => {
  tellKnown = resolve;
}); // the collection has been described

const api = new Api(askToken);
const notice = new Notice();
const input = new QueryInput(
  api,
  (source) => ask(source),
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

let images = 0; // of the collection
let source = null; // what was asked about last
let answer = null; // what is shown
let links = null;
let spotlight = null;
let work = new AbortController(); // of the request that is under way

/** Does one request at a time, visibly; null if it failed, was cancelled or replaced by another. */
async function working(words, request, retry) {
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
    if (error.name !== "AbortError") notice.error(error, retry);
    return null;
  }
}

async function ask(next) {
  await known; // a picture may be dropped before
  if (!settings.check()) return;
  source = next;
  input.showSource(next);
  const { values } = settings;
  const found = await working(
    `Comparing with ${plural(images, "image")} …`,
    (options) => api.attribute(next, values, options),
    () => ask(next),
  );
  if (!found) return;
  history.pushState(null, "", `#r=${found.id}`);
  settings.answered(values);
  show(found);
}

/** The same picture with other settings. An answer that was opened by its address brings its picture along. */
async function askAgain() {
  if (!settings.check()) return;
  const { url } = answer.query;
  const next = source ?? (await working("Fetching the picture …", (options) => api.blob(url, options), askAgain));
  if (next) ask(next instanceof Blob ? { blob: next } : next);
}

async function open(id) {
  source = null;
  const found = await working(
    "Opening the answer …",
    (options) => api.result(id, options),
    () => open(id),
  );
  if (!found) return;
  settings.restore(found.settings, found.images.length);
  show(found);
}

function show(found) {
  links?.stop();
  answer = found;
  ledger.show(found);
  stage.show(found);
  links = new Links(api, found, () => spotlight.draw());
  spotlight = new Spotlight(links, byId("readout"), {
    query: stage.query.regions,
    train: (rank) => [ledger.regions.get(rank), ...(stage.chosen.rank === rank ? [stage.train.regions] : [])],
    chosen: () => stage.chosen.rank,
    all: found.images.map(({ rank }) => rank),
  });
  showSummary(found);
  select(leading(found).rank);
  sharing.show(found);
  setView("answer");
  document.title = `${headline(found)} · nda-index`;
  byId("verdict").focus();
  announce(`The answer is here. ${headline(found)}.`);
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
  byId("intake").hidden = view === "answer";
  byId("answer").hidden = view !== "answer";
}

function begin() {
  work.abort();
  answer = null;
  source = null;
  document.title = TITLE;
  input.clear();
  settings.forget();
  setView("start");
}

/** Follows the address: after the start, and as the person goes back and forth. */
function followAddress() {
  const id = new URLSearchParams(location.hash.slice(1)).get("r");
  if (id === null) begin();
  else if (id !== answer?.id) open(id);
}

/** The address names the answer, so that the skip link must not change it. */
function skip(event) {
  event.preventDefault();
  byId("main").focus();
}

async function start() {
  setView("start");
  const index = await working("Looking at the collection …", (options) => api.index(options), start);
  if (!index) return;
  images = index.images;
  byId("collection").textContent =
    `${plural(index.images, "image")}, compared at ${index.shape[2]} × ${index.shape[1]} pixels`;
  byId("version").textContent = `nda-index ${index.version} · index ${index.index_hash.slice(0, 12)}`;
  input.describe(index);
  settings.describe(index);
  stage.describe(index);
  window.addEventListener("popstate", followAddress);
  followAddress();
  tellKnown();
}

document.querySelector(".skip").addEventListener("click", skip);
start();
