/** Keeps a view up to date while it is shown: asks every two seconds, one question at a time. */

const POLL_MS = 2000;

export class Live {
  #load;
  #draw;
  #fail;
  #timer = null;
  #run = 0; // rises when the view is shown, hidden or refreshed, so that late answers are dropped
  #shown = false;

  /** `load` returns a promise. `draw` is called with what it resolves to, `fail` with its error. */
  constructor({ load, draw, fail }) {
    this.#load = load;
    this.#draw = draw;
    this.#fail = fail;
    document.addEventListener("visibilitychange", () => this.#shown && !document.hidden && this.refresh());
  }

  get isShown() {
    return this.#shown;
  }

  watch(shown) {
    this.#shown = shown;
    if (shown) return this.refresh();
    this.#run++;
    clearTimeout(this.#timer);
    return undefined;
  }

  /** Asks at once. Answers to earlier questions are dropped. */
  async refresh() {
    if (!this.#shown) return;
    const run = ++this.#run;
    clearTimeout(this.#timer);
    const { answer, error } = await this.#load().then((answer) => ({ answer }), (error) => ({ error }));
    if (run !== this.#run) return;
    // Asking once more does not give the token another scope.
    if (error?.status !== 401 && error?.status !== 403) this.#timer = setTimeout(() => this.#tick(), POLL_MS);
    if (error) this.#fail(error);
    else this.#draw(answer);
  }

  #tick() {
    // A page that nobody sees asks nothing, until it is seen.
    if (!document.hidden) this.refresh();
  }
}
