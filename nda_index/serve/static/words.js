/** Figures, dates and settings as people read them, in the language of the texts. */

import { jobs, language, ledger, settings, stage } from "./texts.js";

const UNITS = [
  ["kilobyte", 1e3, 1e6],
  ["megabyte", 1e6, 1e9],
  ["gigabyte", 1e9, Infinity],
]; // name, bytes, and bytes up to which it is used

const ratio = (share, digits) =>
  share.toLocaleString(language, {
    style: "percent",
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
    useGrouping: false,
  });

/** A share: 41.2%, never a false zero. */
export const percent = (share) => (share > 0 && share < 0.001 ? `< ${ratio(0.001, 1)}` : ratio(share, 1));

/** A share without decimals: 41%. */
export const wholePercent = (share) => ratio(share, 0);

/** A percentile, rounded down: it claims no more than it is. */
export const percentile = (share) => ratio(Math.floor(share * 1000 + 1e-9) / 1000, 1);

/** What a share may be off by: two standard errors, in percentage points; null where it is exact. */
export function shareMargin(image) {
  if (!(image.score_error > 0) || !(image.score > 0)) return null;
  return (2 * image.score_error * image.share) / image.score;
}

/** A margin in percentage points: "± 0.3". */
export function margin(fraction) {
  const points = 100 * fraction;
  return points < 0.05 ? ledger.underMargin(decimals(0.1, 1)) : `± ${decimals(points, 1)}`;
}

/** A number with so many decimals. */
const decimals = (number, digits) =>
  number.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** Bytes as people count them. `round` is Math.floor for what is allowed and Math.ceil for what is there. */
export function fileSize(bytes, round) {
  const [unit, size] = UNITS.find(([, , end]) => bytes < end);
  return round(bytes / size).toLocaleString(language, { style: "unit", unit });
}

/** A day and a time. */
export const dateTime = (milliseconds) =>
  new Date(milliseconds).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" });

/** How long something still takes, as a sentence. */
export function timeLeft(seconds) {
  if (seconds < 60) return jobs.secondsLeft;
  if (seconds < 5400) return jobs.minutesLeft(Math.round(seconds / 60));
  if (seconds < 129_600) return jobs.hoursLeft(Math.round(seconds / 3600));
  return jobs.daysLeft(Math.round(seconds / 86_400));
}

/** What an answer compared: a recipe by its name or terms, or timesteps. */
export function comparedWords({ recipe, recipe_name: title, timestep }) {
  return recipe ? settings.recipe(title ?? recipe) : depthWords([timestep].flat());
}

/** What timesteps compare. */
export const depthWords = (timesteps) => settings.depth(timestepWords(timesteps[0]), timesteps.join(", "));

function timestepWords(timestep) {
  if (timestep <= 30) return settings.fine;
  if (timestep <= 75) return settings.texture;
  if (timestep <= 150) return settings.parts;
  if (timestep <= 300) return settings.larger;
  return settings.broad;
}

/** What a scale compares, by its name, as "p14r2": patches of 14 pixels of the indexed images, seen coarsely. */
export function scaleWords(name) {
  const [, patch, downscale] = /^p(\d+)r(\d+)$/.exec(name).map(Number);
  return downscale > 1 ? stage.coarseScale(patch) : stage.scale(patch);
}

/** A metadata value. */
export function valueText(value) {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.map(valueText).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
