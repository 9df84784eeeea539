/** One job, live: where it stands, what it is given, and each of its attempts; retry, cancel, discard. */
import { confirm } from "./dialogs.js";
import { byId, element } from "./element.js";
import { drawList, setText } from "./keyed.js";
import { attemptsOf } from "./jobs.js";
import { Live } from "./live.js";
import { clear, explain, noticePlace } from "./notices.js";
import { jsonText, textBlock } from "./outside-text.js";
import { actionButton, facts, problemPlace, setState, stateTag, tell } from "./parts.js";
import { hrefs } from "./router.js";
import { ago, ahead, exactTime, lasting } from "./time.js";

const SCOPES = ["jobs:*", "jobs:QUEUE"];
/** Attempts that are shown before the rest is asked for. */
const ATTEMPTS_SHOWN = 20;
const ACTIONS = [
  ["retry", "Retry", ["failed", "cancelled"]],
  ["cancel", "Cancel", ["scheduled", "ready", "running"]],
  ["discard", "Discard", ["scheduled", "ready", "done", "failed", "cancelled"]],
];
const ASKED = {
  cancel: { title: "Cancel this job?", text: "It is not done. A worker that has it loses it.", action: "Cancel the job" },
  discard: { title: "Discard this job?", text: "Nothing is kept of it, and this can’t be undone.", action: "Discard" },
};

export function showJob(api, client, router) {
  const view = new Job(api, client, router);
  return { watch: (id) => view.watch(id) };
}

class Job {
  #api;
  #client;
  #router;
  #id = null;
  #loadedAt = null;
  #allAttempts = false;
  #job = null;
  #payload = null; // the texts that are drawn
  #result = null;
  #live;
  #title = element("h2", { tabindex: "-1" });
  #state = stateTag("ready");
  #about = element("code", { class: "hint id" });
  #notice = noticePlace();
  #problem = problemPlace();
  #outcome = element("p", { class: "outcome" });
  #facts = facts("Queue", "Priority", "Attempts", "Added", "Runs", "Ended", "Took in all", "Back-off");
  #payloadPlace = element("div");
  #resultPlace = element("div");
  #attempts = element("ol", { class: "attempts", reversed: true });
  #noAttempts = element("p", { class: "hint" }, "No worker has had it yet.");
  #more;
  #buttons;
  #body;

  constructor(api, client, router) {
    this.#api = api;
    this.#client = client;
    this.#router = router;
    this.#live = new Live({ load: () => api.job(this.#id), draw: (job) => this.#draw(job), fail: (error) => this.#fail(error) });
    this.#buttons = ACTIONS.map(([action, label]) =>
      actionButton(label, () => this.#act(action), this.#problem, { class: action === "discard" ? "danger" : null, "data-action": action }));
    this.#more = element("button", { type: "button", class: "quiet", onclick: () => {
      this.#allAttempts = true;
      this.#draw(this.#job);
    } }, "Show all attempts");
    this.#body = element("div", { class: "details" },
      element("section", { class: "card", "aria-label": "Job" }, this.#facts.node),
      element("section", { class: "card", "aria-label": "Attempts" }, element("h3", {}, "Attempts"), this.#noAttempts, this.#attempts, this.#more),
      element("section", { class: "card", "aria-label": "Result" }, element("h3", {}, "Result"), this.#resultPlace),
      element("section", { class: "card", "aria-label": "Payload" }, element("h3", {}, "Payload"), this.#payloadPlace));
    byId("view-job").replaceChildren(
      element("div", { class: "nodes-head" },
        element("button", { type: "button", class: "quiet back-to", onclick: () => router.closeDetails() }, "← All jobs"),
        element("div", { class: "title-row" }, this.#title, this.#state, element("div", { class: "actions" }, ...this.#buttons)),
        this.#about),
      this.#problem, this.#outcome, this.#notice, this.#body,
    );
  }

  /** Shows a job; null hides the view. */
  watch(id) {
    if (id === null) return this.#live.watch(false);
    const isNew = id !== this.#id;
    if (isNew) {
      this.#id = id;
      byId("view-job").scrollTop = 0;
      this.#loadedAt = null;
      this.#allAttempts = false;
      this.#payload = this.#result = null;
      this.#problem.textContent = this.#outcome.textContent = "";
      clear(this.#notice);
      setText(this.#title, "Job");
      setText(this.#about, id.slice(0, 100));
      this.#hide(true);
      drawList(this.#attempts, [], String, null);
    }
    if (isNew || !this.#live.isShown) this.#title.focus({ preventScroll: true });
    return this.#live.watch(true);
  }

  #hide(hidden) {
    this.#body.hidden = this.#state.hidden = hidden;
    for (const button of this.#buttons) if (hidden) button.hidden = true;
  }

  #draw(job) {
    this.#loadedAt = Date.now();
    this.#job = job;
    clear(this.#notice);
    this.#hide(false);
    setText(this.#title, job.kind);
    setState(this.#state, job.state);
    ACTIONS.forEach(([, , states], index) => (this.#buttons[index].hidden = !states.includes(job.state)));
    const waits = job.state === "scheduled";
    this.#facts.draw(
      element("a", { href: hrefs.jobs({ queue: job.queue }) }, job.queue),
      String(job.priority),
      attemptsOf(job),
      `${exactTime(job.created_at)} ${inBrackets(ago(job.created_at))}`,
      waits ? `${exactTime(job.run_at)} ${inBrackets(ahead(job.run_at))}` : null,
      job.ended_at ? `${exactTime(job.ended_at)} ${inBrackets(ago(job.ended_at))}` : null,
      job.ended_at ? lasting(Date.parse(job.ended_at) - Date.parse(job.created_at)) : null,
      job.backoff_seconds === 0 ? "none" : `${lasting(job.backoff_seconds * 1000)}, then twice as long each time`,
    );
    this.#payload = drawJson(this.#payloadPlace, job.payload, this.#payload, "Payload");
    this.#resultPlace.parentNode.hidden = job.result === undefined;
    this.#result = job.result === undefined ? null : drawJson(this.#resultPlace, job.result, this.#result, "Result");
    const newestFirst = job.attempts.toReversed();
    const shown = this.#allAttempts ? newestFirst : newestFirst.slice(0, ATTEMPTS_SHOWN);
    drawList(this.#attempts, shown, ({ started_at: at, worker, attempt }) => `${at} ${attempt} ${worker}`, attemptItem);
    this.#noAttempts.hidden = shown.length > 0;
    this.#more.hidden = shown.length === newestFirst.length;
    setText(this.#more, `Show all ${newestFirst.length} attempts`);
  }

  #fail(error) {
    if (error.status === 404) {
      this.#hide(true);
      this.#notice.replaceChildren("This job does not exist, or does not any more: it was discarded, or has ended so long ago that it is not kept.");
    } else explain(this.#notice, error, { what: "Jobs", scopes: SCOPES, user: this.#client.user, loadedAt: this.#loadedAt });
  }

  #act(action) {
    const run = async () => {
      const { state } = await this.#api.actOnJob(action, this.#id);
      if (action === "discard") return this.#router.closeDetails();
      tell(this.#outcome, state === "running" ? "The worker is asked to stop." : `The job is ${state}.`);
      return this.#live.refresh();
    };
    this.#outcome.textContent = "";
    return ASKED[action] ? confirm({ ...ASKED[action], dismiss: "Go back", run }) : run();
  }
}

/** "(2 min. ago)", on one line. */
const inBrackets = (text) => `(${text.replaceAll(" ", "\u00a0")})`;

/** Draws a value, unless it is drawn already. Returns its text. */
function drawJson(place, value, before, label) {
  const text = jsonText(value);
  if (text !== before) place.replaceChildren(textBlock(text, label));
  return text;
}

function attemptItem({ attempt, worker, started_at: startedAt }) {
  const outcome = stateTag("running");
  const times = element("span", { class: "hint" });
  const trouble = element("div");
  let error = null; // the text that is drawn
  const node = element("li", { class: "attempt" },
    element("p", { class: "attempt-head" }, element("strong", {}, `Attempt ${attempt}`), outcome, element("span", {}, "by ", element("bdi", {}, worker)), times),
    trouble);
  const draw = (now) => {
    setState(outcome, now.outcome ?? "running");
    const took = Date.parse(now.ended_at ?? new Date().toISOString()) - Date.parse(startedAt);
    setText(times, `${exactTime(startedAt)} · ${now.ended_at ? "took" : "for"} ${lasting(took)}`);
    if (now.error === error || now.error === undefined) return;
    error = now.error;
    trouble.replaceChildren(textBlock(error, `Error of attempt ${attempt}`));
  };
  return { node, draw };
}
