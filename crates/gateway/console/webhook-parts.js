/** What the list of webhooks and the page of one have in common. */
import { element } from "./element.js";
import { setText } from "./keyed.js";
import { actionButton } from "./parts.js";

const tag = (text, tone) => element("span", { class: "tag state", "data-tone": tone, hidden: true }, text);

/** Tags that say how a webhook is. */
export function webhookTags() {
  const tags = { active: tag("active", "good"), paused: tag("paused", "accent"), failing: tag("failing", "bad"), ordered: tag("ordered", "calm") };
  return { ...tags, node: element("span", { class: "tags" }, ...Object.values(tags)) };
}

export function drawTags(tags, webhook) {
  const failing = webhook.failing_since !== undefined;
  tags.paused.hidden = webhook.state !== "paused";
  tags.failing.hidden = !failing;
  tags.active.hidden = webhook.state !== "active" || failing;
  tags.ordered.hidden = !webhook.ordered;
}

/** The buttons of a webhook: test, pause, resume. */
export class WebhookButtons {
  node;
  #paused = false;
  #waiting = 0;
  #toggle;
  #test;

  /** `done` is called with a sentence about what was done. */
  constructor(api, id, problem, done) {
    this.#test = actionButton("Send a test", async () => {
      await api.testWebhook(id);
      await done("A test is on its way.");
    }, problem);
    this.#toggle = actionButton("Pause", async () => {
      const pause = !this.#paused;
      const missed = this.#waiting;
      await api.pauseWebhook(id, pause);
      const what = missed > 0 ? "Resumed: what it has missed is sent now." : "Resumed.";
      await done(pause ? "Paused: deliveries wait until it is resumed." : what);
    }, problem);
    this.node = element("div", { class: "actions" }, this.#test, this.#toggle);
  }

  draw({ state, waiting, url }) {
    this.#paused = state === "paused";
    this.#waiting = waiting;
    this.#test.disabled = this.#paused;
    this.#test.title = this.#paused ? "Resume the webhook first" : "";
    this.#toggle.classList.toggle("primary", this.#paused);
    setText(this.#toggle, this.#paused ? "Resume" : "Pause");
    this.#toggle.setAttribute("aria-label", `${this.#paused ? "Resume" : "Pause"} ${url}`);
    this.#test.setAttribute("aria-label", `Send a test to ${url}`);
  }
}
