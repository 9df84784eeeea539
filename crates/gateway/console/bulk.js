/** Actions on all jobs that match a filter. Each asks first, and says how many jobs there are. */
import { confirm } from "./dialogs.js";
import { element } from "./element.js";
import { actionButton, counted, problemPlace, tell } from "./parts.js";

const ACTIONS = {
  retry: {
    label: "Retry all", states: ["failed", "cancelled"], verb: "Retry", done: (count) => `${count} ready again.`,
    what: "They become ready, and may be tried as often as new ones.",
  },
  cancel: {
    label: "Cancel all", states: ["scheduled", "ready", "running"], verb: "Cancel", done: (count) => `${count} cancelled.`,
    what: "Workers that have one of them lose it.",
  },
  discard: {
    label: "Discard all", states: ["scheduled", "ready", "done", "failed", "cancelled"], verb: "Discard", done: (count) => `${count} discarded.`,
    what: "Nothing is kept of them, and this can’t be undone.", danger: true,
  },
};

export class Bulk {
  node;
  #api;
  #refresh;
  #filter = {};
  #hint = element("p", { class: "hint" });
  #problem = problemPlace();
  #outcome = element("p", { class: "outcome" });
  #buttons;

  /** `refresh` is called after an action. */
  constructor(api, refresh) {
    this.#api = api;
    this.#refresh = refresh;
    this.#buttons = Object.entries(ACTIONS).map(([name, action]) =>
      actionButton(action.label, () => this.#ask(name, action), this.#problem, { class: action.danger ? "danger" : null, "data-action": name }));
    this.node = element("div", { class: "bulk", hidden: true }, ...this.#buttons, this.#hint, this.#outcome, this.#problem);
  }

  show(shown) {
    this.node.hidden = !shown;
  }

  /** Without jobs there is nothing to act on. */
  setEmpty(isEmpty) {
    for (const button of this.#buttons) button.disabled = isEmpty;
  }

  choose(filter) {
    this.#filter = filter;
    this.#outcome.textContent = this.#problem.textContent = "";
    const chosen = filter.queue && filter.state;
    for (const button of this.#buttons) button.hidden = !chosen || !ACTIONS[button.dataset.action].states.includes(filter.state);
    this.#hint.hidden = Boolean(chosen);
    this.#hint.textContent = "Choose a queue and a state to retry, cancel or discard all jobs that match.";
  }

  async #ask(name, action) {
    const filter = this.#filter;
    this.#outcome.textContent = "";
    const { count, more } = await this.#api.countJobs(filter);
    if (count === 0) return tell(this.#outcome, "No job matches any more.");
    const number = `${more ? "more than " : ""}${counted(count, "job")}`;
    return confirm({
      title: `${action.verb} ${number}?`,
      text: `Those of the queue ${filter.queue} that are ${filter.state}${filter.kind ? `, of the kind ${filter.kind}` : ""}. ${action.what}`,
      action: `${action.verb} ${number}`,
      dismiss: "Go back",
      run: async () => {
        const changed = await this.#api.actOnJobs(name, filter).catch((error) => {
          // A node goes on with what it has begun.
          throw error.name === "TimeoutError" ? new Error("This takes long. The node goes on with it; the list shows how far it is.") : error;
        });
        tell(this.#outcome, action.done(counted(changed, "job")));
        this.#refresh();
      },
    });
  }
}
