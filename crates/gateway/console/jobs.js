/** Live list of jobs, with a filter, and actions on all that match it. */
import { Bulk } from "./bulk.js";
import { byId, element } from "./element.js";
import { drawList, moveByArrows, setText } from "./keyed.js";
import { Live } from "./live.js";
import { clear, explain, noticePlace } from "./notices.js";
import { oneLine } from "./outside-text.js";
import { Pager, setState, stateTag } from "./parts.js";
import { hrefs } from "./router.js";
import { ago, ahead, exactTime, lasting } from "./time.js";

const STATES = ["scheduled", "ready", "running", "done", "failed", "cancelled"];
const PAGE_JOBS = 50;
const SCOPES = ["jobs:*", "jobs:QUEUE"];
/** The names of queues change seldom. */
const QUEUES_EVERY_MS = 10_000;

export function showJobs(api, client, router) {
  const view = new Jobs(api, client, router);
  return { watch: (filter) => view.watch(filter) };
}

class Jobs {
  #api;
  #client;
  #router;
  #filter = {};
  #key = null; // of the filter that is shown
  #loadedAt = null;
  #queuesAt = -Infinity;
  #queues = [];
  #live;
  #pager = new Pager(() => this.#live.refresh());
  #bulk;
  #queue = element("select", { id: "jobs-queue" });
  #state = element("select", { id: "jobs-state" }, element("option", { value: "" }, "any state"), ...STATES.map((state) => element("option", { value: state }, state)));
  #kind = element("input", { id: "jobs-kind", maxlength: 100, pattern: "[A-Za-z0-9_.:@\\-]+", placeholder: "any kind", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
  #list = element("ul", { class: "rows", "aria-label": "Jobs" });
  #about = element("p", { class: "hint" });
  #notice = noticePlace();
  #empty = element("p", { class: "notice", hidden: true });

  constructor(api, client, router) {
    this.#api = api;
    this.#client = client;
    this.#router = router;
    this.#bulk = new Bulk(api, () => this.#live.refresh());
    this.#live = new Live({
      load: () => this.#load(),
      draw: (page) => this.#draw(page),
      fail: (error) => this.#fail(error),
    });
    const form = element("form", { class: "filters", "aria-label": "Filter", onsubmit: (event) => (event.preventDefault(), this.#choose()) },
      field("Queue", this.#queue), field("State", this.#state), field("Kind", this.#kind),
      element("button", { type: "button", class: "quiet", onclick: () => this.#router.openJobs({}) }, "Clear"));
    for (const control of [this.#queue, this.#state, this.#kind]) control.addEventListener("change", () => this.#choose());
    moveByArrows(this.#list, "a");
    byId("view-jobs").replaceChildren(
      element("div", { class: "nodes-head" }, element("h2", {}, "Jobs"), this.#about),
      form, this.#bulk.node, this.#notice, this.#empty, this.#list, this.#pager.node,
    );
    this.#pager.draw(null);
  }

  /** Shows the jobs that match; null hides the view. */
  watch(filter) {
    if (!filter) return this.#live.watch(false);
    const key = JSON.stringify(filter);
    if (key !== this.#key) {
      this.#key = key;
      this.#filter = filter;
      this.#loadedAt = null;
      this.#pager.reset();
      this.#pager.draw(null);
      this.#empty.hidden = true;
      clear(this.#notice);
      drawList(this.#list, [], String, null);
      this.#bulk.choose(filter);
    }
    this.#drawFilter();
    return this.#live.watch(true);
  }

  async #load() {
    const [page] = await Promise.all([this.#api.jobs(this.#filter, this.#pager.cursor, PAGE_JOBS), this.#loadQueues()]);
    return page;
  }

  /** Loads the names for the filter. Without them, the list works all the same. */
  async #loadQueues() {
    if (performance.now() < this.#queuesAt + QUEUES_EVERY_MS) return;
    this.#queuesAt = performance.now();
    const { queues } = await this.#api.queues().catch(() => ({ queues: [] }));
    this.#queues = queues.map(({ queue }) => queue).filter((queue) => !queue.startsWith("starling."));
    this.#drawFilter();
  }

  #drawFilter() {
    const { queue = "", state = "", kind = "" } = this.#filter;
    const names = [...new Set([...this.#queues, queue])].filter(Boolean).sort();
    const shown = [...this.#queue.options].slice(1).map(({ value }) => value);
    if (this.#queue.options.length === 0 || JSON.stringify(names) !== JSON.stringify(shown)) {
      this.#queue.replaceChildren(element("option", { value: "" }, "all queues"), ...names.map((name) => element("option", { value: name }, name)));
    }
    this.#queue.value = queue;
    this.#state.value = STATES.includes(state) ? state : "";
    if (document.activeElement !== this.#kind) this.#kind.value = kind;
  }

  #choose() {
    if (!this.#kind.reportValidity()) return;
    this.#router.openJobs({ queue: this.#queue.value, state: this.#state.value, kind: this.#kind.value.trim() });
  }

  #draw({ jobs, next }) {
    this.#loadedAt = Date.now();
    clear(this.#notice);
    setText(this.#about, `Newest first${this.#client.tenant ? `, in the tenant ${this.#client.tenant}` : ""}; updated every two seconds.`);
    this.#pager.draw(next);
    this.#bulk.show(true);
    this.#bulk.setEmpty(jobs.length === 0 && this.#pager.isFirst);
    this.#empty.hidden = jobs.length > 0;
    setText(this.#empty, Object.keys(this.#filter).length > 0 ? "No job matches." : "There are no jobs. Add one with POST /v1/jobs.");
    drawList(this.#list, jobs, ({ job }) => job, jobRow);
  }

  #fail(error) {
    this.#bulk.show(false);
    explain(this.#notice, error, { what: "Jobs", scopes: SCOPES, user: this.#client.user, loadedAt: this.#loadedAt });
    if (!this.#loadedAt) this.#empty.hidden = true;
  }
}

function field(label, control) {
  return element("div", { class: "field" }, element("label", { for: control.id }, label), control);
}

function jobRow({ job }) {
  const state = stateTag("ready");
  const kind = element("span", { class: "row-title" });
  const queue = element("span", { class: "row-note" });
  const tries = element("span", { class: "row-figure" });
  const when = element("time", { class: "row-figure" });
  const trouble = element("span", { class: "row-trouble" });
  const link = element("a", { class: "row-link", href: hrefs.job(job) }, state, element("span", { class: "row-what" }, kind, queue), tries, when, trouble);
  const draw = (now) => {
    setState(state, now.state);
    setText(kind, now.kind);
    setText(queue, `${now.queue} · …${now.job.slice(-8)}`);
    setText(tries, now.attempts.length > 0 ? `attempt ${attemptsOf(now)}` : "no attempt yet");
    setText(when, whenOf(now));
    when.dateTime = now.ended_at ?? now.run_at;
    when.title = exactTime(when.dateTime);
    const error = now.state === "done" ? undefined : now.attempts.findLast((attempt) => attempt.error)?.error;
    trouble.hidden = error === undefined;
    setText(trouble, error === undefined ? "" : oneLine(error));
  };
  return { node: element("li", { "data-job": job }, link), draw };
}

/** "2 of 3", "none of 3". */
export function attemptsOf({ attempts, attempts_max: most }) {
  return `${attempts.at(-1)?.attempt ?? "none"} of ${most}`;
}

function whenOf({ state, run_at: runAt, ended_at: endedAt, attempts }) {
  if (state === "scheduled") return ahead(runAt);
  if (state === "running") return `for ${lasting(Date.now() - Date.parse(attempts.at(-1)?.started_at ?? runAt))}`;
  return ago(endedAt ?? attempts.at(-1)?.ended_at ?? runAt);
}
