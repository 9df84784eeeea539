/** Live view of the queues: their jobs by state, how long the first one has waited, how fast they are worked off; pause and resume. */
import { byId, element } from "./element.js";
import { drawList, setText } from "./keyed.js";
import { Live } from "./live.js";
import { clear, explain, noticePlace } from "./notices.js";
import { actionButton, problemPlace } from "./parts.js";
import { hrefs } from "./router.js";
import { Sparkline } from "./sparkline.js";
import { briefly, lasting } from "./time.js";

const SCOPES = ["operate", "jobs:*"];
/** Whose jobs nodes do themselves; nobody sees them. */
const INTERNAL = "starling.";
/** The states whose jobs are counted; the ready ones have a chart. */
const STATES = ["running", "scheduled", "failed", "done", "cancelled"];
const whole = (value) => Math.round(value).toLocaleString("en");
const rate = (value) => (value > 0 && value < 10 ? value.toFixed(value < 1 ? 2 : 1) : whole(value));

export function showQueues(api, client) {
  const list = element("ul", { class: "node-grid" });
  const notice = noticePlace();
  const about = element("p", { class: "hint" });
  const empty = element("p", { class: "notice", hidden: true },
    "No queue has jobs, and none is paused. A queue is there as soon as a job is added to it, with ", element("code", {}, "POST /v1/jobs"), ".");
  const charts = {
    ready: new Sparkline("Ready", whole),
    running: new Sparkline("Running", whole),
    done: new Sparkline("Done per second", rate, { unit: " /s" }),
    oldest: new Sparkline("Longest wait", briefly),
  };
  byId("view-queues").replaceChildren(
    element("div", { class: "nodes-head" }, element("h2", {}, "Queues"), about),
    element("div", { class: "charts" }, ...Object.values(charts).map(({ node }) => node)),
    notice, empty, list,
  );
  let loadedAt = null;
  const live = new Live({
    load: () => api.queues(),
    draw: ({ queues, next }) => {
      loadedAt = Date.now();
      clear(notice);
      const more = next ? " The first 200 are shown." : "";
      setText(about, `Where jobs wait for workers${client.tenant ? `, in the tenant ${client.tenant}` : ""}; updated every two seconds.${more}`);
      empty.hidden = queues.length > 0;
      drawTotals(charts, queues);
      drawList(list, queues, ({ queue }) => queue, ({ queue }) => queueCard(api, queue, () => live.refresh()));
    },
    fail: (error) => explain(notice, error, { what: "Queues", scopes: SCOPES, user: client.user, loadedAt }),
  });
  return { watch: (shown) => live.watch(shown) };
}

function drawTotals(charts, queues) {
  const sum = (field) => queues.reduce((total, queue) => total + queue[field], 0);
  const many = queues.length === 1 ? "in one queue" : `in ${queues.length} queues`;
  charts.ready.push(sum("ready"), many);
  charts.running.push(sum("running"), "with workers");
  charts.done.push(sum("done_per_second"), "by all workers");
  const slowest = queues.filter(({ oldest_ready_seconds: waited }) => waited !== null).sort((one, other) => other.oldest_ready_seconds - one.oldest_ready_seconds)[0];
  charts.oldest.push((slowest?.oldest_ready_seconds ?? 0) * 1000, slowest ? `in ${slowest.queue}` : "nothing waits");
}

function queueCard(api, name, refresh) {
  const internal = name.startsWith(INTERNAL);
  const paused = element("span", { class: "tag state", "data-tone": "accent" }, "paused");
  const own = element("span", { class: "tag state", "data-tone": "calm", title: "Nodes do these jobs themselves" }, "internal");
  const about = element("p", { class: "hint" });
  const limits = element("p", { class: "hint limits", title: "Limits hold over all nodes and tenants" });
  const ready = new Sparkline("Ready", whole);
  const counts = STATES.map((state) => {
    const filter = { queue: name, state };
    const value = internal ? element("span") : element("a", { href: hrefs.jobs(filter) });
    return { state, value, node: element("div", {}, element("dt", {}, state), element("dd", {}, value)) };
  });
  const pace = element("span", { class: "count" });
  const problem = problemPlace();
  let isPaused = false;
  const toggle = actionButton("Pause", async () => {
    await api.pauseQueue(name, !isPaused);
    await refresh();
  }, problem);
  const chart = internal ? ready.node : element("a", { class: "chart-link", href: hrefs.jobs({ queue: name, state: "ready" }), "aria-label": `Ready jobs of ${name}` }, ready.node);
  const title = internal ? element("span", {}, name) : element("a", { href: hrefs.jobs({ queue: name }) }, name);
  const node = element("li", { class: "card node queue", "data-queue": name },
    element("div", { class: "card-head" }, element("h3", {}, title, paused, internal && own), toggle),
    about, limits, chart, element("dl", {}, ...counts.map((count) => count.node), element("div", {}, element("dt", {}, "done /s"), element("dd", {}, pace))), problem);
  const draw = (queue) => {
    isPaused = queue.paused;
    paused.hidden = !queue.paused;
    setText(toggle, queue.paused ? "Resume" : "Pause");
    toggle.setAttribute("aria-label", `${queue.paused ? "Resume" : "Pause"} ${name}`);
    const waited = queue.oldest_ready_seconds;
    setText(about, waited === null ? "nothing waits" : `the first has waited ${lasting(waited * 1000)}`);
    setText(pace, rate(queue.done_per_second));
    limits.hidden = !queue.limits;
    setText(limits, queue.limits ? `at most ${limitsAsText(queue.limits)}` : "");
    ready.push(queue.ready);
    for (const { state, value } of counts) {
      setText(value, queue[state].toLocaleString("en"));
      value.className = state === "failed" && queue.failed > 0 ? "count alarming" : "count";
      value.setAttribute("aria-label", `${queue[state]} ${state} in ${name}`);
    }
  };
  return { node, draw };
}

/** "20 at once; of each key 1 at once and 2.5 per second". */
function limitsAsText({ total, per_tenant: perTenant, per_key: perKey }) {
  const text = (limit) => [
    limit.concurrency !== null && `${limit.concurrency.toLocaleString("en")} at once`,
    limit.per_second !== null && `${limit.per_second.toLocaleString("en", { maximumFractionDigits: 3 })} per second`,
  ].filter(Boolean).join(" and ");
  const parts = [["", total], ["of each tenant ", perTenant], ["of each key ", perKey]];
  return parts.filter(([, limit]) => limit).map(([of, limit]) => of + text(limit)).join("; ");
}
