/** The verdicts of an answer in words: whether a match is more than what unrelated pictures find. */

import { name } from "./dom.js";
import { verdict as texts } from "./texts.js";
import { percentile } from "./words.js";

export const FEWEST = 99; // unrelated pictures: with fewer, no image can fit better than 99% of them

/** The headline of an answer. Near-duplicates count once. */
export function headline({ images, regions, picture_size: pictured }) {
  if (pictured) return texts.regions(regions.filter((region) => region.strong).length);
  const judged = images.filter(({ verdict }) => verdict);
  if (!judged.length) return texts.none;
  return texts.matches(new Set(judged.filter(({ verdict }) => verdict.strong).map(({ group }) => group)).size);
}

/** The image that an answer is about: the first strong one, or the best where none is strong. */
export const leading = ({ images }) => images.find(({ verdict }) => verdict?.strong) ?? images[0];

/** The reason for the headline, as nodes. */
export function explanation(answer) {
  const { images, null_pictures: unrelated, regions, picture_size: pictured } = answer;
  if (pictured) {
    const first = regions.find((region) => region.strong);
    return first ? texts.region(name(first.key), first.what) : [texts.noRegion];
  }
  const [best] = images;
  if (!best.verdict) return texts.unknown(name(best.key));
  const strong = leading(answer);
  if (!strong.verdict.strong) {
    const limit = unrelated < FEWEST ? texts.tooFew(unrelated) : texts.limit;
    return [...texts.best(name(best.key), percentile(best.verdict.percentile)), " ", limit];
  }
  const copies = images.filter(({ group, rank }) => group === strong.group && rank !== strong.rank).length;
  return [
    ...texts.strong(name(strong.key), percentile(strong.verdict.percentile)),
    ...(copies ? [" ", texts.copies(copies)] : []),
    ...(strong.rank === 1 ? [] : [" ", ...texts.largest(name(best.key))]),
  ];
}

/** The verdict on one image, in a few words; empty without one. */
export function shortVerdict({ verdict }) {
  if (!verdict) return "";
  return verdict.strong ? texts.isStrong : texts.isNotStrong;
}

/** The verdict on one image, as a sentence; empty without one. */
export function longVerdict(image) {
  return image.verdict ? texts.ofImage(shortVerdict(image), percentile(image.verdict.percentile)) : "";
}
