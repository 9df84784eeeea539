/** A small line chart that draws itself from the newest samples. */
import { element, shape } from "./element.js";

const WIDTH = 240;
const HEIGHT = 56;
const SAMPLES_MAX = 150;
const SAMPLES_SPREAD = 10;

export class Sparkline {
  node;
  #samples = [];
  #format;
  #label;
  #value = element("strong");
  #note = element("span", { class: "hint" });
  #line = shape("path", { class: "line" });
  #area = shape("path", { class: "area" });
  #tip = shape("circle", { class: "tip", r: 3 });
  #svg;

  /** `format` turns a sample into what people read. */
  constructor(label, format) {
    this.#label = label;
    this.#format = format;
    this.#svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, this.#area, this.#line, this.#tip);
    this.node = element("figure", { class: "chart" }, element("figcaption", {}, label), this.#value, this.#note, this.#svg);
    this.draw();
  }

  /** A sample that is no number leaves a pause as it was: the last one goes on. */
  push(sample, note = "") {
    if (Number.isFinite(sample)) {
      this.#samples.push(sample);
      if (this.#samples.length > SAMPLES_MAX) this.#samples.shift();
    }
    this.#note.textContent = note;
    this.draw();
  }

  draw() {
    const samples = this.#samples;
    const last = samples.at(-1);
    this.#value.textContent = last === undefined ? "–" : this.#format(last);
    this.#tip.setAttribute("visibility", last === undefined ? "hidden" : "visible");
    if (last === undefined) return;
    const top = Math.max(...samples) || 1;
    // The newest stands at the right edge; a few samples are spread, many are drawn together.
    const step = (WIDTH - 8) / Math.max(samples.length - 1, SAMPLES_SPREAD);
    const x = (index) => WIDTH - 4 - (samples.length - 1 - index) * step;
    const y = (sample) => HEIGHT - 4 - (sample / top) * (HEIGHT - 12);
    const points = samples.map((sample, index) => [x(index), y(sample)]);
    const path = points.map(([px, py], index) => `${index ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
    this.#line.setAttribute("d", path);
    this.#area.setAttribute("d", `${path}L${points.at(-1)[0].toFixed(1)} ${HEIGHT}L${points[0][0].toFixed(1)} ${HEIGHT}Z`);
    this.#tip.setAttribute("cx", x(samples.length - 1));
    this.#tip.setAttribute("cy", y(last));
    this.#svg.setAttribute("aria-label", `${this.#label}: now ${this.#format(last)}, highest ${this.#format(top)}`);
  }
}
