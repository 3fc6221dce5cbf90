/** How a picture is compared: timestep, filters and the settings behind them. */

import { byId, element } from "./dom.js";
import { Filters } from "./filters.js";
import { count, timestepWords } from "./words.js";

const STOPS = [5, 10, 20, 35, 50, 75, 100, 150, 200, 300, 400, 600, 800]; // timesteps that the slider offers
const CARRIED = ["seed", "draws", "temper", "candidates", "per_image_topk"]; // settings without a control
const WIDE = matchMedia("(min-width: 56rem)"); // as in style.css
const TOPS = [5, 10, 20, 50, 100];

export class Settings {
  /** @param {() => void} onAgain the person asks for the same picture to be compared again */
  constructor(onAgain) {
    this.form = byId("settings");
    this.slider = byId("timestep");
    this.asked = null; // settings of the answer that is shown, as text
    this.timesteps = null; // those of an opened answer that the slider cannot show
    this.carried = {}; // settings of an opened answer that have no control, so that it can be asked again alike
    this.filters = new Filters(() => this.changed());
    WIDE.addEventListener("change", () => {
      byId("how").open ||= WIDE.matches;
    });
    this.slider.max = STOPS.length - 1;
    this.slider.addEventListener("input", () => {
      this.timesteps = null;
    });
    this.form.addEventListener("input", () => this.changed());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      onAgain();
    });
  }

  /** What the collection offers, and its defaults. */
  describe(index) {
    const tops = TOPS.filter((top) => top <= Math.min(index.limits.top, index.images));
    if (!tops.length) tops.push(Math.min(index.limits.top, index.images)); // a tiny collection
    byId("top").replaceChildren(...tops.map((top) => element("option", { value: top }, count(top))));
    this.filters.describe(index);
    this.restore(index.defaults, index.defaults.top);
    this.forget();
  }

  /** Whether they can be asked with; if not, the person is shown why. */
  check() {
    if (this.filters.wrong.length) byId("how").open = true;
    return this.filters.check();
  }

  /** The settings as the server takes them. */
  get values() {
    return {
      ...this.carried,
      timestep: (this.timesteps ?? [STOPS[this.slider.value]]).join(","),
      top: Number(byId("top").value),
      noise: byId("noise").value,
      mode: byId("exact").checked ? "exact" : "ann",
      mirror: byId("mirror").checked,
      where: this.filters.where,
    };
  }

  /** Takes over the settings of an answer. */
  restore(settings, top) {
    const { timestep, noise, mode, mirror, where } = settings;
    const carried = CARRIED.filter((name) => (settings[name] ?? null) !== null);
    this.carried = Object.fromEntries(carried.map((name) => [name, settings[name]]));
    const timesteps = [timestep].flat();
    this.slider.value = closestStop(timesteps[0]);
    this.timesteps = timesteps.length === 1 && STOPS.includes(timesteps[0]) ? null : timesteps;
    byId("noise").value = noise;
    byId("exact").checked = mode === "exact";
    byId("mirror").checked = mirror;
    const offered = [...byId("top").options].map(({ value }) => Number(value));
    byId("top").value = offered.includes(top) ? top : (offered.find((value) => value >= top) ?? offered.at(-1));
    this.filters.restore(where ?? null);
    this.answered(this.values);
  }

  /** An answer to a question with these values is shown: on a narrow page it comes before the settings, which fold. */
  answered(values) {
    this.asked = JSON.stringify(values);
    byId("how").open = WIDE.matches;
    this.changed();
  }

  /** No answer is shown any more. */
  forget() {
    byId("how").open = true;
    this.carried = {};
    this.asked = null;
    this.changed();
  }

  changed() {
    const timesteps = this.timesteps ?? [STOPS[this.slider.value]];
    const words = `${timestepWords(timesteps[0])} (t = ${timesteps.join(", ")})`;
    byId("timestep-words").textContent = words;
    this.slider.setAttribute("aria-valuetext", words);
    const same = JSON.stringify(this.values) === this.asked && this.filters.wrong.length === 0;
    byId("again").disabled = this.asked === null || same;
  }
}

function closestStop(timestep) {
  const distances = STOPS.map((stop) => Math.abs(stop - timestep));
  return distances.indexOf(Math.min(...distances));
}
