/** The verdicts of an answer in words: whether a match is more than what unrelated pictures find. */

import { name } from "./dom.js";
import { count, plural } from "./words.js";

export const FEWEST = 99; // unrelated pictures: with fewer, no image can fit better than 99% of them
const NUMBERS = ["No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten"];

/** How well an image fits. The percentile claims no more than it is. */
function fitWords({ verdict }) {
  const place = (Math.floor(verdict.percentile * 1000 + 1e-9) / 10).toFixed(1);
  return `fits your picture better than the best match of ${place}% of unrelated pictures does`;
}

/** The headline of an answer. Near-duplicates count once. */
export function headline(answer) {
  const { images, regions, picture_size: pictured } = answer;
  if (pictured) {
    const found = regions.filter((region) => region.strong).length;
    return `${NUMBERS[found] ?? found} region${found > 1 ? "s match" : " matches"} strongly`;
  }
  const judged = images.filter(({ verdict }) => verdict);
  if (!judged.length) return "A best match, without a verdict";
  const strong = new Set(judged.filter(({ verdict }) => verdict.strong).map(({ group }) => group)).size;
  return `${NUMBERS[strong] ?? strong} strong match${strong > 1 ? "es" : ""}`;
}

/** The image that an answer is about: the first strong one, or the best where none is strong. */
export const leading = ({ images }) => images.find(({ verdict }) => verdict?.strong) ?? images[0];

/** The reason for the headline, as nodes. */
export function explanation(answer) {
  const { images, null_pictures: unrelated, regions, picture_size: pictured } = answer;
  if (pictured) {
    const [first] = regions.filter((region) => region.strong);
    if (first) return ["A part of your picture is a part of ", name(first.key), `, ${first.what}.`];
    return ["No part of your picture fits an indexed picture better than unrelated pictures fit."];
  }
  const [best] = images;
  if (!best.verdict) {
    const why = "the collection was indexed without unrelated pictures to compare it with";
    return ["The best match is ", name(best.key), `. It cannot be said whether it is strong: ${why}.`];
  }
  const strong = leading(answer);
  if (!strong.verdict?.strong) {
    const limit =
      unrelated < FEWEST
        ? `With only ${count(unrelated)} of them to compare with, no match can be called strong.`
        : "Matches are called strong from 99% on.";
    return ["The best match, ", name(best.key), `, ${fitWords(best)}. ${limit}`];
  }
  const copies = images.filter(({ group, rank }) => group === strong.group && rank !== strong.rank).length;
  const duplicates = copies ? ` The collection holds ${plural(copies, "near-duplicate")} of it.` : "";
  const why = ", whose fit is not rare enough to be called strong.";
  const first = strong.rank === 1 ? [] : [" The largest share goes to ", name(best.key), why];
  return [name(strong.key), ` ${fitWords(strong)}.${duplicates}`, ...first];
}

/** The verdict on one image, in a few words; empty without one. */
export function shortVerdict({ verdict }) {
  if (!verdict) return "";
  return verdict.strong ? "Strong match" : "No strong match";
}

/** The verdict on one image, as a sentence; empty without one. */
export function longVerdict(image) {
  if (!image.verdict) return "";
  return `${shortVerdict(image)}: it ${fitWords(image)}.`;
}
