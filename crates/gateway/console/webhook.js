/** One webhook, live: its deliveries, each with its answer; send again, send a test, pause and resume. */
import { byId, element } from "./element.js";
import { drawList, moveByArrows, setText } from "./keyed.js";
import { Live } from "./live.js";
import { clear, explain, noticePlace } from "./notices.js";
import { jsonText, oneLine, perhapsJson, textBlock } from "./outside-text.js";
import { actionButton, facts, Pager, problemPlace, setState, stateTag, tell } from "./parts.js";
import { ago, exactTime } from "./time.js";
import { drawTags, WebhookButtons, webhookTags } from "./webhook-parts.js";
import { aboutText, SCOPES } from "./webhooks.js";

const PAGE_DELIVERIES = 50;

export function showWebhook(api, client, router) {
  const view = new WebhookView(api, client, router);
  return { watch: (id) => view.watch(id) };
}

class WebhookView {
  #api;
  #client;
  #id = null;
  #loadedAt = null;
  #live;
  #buttons;
  #pager = new Pager(() => this.#live.refresh());
  #title = element("h2", { class: "url", tabindex: "-1" });
  #tags = webhookTags();
  #buttonPlace = element("div");
  #about = element("p", { class: "hint" });
  #notice = noticePlace();
  #problem = problemPlace();
  #outcome = element("p", { class: "outcome" });
  #list = element("ul", { class: "rows", "aria-label": "Deliveries" });
  #empty = element("p", { class: "notice", hidden: true }, "Nothing was sent to this webhook yet. Send a test to see whether its backend answers.");
  #body = element("div", { hidden: true }, element("h3", { class: "list-title" }, "Deliveries"), this.#empty, this.#list, this.#pager.node);

  constructor(api, client, router) {
    this.#api = api;
    this.#client = client;
    this.#live = new Live({ load: () => this.#load(), draw: (found) => this.#draw(found), fail: (error) => this.#fail(error) });
    moveByArrows(this.#list, "summary");
    byId("view-webhook").replaceChildren(
      element("div", { class: "nodes-head" },
        element("button", { type: "button", class: "quiet back-to", onclick: () => router.closeDetails() }, "← All webhooks"),
        element("div", { class: "title-row" }, this.#title, this.#tags.node, this.#buttonPlace), this.#about),
      this.#problem, this.#outcome, this.#notice, this.#body,
    );
  }

  /** Shows a webhook; null hides the view. */
  watch(id) {
    if (id === null) return this.#live.watch(false);
    const isNew = id !== this.#id;
    if (isNew) {
      this.#id = id;
      byId("view-webhook").scrollTop = 0;
      this.#loadedAt = null;
      this.#pager.reset();
      this.#problem.textContent = this.#outcome.textContent = "";
      clear(this.#notice);
      setText(this.#title, "Webhook");
      setText(this.#about, id.slice(0, 100));
      this.#buttons = new WebhookButtons(this.#api, id, this.#problem, (text) => this.#done(text));
      this.#buttonPlace.replaceChildren(this.#buttons.node);
      this.#hide(true);
      drawList(this.#list, [], String, null);
    }
    if (isNew || !this.#live.isShown) this.#title.focus({ preventScroll: true });
    return this.#live.watch(true);
  }

  async #load() {
    const [webhook, page] = await Promise.all([this.#api.webhook(this.#id), this.#api.deliveries(this.#id, this.#pager.cursor, PAGE_DELIVERIES)]);
    return { webhook, page };
  }

  #hide(hidden) {
    this.#body.hidden = this.#buttonPlace.hidden = this.#tags.node.hidden = hidden;
  }

  #draw({ webhook, page: { deliveries, next } }) {
    this.#loadedAt = Date.now();
    clear(this.#notice);
    this.#hide(false);
    setText(this.#title, oneLine(webhook.url, 2048));
    drawTags(this.#tags, webhook);
    setText(this.#about, aboutText(webhook));
    this.#buttons.draw(webhook);
    this.#empty.hidden = deliveries.length > 0;
    this.#pager.draw(next);
    const context = { api: this.#api, webhook: this.#id, done: (text) => this.#done(text) };
    drawList(this.#list, deliveries, ({ delivery }) => delivery, ({ delivery }) => deliveryRow(context, delivery));
  }

  #fail(error) {
    if (error.status === 404) {
      this.#hide(true);
      this.#notice.replaceChildren("This webhook does not exist, or does not any more. A backend that answers 410 removes its webhook.");
    } else explain(this.#notice, error, { what: "Webhooks", scopes: SCOPES, user: this.#client.user, loadedAt: this.#loadedAt });
  }

  #done(text) {
    tell(this.#outcome, text);
    return this.#live.refresh();
  }
}

function deliveryRow({ api, webhook, done }, id) {
  const state = stateTag("waiting");
  const type = element("span", { class: "row-title" });
  const answered = element("span", { class: "row-note" });
  const tries = element("span", { class: "row-figure" });
  const when = element("time", { class: "row-figure" });
  const summary = element("summary", { class: "row-link" }, state, element("span", { class: "row-what" }, type, answered), tries, when);
  const details = new DeliveryDetails(api, webhook, id, done);
  const node = element("li", { "data-delivery": id }, element("details", { ontoggle: ({ target }) => details.open(target.open) }, summary, details.node));
  const draw = (now) => {
    setState(state, now.state);
    setText(type, now.type);
    setText(answered, answerText(now));
    setText(tries, now.attempts === 1 ? "1 attempt" : `${now.attempts} attempts`);
    const at = now.attempted_at ?? now.at;
    setText(when, ago(at));
    when.dateTime = at;
    when.title = exactTime(at);
    details.draw(now);
  };
  return { node, draw };
}

/** "answered 200", "the answer was 503", "not sent yet". */
function answerText({ status, reason, attempts }) {
  if (reason) return oneLine(reason);
  if (attempts === 0) return "not sent yet";
  return status ? `answered ${status}` : "no answer";
}

/** What is shown of a delivery when its row is open. */
class DeliveryDetails {
  node;
  #api;
  #webhook;
  #id;
  #answer = null; // the text that is drawn
  #facts = facts("Event", "Happened", "Attempted", "Status");
  #answerPlace = element("div");
  #bodyPlace = element("div", {}, element("p", { class: "hint" }, "Loading …"));
  #hasBody = false;
  #problem = problemPlace();
  #again;

  constructor(api, webhook, id, done) {
    this.#api = api;
    this.#webhook = webhook;
    this.#id = id;
    this.#again = actionButton("Send again", async () => {
      await api.resend(webhook, id);
      await done("The event is sent again.");
    }, this.#problem);
    this.node = element("div", { class: "delivery-details" },
      this.#facts.node, element("div", { class: "actions" }, this.#again), this.#problem,
      element("h4", {}, "Its answer"), this.#answerPlace, element("h4", {}, "What is sent"), this.#bodyPlace);
  }

  /** The body of a delivery is loaded when somebody wants to see it. It never changes. */
  async open(isOpen) {
    if (!isOpen || this.#hasBody) return;
    try {
      const { body } = await this.#api.delivery(this.#webhook, this.#id);
      this.#bodyPlace.replaceChildren(textBlock(jsonText(body), "What is sent"));
      this.#hasBody = true;
    } catch (error) {
      this.#bodyPlace.replaceChildren(element("p", { class: "error" }, `It could not be loaded: ${error.message}`));
    }
  }

  draw(now) {
    this.#facts.draw(this.#id, exactTime(now.at), now.attempted_at ? exactTime(now.attempted_at) : "not yet", now.status ? String(now.status) : null);
    this.#again.hidden = now.state === "waiting";
    if (now.answer === this.#answer) return;
    this.#answer = now.answer;
    const none = element("p", { class: "hint" }, now.attempted_at ? "No text." : "None yet.");
    this.#answerPlace.replaceChildren(now.answer ? textBlock(perhapsJson(now.answer), "Answer of the backend") : none);
  }
}
