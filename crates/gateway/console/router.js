/**
 * Keeps the view in the fragment of the address: `#/c/NAME` is a conversation, `#/nodes` the nodes, no fragment the
 * list. So the browser's Back button closes a conversation, and a reload opens it again.
 */

const HOME = { view: "chat", room: null };

export class Router {
  #show;
  #lastChat = HOME;

  /** Calls `show` with `{ view, room }` on each change. */
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

  /** Returns to the last state of the chat. */
  openChat() {
    this.go(this.#lastChat);
  }

  openNodes() {
    this.go({ view: "nodes", room: null });
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
