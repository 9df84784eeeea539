/**
 * Keeps the view in the fragment of the address: `#/c/NAME` is a conversation, `#/nodes` the nodes, `#/queues` the queues, `#/jobs?queue=…` jobs
 * that match, `#/jobs/ID` a job, `#/webhooks` the webhooks, `#/webhooks/ID` one with its deliveries, no fragment the list of conversations. So the
 * browser's Back button closes what was opened, and a reload opens it again.
 */

const HOME = { view: "chat", room: null };
/** What a filter of jobs may name. */
const FILTER = ["queue", "state", "kind"];

export class Router {
  #show;
  #lastChat = HOME;
  #lastJobs = { view: "jobs", room: null, filter: {} };

  /** Calls `show` with `{ view, room, id, filter }` on each change. */
  constructor(show) {
    this.#show = show;
    addEventListener("popstate", () => this.apply());
  }

  get route() {
    return parse(location.hash);
  }

  /** Shows the view in the address. */
  apply() {
    const { route } = this;
    if (route.view === "chat") this.#lastChat = route;
    if (route.view === "jobs") this.#lastJobs = route;
    this.#show(route);
  }

  go(route) {
    const from = write(this.route);
    if (write(route) === from) return;
    history.pushState({ from }, "", address(route));
    this.apply();
  }

  /** Follows a link of this page. */
  follow(href) {
    this.go(parse(href));
  }

  openRoom(name) {
    this.go({ view: "chat", room: name });
  }

  /** Returns to the last state of the chat. */
  openChat() {
    this.go(this.#lastChat);
  }

  /** Opens a view that has no further parts. */
  openView(view) {
    this.go({ view, room: null });
  }

  /** Opens the jobs, with this filter or with the one that was shown last. */
  openJobs(filter) {
    this.go(filter ? { view: "jobs", room: null, filter } : this.#lastJobs);
  }

  /** Closes a job, or a webhook, in the same way as Back. */
  closeDetails() {
    const list = this.route.view === "job" ? this.#lastJobs : { view: "webhooks", room: null };
    if (history.state?.from === write(list)) history.back();
    else this.go(list);
  }

  /** Closes the conversation in the same way as Back, so that Back does not open it again. */
  closeRoom() {
    if (history.state?.from === write(HOME)) history.back();
    else this.go(HOME);
  }

  /** Removes a conversation that no longer exists from the address. */
  roomIsGone() {
    this.#lastChat = HOME;
    if (this.route.room === null) return;
    history.replaceState(history.state, "", address(HOME));
    this.apply();
  }
}

/** Addresses for links. */
export const hrefs = {
  jobs: (filter) => write({ view: "jobs", filter }),
  job: (id) => write({ view: "job", id }),
  webhook: (id) => write({ view: "webhook", id }),
};

function parse(hash) {
  const [, view, name, query] = /^#\/(c|nodes|queues|jobs|webhooks)(?:\/([^?]+))?(?:\?(.*))?$/.exec(hash) ?? [];
  let id;
  try {
    id = name ? decodeURIComponent(name) : null;
  } catch {
    return HOME;
  }
  if (view === "jobs" && id) return { view: "job", room: null, id };
  if (view === "jobs") return { view, room: null, filter: filterOf(query) };
  if (view === "webhooks" && id) return { view: "webhook", room: null, id };
  if (view && view !== "c") return { view, room: null };
  return { view: "chat", room: id };
}

function write({ view, room, id, filter }) {
  if (view === "job") return `#/jobs/${encodeURIComponent(id)}`;
  if (view === "webhook") return `#/webhooks/${encodeURIComponent(id)}`;
  if (view === "jobs") {
    const query = new URLSearchParams(Object.entries(filter ?? {}).filter(([, value]) => value)).toString();
    return query ? `#/jobs?${query}` : "#/jobs";
  }
  if (view !== "chat") return `#/${view}`;
  return room === null ? "" : `#/c/${encodeURIComponent(room)}`;
}

function filterOf(query) {
  const given = new URLSearchParams(query ?? "");
  return Object.fromEntries(FILTER.filter((field) => given.get(field)).map((field) => [field, given.get(field)]));
}

function address(route) {
  return write(route) || location.pathname + location.search;
}
