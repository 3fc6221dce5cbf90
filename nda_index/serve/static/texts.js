/**
 * Every text of the page, in English. To translate the page, copy this file, translate what is in quotes and serve the
 * copy with `nda-index serve --texts FILE`. Names, and what stands in ${...}, stay as they are. A text that is given
 * something is a function of it; one that returns a list [..., ...] has a name of a file in its midst.
 */

/** Tag of the language: for screen readers, and for how numbers and dates are written. */
export const language = "en";

const rules = new Intl.PluralRules(language);

/** A whole number with separators: 12,345. */
export const count = (number) => number.toLocaleString(language);

/** A number and its noun. English has the forms `one` and `other`; other languages also zero, two, few and many. */
const plural = (number, forms) => `${count(number)} ${forms[rules.select(number)] ?? forms.other}`;

const images = (number) => plural(number, { one: "image", other: "images" });
const pictures = (number) => plural(number, { one: "picture", other: "pictures" });
const copies = (number) => plural(number, { one: "near-duplicate", other: "near-duplicates" });

const NUMBERS = ["No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten"];
const inWords = (number) => NUMBERS[number] ?? count(number);

export const page = {
  title: "Where does this picture come from?",
  titleOfJobs: "Many pictures · Where does this picture come from?",
  titleOfAnswer: (headline) => `${headline} · nda-index`,
  skip: "Skip to the content",
  kinds: "What to ask about",
  one: "One picture",
  many: "Many pictures",
  another: "Another picture",
  collection: (number, width, height) => `${images(number)}, compared at ${width} × ${height} pixels`,
  version: (version, hash) => `nda-index ${version} · index ${hash}`,
};

export const start = {
  title: "Where does this picture come from?",
  lead:
    "Give it a picture, made by a model or by hand. It is compared, patch by patch, with every image of this " +
    "collection, and you see which of them it is made of, how much of each, and where.",
  evidence: "An answer is evidence of likeness. It does not prove that anything was copied.",
  preview: "The picture you gave",
  choose: "Choose a picture",
  orDrop: "or drop one anywhere on this page, or paste it",
  limits: (formats, size) => `${formats}, up to ${size}`,
  examples: "Or ask about an image of the collection",
  example: (id) => `Ask about image ${count(id)}`,
  tooLarge: "This file is too large",
  tooLargeWords: (size, most) =>
    `It has ${size}; the server takes up to ${most}. Save the picture smaller and try again.`,
};

export const earlier = {
  title: "Your earlier questions",
  note: "Only this browser knows of them. It keeps no picture, only what you read here.",
  all: (number) => `Show all ${count(number)}`,
  forget: "Forget these",
  forgotten: "Your earlier questions are forgotten.",
  gone: "no longer kept by the service",
};

export const jobs = {
  title: "Where do these pictures come from?",
  lead:
    "Give it many pictures at once. They are answered one after the other, whenever nobody waits for an answer, also " +
    "after you have closed this page. The results are a table.",
  erased: "The pictures are erased as soon as all of them are answered, and the results after a week.",
  choose: "Choose pictures",
  orDrop: "or drop them anywhere on this page, or paste them: files, or one .tar or .zip of them",
  limits: (formats, number, size) => `${formats}; up to ${pictures(number)} and ${size}`,
  sent: "What was sent",
  none: "Nothing yet.",
  tooMany: "These are too many pictures",
  tooManyWords: (most) => `The server takes up to ${count(most)} at once. Send them in parts.`,
  tooLarge: "This is too large",
  tooLargeWords: (size, most) => `It has ${size}; the server takes up to ${most} at once. Send it in parts.`,
  archiveAlone: "An archive is sent alone",
  archiveAloneWords: "Send each archive by itself, or only pictures.",
  sendingArchive: (name) => `Sending ${name} …`,
  sending: (number) => `Sending ${pictures(number)} …`,
  wereSent: (number) => `${pictures(number)} were sent.`,
  job: (number, date) => `${pictures(number)}, sent ${date}`,
  progress: (job) => `Progress of ${job}`,
  results: "Results as",
  erase: "Erase the results",
  cancel: "Cancel",
  buttonOf: (button, job) => `${button}: ${job}`,
  isErased: "It is erased.",
  ended: (job, progress) => `${job}: ${progress}`,
  waits: "Waits for its turn",
  done: (done, total) => (done < total ? `${count(done)} of ${count(total)} done` : "All done"),
  strong: (number) => `${count(number)} with a strong match`,
  failures: (number) => `${count(number)} without an answer`,
  endedEarly: (reason) => `It has ended early: ${reason}.`,
  secondsLeft: "Less than a minute left.",
  minutesLeft: (number) => `About ${plural(number, { one: "minute", other: "minutes" })} left.`,
  hoursLeft: (number) => `About ${plural(number, { one: "hour", other: "hours" })} left.`,
  daysLeft: (number) => `About ${plural(number, { one: "day", other: "days" })} left.`,
};

export const settings = {
  change: "Change how it is compared",
  title: "How to compare",
  compare: "Compare",
  oneDepth: "one depth, chosen below",
  lookAt: "Look at",
  depth: (depth, timesteps) => `${depth} (t = ${timesteps})`,
  recipe: (name) => `recipe ${name}`,
  fine: "fine detail",
  texture: "detail and texture",
  parts: "parts and shapes",
  larger: "larger shapes",
  broad: "broad composition",
  more: "More settings",
  exact: "Compare every image in detail",
  slower: "slower",
  mirror: "Mirror images count too",
  region: "Only a part of the picture",
  regionEdges: "left, top, right, bottom",
  regionRule: "four whole numbers, in pixels of the picture",
  top: "Images to show",
  noise: "The picture is compared",
  noNoise: "as it is: the steadiest ranking",
  averageNoise: "with noise, averaged over draws",
  drawnNoise: "with one draw of noise, as published",
  again: "Compare again",
};

export const filters = {
  title: "Compare with",
  all: "all images",
  onlyWhere: "only images where",
  first: "Only some images …",
  another: "Another condition",
  column: "Column",
  comparison: "Comparison",
  value: "Value",
  remove: "Remove this condition",
  wrong: "Give a value of the kind that this column holds.",
  is: "is",
  isNot: "is not",
  contains: "contains",
  atLeast: "is at least",
  atMost: "is at most",
  from: "is on or after",
  before: "is before",
  isTrue: "is true",
  isFalse: "is false",
  empty: "is empty",
  given: "is not empty",
};

export const verdict = {
  none: "A best match, without a verdict",
  matches: (number) => `${inWords(number)} strong ${number > 1 ? "matches" : "match"}`,
  regions: (number) => `${inWords(number)} ${number > 1 ? "regions match" : "region matches"} strongly`,
  region: (image, changes) => ["A part of your picture is a part of ", image, `, ${changes}.`],
  noRegion: "No part of your picture fits an indexed picture better than unrelated pictures fit.",
  unknown: (image) => [
    "The best match is ",
    image,
    ". It cannot be said whether it is strong: the collection was indexed without unrelated pictures to compare it " +
      "with.",
  ],
  best: (image, percent) => [
    "The best match, ",
    image,
    `, fits your picture better than the best match of ${percent} of unrelated pictures does.`,
  ],
  limit: "Matches are called strong from 99% on.",
  tooFew: (number) => `With only ${count(number)} of them to compare with, no match can be called strong.`,
  strong: (image, percent) => [
    image,
    ` fits your picture better than the best match of ${percent} of unrelated pictures does.`,
  ],
  copies: (number) => `The collection holds ${copies(number)} of it.`,
  largest: (image) => ["The largest share goes to ", image, ", whose fit is not rare enough to be called strong."],
  isStrong: "Strong match",
  isNotStrong: "No strong match",
  ofImage: (short, percent) =>
    `${short}: it fits your picture better than the best match of ${percent} of unrelated pictures does.`,
};

export const answer = {
  asking: (number) => `Comparing with ${images(number)} …`,
  opening: "Opening the answer …",
  fetching: "Fetching the picture …",
  looking: "Looking at the collection …",
  here: (headline) => `The answer is here. ${headline}.`,
  comparedWith: (number) => `Compared with ${images(number)}`,
  onlyWhere: (condition) => `only where ${condition}`,
  temper: (temper) => `temper ${temper}`,
  mirrored: "mirrored too",
  toStrong: (groups) => (groups > 1 ? "goes to the strong matches" : "goes to the strong match"),
  toBest: "goes to the best match",
  toShown: (number) => `goes to the ${count(number)} shown`,
  covered: "of all likeness compared in detail",
  copyLink: "Copy link",
  copied: "Copied",
  isCopied: "The link is copied.",
  copyThis: "Copy this address:",
  saveAs: "Save as",
  complete: "How complete is this answer?",
  allCompared: (number) => `All ${images(number)} were compared in every detail.`,
  someCompared: (scored, number, percent, points) =>
    `${count(scored)} of ${count(number)} images were compared in every detail: those that a fast search found most ` +
    `alike. Judged by a sample of the others, they hold ${percent} (give or take ` +
    `${plural(points, { one: "point", other: "points" })}) of all likeness. ` +
    "Shares are parts of the likeness of the whole collection.",
  strongMeans: (number) =>
    `A match is called strong if it fits better than the best match of 99% of ${count(number)} unrelated pictures does.`,
  strongNever: "With so few of them none can be.",
  lost: (number) => `${images(number)} could not be compared: the machine that holds them was lost.`,
  provenance: "Settings and provenance",
  indexHash: "index hash",
  seconds: "seconds",
};

export const pieces = {
  title: "Regions of your picture",
  strong: (number) => `Each fits better than 99% of ${count(number)} unrelated pictures fit anything.`,
  likely: "These fit best, but not better than unrelated pictures do.",
  none: "No indexed picture has anything like a part of yours.",
  drag: "Drag over the picture to compare only a part of it.",
  whole:
    "What follows compares the whole picture, made small: it tells what the picture resembles, and misses pieces.",
  boxes: (number) => `Your picture with ${number} numbered boxes`,
  region: (number) => `Region ${number} of your picture`,
  source: (key) => `The region of ${key}`,
  places: (changes, place, source) => `${changes}; ${place} of yours, ${source}`,
  yours: "your picture",
  indexed: "indexed picture",
};

export const stage = {
  title: "Your picture next to one image",
  yours: "Your picture",
  image: (rank, key) => `Image ${rank}: ${key}`,
  regionsOfYours: "Regions of your picture",
  regionsOfImage: "Regions of the image",
  region: (row, column) => `Row ${row}, column ${column}`,
  scales: "Size of the patches compared",
  allScales: "All patches",
  scale: (pixels) => `${pixels} px patches`,
  coarseScale: (pixels) => `${pixels} px patches, coarse`,
  heat: "Heat map",
  more: (number) => `${count(number)} more`,
  share: "share",
  score: "score",
  id: "image",
  copies: (number) => copies(number),
  together: (percent) => `${percent} together`,
  use: "Use as query",
  useOf: (rank) => `Use image ${rank} as query`,
  hint:
    "Point at a region of a picture to see where it comes from. With the keyboard: Tab to a picture, then arrow keys.",
  touchHint: "Tap a region of a picture to see where it comes from.",
  searching: "Looking up this region …",
  failed: (reason) => `The regions could not be loaded. ${reason}`,
  nothing: "None of the images shown has a notable part in this region.",
  shares: (parts) => `Of what the images shown hold in this region: ${parts}.`,
  shareOf: (percent, rank) => `${percent} image ${rank}`,
  foundIn: (rank, number) =>
    `This region of image ${rank} is found in ${plural(number, { one: "region", other: "regions" })} of your picture.`,
  foundNowhere: (rank) => `This region of image ${rank} has no notable part in your picture.`,
};

export const ledger = {
  title: "Made of",
  copies: (number, percent) => `${copies(number)}, ${percent} together`,
  bars: "Bars are relative to the longest.",
  margins: "± is two standard errors.",
  rest: (number, percent) => `The other ${images(number)} of the collection share the remaining ${percent}.`,
  underMargin: (points) => `± under ${points}`,
};

export const reading = {
  title: "What a share means, and what it does not",
  patches:
    "Your picture is cut into overlapping patches. Each patch is divided among the images in which something like it " +
    "is found: most of it goes to the closest.",
  share: "An image’s share is the part of your picture that goes to it.",
  not:
    "A share is not a probability, and not a portion of anybody’s rights. Shares always divide the whole picture: even " +
    "a picture that has nothing to do with this collection has a best match, and its share may be large.",
  verdict:
    "That is what the verdict is for. It asks how well an image explains your picture by itself, and how often an " +
    "unrelated picture finds a match as good.",
  strong: "“Strong” means: for fewer than one in a hundred.",
  evidence: "It is evidence, not proof.",
};

export const files = {
  html: "Report",
  png: "Picture",
  json: "JSON",
  parquet: "Parquet",
  csv: "CSV",
  ndjson: "NDJSON",
};

export const token = {
  title: "This collection is protected",
  give: "Give the token that you were sent by the person who runs this server.",
  refused: "The server does not accept this token. Check it and try again.",
  label: "Access token",
  kept: "It is kept until this tab is closed.",
  proceed: "Continue",
};

export const notice = {
  cancel: "Cancel",
  again: "Try again",
  close: "Close",
  busy: "The server is busy.",
  starting: "The server is still starting.",
  waiting: (reason, seconds) =>
    `${reason} Trying again in ${plural(seconds, { one: "second", other: "seconds" })}.`,
  seconds: (number) => `${count(number)} s`,
  lost: "The connection to the server was lost, or the server is not running.",
  status: (status) => `The server answered with status ${status}.`,
  taken: "It is taken off your earlier questions.",
};

/** Titles of refusals, by their code. The server's own sentence follows, in English. */
export const refusals = {
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
  other: "Something went wrong",
};
