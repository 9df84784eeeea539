/**
 * What is shown stands in the address, behind the `#`: `#/c/NAME` is a conversation, `#/nodes` the nodes, nothing the
 * list. So the browser's Back closes a conversation, and a reload opens it again.
 */

const HOME = { view: "chat", room: null };

export class Router {
  #show;
  #lastChat = HOME;

  /** `show` is called with `{ view, room }` whenever that changes. */
  constructor(show) {
    this.#show = show;
    addEventListener("popstate", () => this.apply());
  }

  get route() {
    return parse(location.hash);
  }

  /** Shows what the address says. */
  apply() {
    const { route } = this;
    if (route.view === "chat") this.#lastChat = route;
    this.#show(route);
  }

  go(route) {
    const from = write(this.route);
    if (write(route) === from) return;
    history.pushState({ from }, "", address(route));
    this.apply();
  }

  openRoom(name) {
    this.go({ view: "chat", room: name });
  }

  /** Back to the chat as it was. */
  openChat() {
    this.go(this.#lastChat);
  }

  openNodes() {
    this.go({ view: "nodes", room: null });
  }

  /** Closes the conversation as Back does, so that Back afterwards does not open it again. */
  closeRoom() {
    if (history.state?.from === write(HOME)) history.back();
    else this.go(HOME);
  }

  /** The conversation is no more: the address is not to say so. */
  roomIsGone() {
    this.#lastChat = HOME;
    if (this.route.room === null) return;
    history.replaceState(history.state, "", address(HOME));
    this.apply();
  }
}

function parse(hash) {
  const [, view, name] = /^#\/(c|nodes)(?:\/(.+))?$/.exec(hash) ?? [];
  if (view === "nodes") return { view: "nodes", room: null };
  try {
    return { view: "chat", room: name ? decodeURIComponent(name) : null };
  } catch {
    return HOME;
  }
}

function write({ view, room }) {
  if (view === "nodes") return "#/nodes";
  return room === null ? "" : `#/c/${encodeURIComponent(room)}`;
}

function address(route) {
  return write(route) || location.pathname + location.search;
}
