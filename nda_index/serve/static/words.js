/** Figures and settings as people read them. */

/** A whole number with separators: 12,345. */
export const count = (number) => number.toLocaleString("en");

/** "1 image", "2 images". */
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** A share: 41.2%, never a false zero. */
export function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1%";
  return `${(100 * share).toFixed(1)}%`;
}

/** What a share may be off by: two standard errors, in percentage points; null where it is exact. */
export function shareMargin(image) {
  if (!(image.score_error > 0) || !(image.score > 0)) return null;
  return (2 * image.score_error * image.share) / image.score;
}

/** A margin in percentage points: "± 0.3". */
export function margin(fraction) {
  const points = 100 * fraction;
  return points < 0.05 ? "± under 0.1" : `± ${points.toFixed(1)}`;
}

/** Bytes as people count them. `round` is Math.floor for what is allowed and Math.ceil for what is there. */
export function fileSize(bytes, round) {
  const [unit, size] = bytes < 1e6 ? ["kB", 1e3] : bytes < 1e9 ? ["MB", 1e6] : ["GB", 1e9];
  return `${round(bytes / size)} ${unit}`;
}

/** How long something takes: "less than a minute", "about 3 hours". */
export function duration(seconds) {
  if (seconds < 60) return "less than a minute";
  const [unit, length] = seconds < 5400 ? ["minute", 60] : seconds < 129_600 ? ["hour", 3600] : ["day", 86_400];
  return `about ${plural(Math.round(seconds / length), unit)}`;
}

/** What an answer compared: a recipe by its name or terms, or timesteps. */
export function comparedWords({ recipe, recipe_name: title, timestep }) {
  if (recipe) return `recipe ${title ?? recipe}`;
  const timesteps = [timestep].flat();
  return `${timestepWords(timesteps[0])} (t = ${timesteps.join(", ")})`;
}

/** What a timestep compares. */
export function timestepWords(timestep) {
  if (timestep <= 30) return "fine detail";
  if (timestep <= 75) return "detail and texture";
  if (timestep <= 150) return "parts and shapes";
  if (timestep <= 300) return "larger shapes";
  return "broad composition";
}

/** What a scale compares, by its name, as "p14r2": patches of 14 pixels of the indexed images, seen coarsely. */
export function scaleWords(name) {
  const [, patch, downscale] = /^p(\d+)r(\d+)$/.exec(name).map(Number);
  return downscale > 1 ? `${patch} px patches, coarse` : `${patch} px patches`;
}

/** A metadata value. */
export function valueText(value) {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.map(valueText).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
