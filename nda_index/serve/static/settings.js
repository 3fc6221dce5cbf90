/** How a picture is compared: recipe or timestep, filters and the settings behind them. */

import { byId, element } from "./dom.js";
import { Filters } from "./filters.js";
import { count, settings as texts } from "./texts.js";
import { depthWords } from "./words.js";

const STOPS = [5, 10, 20, 35, 50, 75, 100, 150, 200, 300, 400, 600, 800]; // timesteps that the slider offers
const CONTROLLED = ["recipe", "timestep", "top", "noise", "mode", "mirror", "where", "region"]; // settings with a control below
const OF_TIMESTEPS = ["draws", "temper"]; // settings that a recipe has itself
const ONE_DEPTH = ""; // value of the choice without a recipe
const FIRST_STOP = 100;
const WIDE = matchMedia("(min-width: 56rem)"); // as in style.css
const TOPS = [5, 10, 20, 50, 100];

export class Settings {
  /** @param {() => void} onAgain is called when the person wants the same picture compared again */
  constructor(onAgain) {
    this.form = byId("settings");
    this.slider = byId("timestep");
    this.recipe = byId("recipe");
    this.named = []; // the server's recipes: name, terms, title, summary
    this.shown = null; // settings of the answer on the page, as text
    this.uncontrolled = []; // names of the server's other settings
    this.timesteps = null; // those of an opened answer that the slider cannot show
    this.carried = {}; // their values in an opened answer, so that its question can be repeated as it was
    this.filters = new Filters(() => this.changed());
    WIDE.addEventListener("change", () => {
      byId("how").open ||= WIDE.matches;
    });
    this.slider.max = STOPS.length - 1;
    this.slider.addEventListener("input", () => {
      this.timesteps = null;
    });
    this.recipe.addEventListener("input", () => {
      for (const name of OF_TIMESTEPS) delete this.carried[name];
    });
    this.form.addEventListener("input", () => this.changed());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      onAgain();
    });
  }

  /** Takes over the server's settings, their bounds and defaults. */
  describe(index) {
    this.uncontrolled = Object.keys(index.defaults).filter((name) => !CONTROLLED.includes(name));
    const tops = TOPS.filter((top) => top <= Math.min(index.limits.top, index.images));
    if (!tops.length) tops.push(Math.min(index.limits.top, index.images)); // a tiny collection
    byId("top").replaceChildren(...tops.map((top) => element("option", { value: top }, count(top))));
    this.named = index.recipes;
    const recipes = this.named.map(({ name, title }) => element("option", { value: name }, title));
    this.recipe.replaceChildren(...recipes, element("option", { value: ONE_DEPTH }, texts.oneDepth));
    this.filters.describe(index);
    this.restore(index.defaults, index.defaults.top);
    this.forget();
  }

  /** Whether a question with these settings can be sent; if not, the person is shown why. */
  check() {
    if (this.filters.wrong.length) byId("how").open = true;
    return this.filters.check();
  }

  /** The settings as the server takes them. */
  get values() {
    return {
      ...this.carried,
      recipe: this.recipe.value || null,
      timestep: this.recipe.value ? null : this.depths.join(","),
      top: Number(byId("top").value),
      noise: this.recipe.value ? null : byId("noise").value,
      mode: byId("exact").checked ? "exact" : "ann",
      mirror: byId("mirror").checked,
      where: this.filters.where,
      region: byId("region").value.replaceAll(" ", "") || null,
    };
  }

  /** Goes over to a picture of another size. */
  scaleRegion(factor) {
    const field = byId("region");
    if (field.value) field.value = field.value.split(",").map((edge) => Math.round(edge * factor)).join(", ");
  }

  /** The timesteps that are looked at where there is no recipe. */
  get depths() {
    return this.timesteps ?? [STOPS[this.slider.value]];
  }

  /** Takes over the settings of an answer. */
  restore(settings, top) {
    const { timestep, noise, mode, mirror, where, region } = settings;
    this.chooseRecipe(settings);
    const carried = this.uncontrolled.filter((name) => (settings[name] ?? null) !== null);
    this.carried = Object.fromEntries(carried.map((name) => [name, settings[name]]));
    const timesteps = [timestep ?? FIRST_STOP].flat();
    this.slider.value = closestStop(timesteps[0]);
    this.timesteps = timesteps.length === 1 && STOPS.includes(timesteps[0]) ? null : timesteps;
    byId("noise").value = noise ?? "none";
    byId("exact").checked = mode === "exact";
    byId("mirror").checked = mirror;
    byId("region").value = region?.join(", ") ?? "";
    const offered = [...byId("top").options].map(({ value }) => Number(value));
    byId("top").value = offered.includes(top) ? top : (offered.find((value) => value >= top) ?? offered.at(-1));
    this.filters.restore(where ?? null);
    this.markShown(this.values);
  }

  /** Chooses the recipe of an answer; one that the server does not name, or not any more, is offered by its terms. */
  chooseRecipe({ recipe, timestep }) {
    const name = this.named.find(({ terms }) => terms === recipe)?.name;
    const wanted = timestep ? ONE_DEPTH : (name ?? recipe ?? this.named[0].name);
    const offered = [...this.recipe.options].some(({ value }) => value === wanted);
    if (!offered) this.recipe.prepend(element("option", { value: wanted }, wanted));
    this.recipe.value = wanted;
  }

  /** Notes that an answer with these settings is shown. On a narrow page it comes before the settings: fold them. */
  markShown(values) {
    this.shown = JSON.stringify(values);
    byId("how").open = WIDE.matches;
    this.changed();
  }

  /** Notes that the page shows no answer any more. */
  forget() {
    byId("how").open = true;
    byId("region").value = "";
    this.carried = {};
    this.shown = null;
    this.changed();
  }

  changed() {
    const words = depthWords(this.depths);
    byId("timestep-words").textContent = words;
    byId("recipe-words").textContent = this.named.find(({ name }) => name === this.recipe.value)?.summary ?? "";
    for (const part of [byId("depth"), byId("noise").parentElement]) part.hidden = this.recipe.value !== ONE_DEPTH;
    this.slider.setAttribute("aria-valuetext", words);
    const same = JSON.stringify(this.values) === this.shown && this.filters.wrong.length === 0;
    byId("again").disabled = this.shown === null || same;
  }
}

function closestStop(timestep) {
  const distances = STOPS.map((stop) => Math.abs(stop - timestep));
  return distances.indexOf(Math.min(...distances));
}
