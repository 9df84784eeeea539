/** Small line chart of the last minutes, with the value of its top line and the age of its left edge. */
import { element, shape } from "./element.js";

const WIDTH = 240;
const HEIGHT = 56;
/** Possible ages of the left edge in minutes. The chart uses the first one that covers all samples. */
const SPANS_MIN = [1, 2, 5];
const SPAN_MS_MAX = SPANS_MIN.at(-1) * 60_000;
/** Most samples that are kept: more than the polls of that time produce. */
const SAMPLES_MAX = 600;
/** A value older than this is not shown as current. */
const STALE_MS = 30_000;

export class Sparkline {
  node;
  #samples = []; // { at, value }, oldest first
  #format;
  #label;
  #unit;
  #value = element("strong");
  #note = element("span", { class: "hint" });
  #line = shape("path", { class: "line" });
  #area = shape("path", { class: "area" });
  #tip = shape("circle", { class: "tip", r: 3 });
  #top = element("span", { class: "scale top" });
  #zero = element("span", { class: "scale zero" });
  #past = element("span", { class: "scale past" });
  #svg;

  /** `format` converts a sample to text. `unit` is appended if the label does not name the unit. */
  constructor(label, format, { unit = "" } = {}) {
    this.#label = label;
    this.#format = format;
    this.#unit = unit;
    const grid = [0.5, HEIGHT / 2, HEIGHT - 0.5].map((y) => shape("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y }));
    this.#svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, ...grid, this.#area, this.#line, this.#tip);
    const plot = element("div", { class: "plot" },
      this.#svg, this.#top, this.#zero, this.#past, element("span", { class: "scale now" }, "now"));
    this.node = element("figure", { class: "chart" }, element("figcaption", {}, label), this.#value, this.#note, plot);
    this.draw();
  }

  /** Adds a sample. A sample that is not a number leaves a gap. */
  push(sample, note = "") {
    const now = Date.now();
    if (Number.isFinite(sample)) this.#samples.push({ at: now, value: sample });
    while (this.#samples.length > SAMPLES_MAX || this.#samples[0]?.at < now - SPAN_MS_MAX) this.#samples.shift();
    this.#note.textContent = note;
    this.draw();
  }

  draw() {
    const now = Date.now();
    const samples = this.#samples;
    const last = samples.at(-1);
    const current = last && last.at > now - STALE_MS;
    this.#value.textContent = current ? this.#withUnit(last.value) : "–";
    this.#tip.setAttribute("visibility", current ? "visible" : "hidden");
    const top = niceCeiling(Math.max(0, ...samples.map(({ value }) => value)));
    const minutes = SPANS_MIN.find((span) => !(samples[0]?.at < now - span * 60_000)) ?? SPANS_MIN.at(-1);
    this.#top.textContent = samples.length ? this.#withUnit(top) : "";
    this.#zero.textContent = samples.length ? "0" : "";
    this.#past.textContent = `${minutes} min ago`;
    const x = ({ at }) => WIDTH - 4 - ((now - at) / (minutes * 60_000)) * (WIDTH - 4);
    const y = ({ value }) => HEIGHT - 1 - (value / top) * (HEIGHT - 2);
    const points = samples.map((sample) => `${x(sample).toFixed(1)} ${y(sample).toFixed(1)}`);
    const path = points.length ? `M${points.join("L")}` : "";
    this.#line.setAttribute("d", path);
    this.#area.setAttribute("d", path && `${path}L${x(last).toFixed(1)} ${HEIGHT}L${x(samples[0]).toFixed(1)} ${HEIGHT}Z`);
    if (last) {
      this.#tip.setAttribute("cx", x(last));
      this.#tip.setAttribute("cy", y(last));
    }
    const words = current ? `now ${this.#withUnit(last.value)}, scale from 0 to ${this.#withUnit(top)}, last ${minutes} min` : "no recent measurements";
    this.#svg.setAttribute("aria-label", `${this.#label}: ${words}`);
  }

  #withUnit(value) {
    return this.#format(value) + this.#unit;
  }
}

/** Rounds up to 1, 2, 5, 10, 20, 50 …, for a readable scale. */
function niceCeiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}
