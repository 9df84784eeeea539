/** Small parts that the pages of queues, jobs and webhooks share. */
import { announce, element } from "./element.js";
import { setText } from "./keyed.js";

const TONES = {
  scheduled: "calm", ready: "accent", running: "busy", done: "good", failed: "bad", cancelled: "calm",
  lost: "bad", handed_back: "calm",
  waiting: "accent", delivered: "good", paused: "accent", failing: "bad",
};

/** A tag with a state. */
export function stateTag(state) {
  const node = element("span", { class: "tag state" });
  setState(node, state);
  return node;
}

export function setState(node, state) {
  setText(node, state.replace("_", " "));
  node.dataset.tone = TONES[state] ?? "calm";
  node.dataset.state = state;
}

/** Facts with their names, whose values change. `draw` takes the values in the order of the names; null hides a fact. */
export function facts(...names) {
  const values = names.map(() => element("dd"));
  const node = element("dl", { class: "facts" }, ...names.map((name, index) => element("div", {}, element("dt", {}, name), values[index])));
  const draw = (...texts) => texts.forEach((text, index) => {
    const value = values[index];
    value.parentNode.hidden = text === null || text === undefined;
    if (text instanceof Node) value.firstChild?.isEqualNode(text) || value.replaceChildren(text);
    else setText(value, text ?? "");
  });
  return { node, draw };
}

/** A button that does something that may fail. It can't be pressed again meanwhile; `problem` is where an error is shown. */
export function actionButton(label, run, problem, properties = {}) {
  const button = element("button", {
    type: "button",
    ...properties,
    onclick: async () => {
      button.setAttribute("aria-disabled", "true");
      if (button.dataset.busy) return;
      button.dataset.busy = "yes";
      problem.textContent = "";
      try {
        await run();
      } catch (error) {
        problem.textContent = error.message;
      } finally {
        delete button.dataset.busy;
        button.removeAttribute("aria-disabled");
      }
    },
  }, label);
  return button;
}

/** A place for the error of an action. */
export const problemPlace = () => element("p", { class: "error", role: "alert" });

/** Says what an action did, on the page and to screen readers. */
export function tell(place, text) {
  place.textContent = text;
  announce(text);
}

/** Buttons that turn the pages of a list. `turn` is called after each turn; `cursor` is that of the page to load. */
export class Pager {
  node;
  #cursors = [""]; // of the pages up to the present one
  #next = null;
  #newer;
  #older;

  constructor(turn) {
    this.#newer = element("button", { type: "button", class: "quiet", onclick: () => this.#cursors.length > 1 && (this.#cursors.pop(), turn()) }, "← Newer");
    this.#older = element("button", { type: "button", class: "quiet", onclick: () => this.#next && (this.#cursors.push(this.#next), turn()) }, "Older →");
    this.node = element("nav", { class: "pager", "aria-label": "Pages" }, this.#newer, this.#older);
  }

  get cursor() {
    return this.#cursors.at(-1);
  }

  get isFirst() {
    return this.#cursors.length === 1;
  }

  reset() {
    this.#cursors = [""];
    this.#next = null;
  }

  /** Takes note of where the page after the one that is shown begins. */
  draw(next) {
    this.#next = next;
    this.#newer.disabled = this.isFirst;
    this.#older.disabled = !next;
    this.node.hidden = this.isFirst && !next;
  }
}

/** "1 job", "1,234 jobs". */
export function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}
