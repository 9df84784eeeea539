/** Live list of the webhooks: where each leads, whether it is paused, what its backend answered last. */
import { byId, element } from "./element.js";
import { drawList, setText } from "./keyed.js";
import { Live } from "./live.js";
import { clear, explain, noticePlace } from "./notices.js";
import { oneLine } from "./outside-text.js";
import { counted, problemPlace, tell } from "./parts.js";
import { hrefs } from "./router.js";
import { ago } from "./time.js";
import { drawTags, WebhookButtons, webhookTags } from "./webhook-parts.js";

export const SCOPES = ["webhooks"];

export function showWebhooks(api, client) {
  const list = element("ul", { class: "webhook-list" });
  const notice = noticePlace();
  const about = element("p", { class: "hint" });
  const empty = element("p", { class: "notice", hidden: true },
    "There is no webhook. A backend that wants to hear what happens gets one with ", element("code", {}, "POST /v1/webhooks"), ".");
  byId("view-webhooks").replaceChildren(element("div", { class: "nodes-head" }, element("h2", {}, "Webhooks"), about), notice, empty, list);
  let loadedAt = null;
  const live = new Live({
    load: () => api.webhooks(),
    draw: ({ webhooks }) => {
      loadedAt = Date.now();
      clear(notice);
      setText(about, `Backends that are told what happens${client.tenant ? `, in the tenant ${client.tenant}` : ""}; updated every two seconds.`);
      empty.hidden = webhooks.length > 0;
      drawList(list, webhooks, ({ webhook }) => webhook, ({ webhook }) => webhookCard(api, webhook, () => live.refresh()));
    },
    fail: (error) => explain(notice, error, { what: "Webhooks", scopes: SCOPES, user: client.user, loadedAt }),
  });
  return { watch: (shown) => live.watch(shown) };
}

function webhookCard(api, id, refresh) {
  const url = element("a", { class: "url", href: hrefs.webhook(id) });
  const tags = webhookTags();
  const about = element("p", { class: "hint" });
  const answers = element("ol", { class: "answers", "aria-label": "Last answers, the newest first" });
  const none = element("p", { class: "hint" }, "No attempt yet.");
  const problem = problemPlace();
  const outcome = element("p", { class: "outcome" });
  const buttons = new WebhookButtons(api, id, problem, async (text) => {
    tell(outcome, text);
    await refresh();
  });
  const node = element("li", { class: "card webhook", "data-webhook": id },
    element("div", { class: "card-head" }, element("h3", {}, url, tags.node), buttons.node),
    about, element("div", { class: "answers-row" }, element("span", { class: "hint" }, "Last answers"), answers, none), outcome, problem);
  const draw = (webhook) => {
    setText(url, oneLine(webhook.url, 300));
    drawTags(tags, webhook);
    setText(about, aboutText(webhook));
    buttons.draw(webhook);
    none.hidden = webhook.recent.length > 0;
    drawList(answers, webhook.recent, ({ delivery, attempted_at: at }) => `${delivery} ${at}`, answerItem);
  };
  return { node, draw };
}

/** What a webhook wants, and how many deliveries wait. */
export function aboutText({ events, waiting, failing_since: failingSince }) {
  return [
    events.length === 1 && events[0] === "*" ? "all events" : events.join(", "),
    waiting > 0 && `${counted(waiting, "delivery", "deliveries")} waiting`,
    failingSince && `all attempts fail, the first one ${ago(failingSince)}`,
  ].filter(Boolean).join(" · ");
}

/** The answer to an attempt, as short as it can be. */
function answerItem({ status, reason, type, state, attempted_at: at }) {
  const good = state === "delivered";
  const words = `${type}: ${good ? "delivered" : reason ? oneLine(reason) : "failed"}, ${ago(at)}`;
  const node = element("li", { class: "answer", "data-tone": good ? "good" : "bad", title: words },
    element("span", { "aria-hidden": "true" }, status ? String(status) : "none"), element("span", { class: "hidden" }, words));
  return { node, draw: () => {} };
}
