/** An answer as a whole: the verdict first, then figures, then how complete it is. */

import { byId, element } from "./dom.js";
import { showPieces } from "./pieces.js";
import { explanation, FEWEST, headline } from "./verdict.js";
import { comparedWords, count, margin, percent, plural, shareMargin, valueText } from "./words.js";

export function showSummary(answer) {
  byId("verdict").textContent = headline(answer);
  byId("verdict-words").replaceChildren(...explanation(answer));
  showPieces(answer);
  byId("compared").textContent = questionWords(answer);
  byId("figures").replaceChildren(...figures(answer));
  byId("complete").textContent = completeWords(answer);
  const facts = [
    ...Object.entries(answer.settings)
      .filter(([, value]) => value !== null)
      .map(([setting, value]) => [setting.replaceAll("_", " "), value]),
    ["index hash", answer.index_hash],
    ["nda-index", answer.version],
    ["seconds", secondsWords(answer.seconds)],
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
  const parts = [`Compared with ${plural(collection, "image")}`, comparedWords(settings)];
  if (settings.where) parts.push(`only where ${settings.where}`);
  if ((settings.temper ?? 1) !== 1) parts.push(`temper ${settings.temper}`);
  if (settings.mirror) parts.push("mirrored too");
  return parts.join(" · ");
}

function figures(answer) {
  const [best] = answer.images;
  const groups = new Set(answer.images.filter(({ verdict }) => verdict?.strong).map(({ group }) => group));
  const strong = answer.images.filter(({ group }) => groups.has(group)); // with their near-duplicates
  const facts = [
    strong.length
      ? [
          `goes to the strong match${groups.size > 1 ? "es" : ""}`,
          sumOf(strong),
          strong.length > 1 ? null : shareMargin(strong[0]),
        ]
      : ["goes to the best match", best.share, shareMargin(best)],
    [`goes to the ${count(answer.images.length)} shown`, sumOf(answer.images), null],
    ["of all likeness compared in detail", answer.mass_covered, answer.mass_error > 0 ? 2 * answer.mass_error : null],
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
  const { scored, collection, missing, mass_covered: covered, mass_error: error } = answer;
  const lost = missing
    ? ` ${plural(missing, "image")} could not be compared: the machine that holds them was lost.`
    : "";
  const strong = answer.null_pictures
    ? " A match is called strong if it fits better than the best match of 99% of " +
      `${count(answer.null_pictures)} unrelated pictures does.` +
      (answer.null_pictures < FEWEST ? " With so few of them none can be." : "")
    : "";
  if (scored >= collection) return `All ${plural(collection, "image")} were compared in every detail.${strong}${lost}`;
  const off = plural(Math.max(Math.round(200 * error), 1), "point");
  return (
    `${count(scored)} of ${count(collection)} images were compared in every detail: ` +
    "those that a fast search found most alike. Judged by a sample of the others, they hold " +
    `${(100 * covered).toFixed(0)}% (give or take ${off}) of all likeness. ` +
    `Shares are parts of the likeness of the whole collection.${strong}${lost}`
  );
}
