/** An answer as a whole: the verdict first, then figures, then how complete it is. */

import { byId, element } from "./dom.js";
import { showPieces } from "./pieces.js";
import { answer as texts } from "./texts.js";
import { explanation, FEWEST, headline } from "./verdict.js";
import { comparedWords, margin, percent, shareMargin, valueText, wholePercent } from "./words.js";

export function showSummary(api, answer) {
  byId("verdict").textContent = headline(answer);
  byId("verdict-words").replaceChildren(...explanation(answer));
  showPieces(api, answer);
  byId("compared").textContent = questionWords(answer);
  byId("figures").replaceChildren(...figures(answer));
  byId("complete").textContent = completeWords(answer);
  const facts = [
    ...Object.entries(answer.settings)
      .filter(([, value]) => value !== null)
      .map(([setting, value]) => [setting.replaceAll("_", " "), value]),
    [texts.indexHash, answer.index_hash],
    ["nda-index", answer.version],
    [texts.seconds, secondsWords(answer.seconds)],
  ];
  const rows = facts.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, valueText(value))]);
  byId("provenance").replaceChildren(...rows);
}

/** The stages, longest first. */
function secondsWords(seconds) {
  const stages = Object.entries(seconds).sort(([, a], [, b]) => b - a);
  return stages.map(([stage, time]) => `${stage} ${time.toFixed(2)}`).join(", ");
}

function questionWords({ collection, settings }) {
  const parts = [texts.comparedWith(collection), comparedWords(settings)];
  if (settings.where) parts.push(texts.onlyWhere(settings.where));
  if ((settings.temper ?? 1) !== 1) parts.push(texts.temper(settings.temper));
  if (settings.mirror) parts.push(texts.mirrored);
  return parts.join(" · ");
}

function figures(answer) {
  const [best] = answer.images;
  const groups = new Set(answer.images.filter(({ verdict }) => verdict?.strong).map(({ group }) => group));
  const strong = answer.images.filter(({ group }) => groups.has(group)); // with their near-duplicates
  const facts = [
    strong.length
      ? [texts.toStrong(groups.size), sumOf(strong), strong.length > 1 ? null : shareMargin(strong[0])]
      : [texts.toBest, best.share, shareMargin(best)],
    [texts.toShown(answer.images.length), sumOf(answer.images), null],
    [texts.covered, answer.mass_covered, answer.mass_error > 0 ? 2 * answer.mass_error : null],
  ];
  return facts.map(([term, value, off]) =>
    element(
      "div",
      {},
      element("dt", { class: "small soft" }, term),
      element("dd", {}, percent(value), " ", element("span", { class: "soft small" }, off === null ? "" : margin(off))),
    ),
  );
}

const sumOf = (images) => images.reduce((sum, { share }) => sum + share, 0);

function completeWords(answer) {
  const { scored, collection, missing, mass_covered: covered, mass_error: error, null_pictures: unrelated } = answer;
  const points = Math.max(Math.round(200 * error), 1);
  const sentences = [
    scored >= collection
      ? texts.allCompared(collection)
      : texts.someCompared(scored, collection, wholePercent(covered), points),
  ];
  if (unrelated) sentences.push(texts.strongMeans(unrelated));
  if (unrelated && unrelated < FEWEST) sentences.push(texts.strongNever);
  if (missing) sentences.push(texts.lost(missing));
  return sentences.join(" ");
}
