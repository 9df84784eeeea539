/** The open conversation: its messages in order, the draft, and the state of the user's own messages. */
import { announce, byId, element } from "./element.js";
import { initials } from "./people.js";
import { clockTime, dayName, isSameDay } from "./time.js";

/** Messages of one user within this time share one heading. */
const GROUP_MS = 5 * 60_000;
/** Within this distance from the end, the view follows new messages. */
const NEAR_END_PX = 80;
/** Within this distance from the top, the previous page is loaded. */
const NEAR_TOP_PX = 200;

/** Interval at which the countdown of a waiting message is redrawn. */
const WAITING_REDRAW_MS = 1000;

export function showThread(chat, client, router) {
  const thread = new Thread(chat, client, router);
  chat.on("open", () => thread.open());
  chat.on("history", (room) => room === chat.open && thread.drawAll({ keepPlace: true }));
  chat.on("older", (room) => room === chat.open && thread.drawOlder());
  chat.on("message", (room, message, pending) => thread.onMessage(room, message, pending));
  chat.on("reset", (room) => room === chat.open && thread.onReset());
  chat.on("dropped", (room) => room === chat.open && thread.onDropped(room));
  chat.on("pending", (room, pending) => room === chat.open && thread.onPending(pending));
  chat.on("reads", (room) => room === chat.open && thread.drawReceipts());
  chat.on("typing", (room) => room === chat.open && thread.drawTyping());
  chat.on("people", (room) => room === chat.open && thread.drawHead());
}

class Thread {
  #chat;
  #client;
  #router;
  #log = byId("log");
  #list = byId("messages");
  #draft = byId("draft");
  #drafts = new Map(); // room name -> unsent text
  #shown = null; // the room whose messages are drawn
  #atEnd = true; // whether the view was at the newest message at the last scroll

  constructor(chat, client, router) {
    this.#chat = chat;
    this.#client = client;
    this.#router = router;
    byId("composer").onsubmit = (event) => {
      event.preventDefault();
      this.#send();
    };
    this.#draft.addEventListener("input", () => this.#onInput());
    this.#draft.addEventListener("keydown", (event) => this.#onKey(event));
    this.#log.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    byId("latest").onclick = () => this.#toEnd();
    byId("back").onclick = () => router.closeRoom();
    setInterval(() => this.#countDown(), WAITING_REDRAW_MS);
    window.addEventListener("focus", () => this.#markRead());
    document.addEventListener("visibilitychange", () => this.#markRead());
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.#onEscape(event));
    client.on("state", () => this.drawHead());
    // A view at the end stays there when the window, the composer or the notice above changes the height.
    new ResizeObserver(() => this.#atEnd && this.#toEnd()).observe(this.#log);
  }

  open() {
    const room = this.#chat.open;
    const closed = this.#shown;
    if (closed) this.#drafts.set(closed.name, this.#draft.value);
    this.#shown = room;
    document.body.classList.toggle("room-open", Boolean(room));
    byId("nothing").hidden = Boolean(room);
    byId("open").hidden = !room;
    if (!room) {
      if (closed) requestAnimationFrame(() => byId("room-list").querySelector(`[data-room="${CSS.escape(closed.name)}"]`)?.focus());
      return;
    }
    this.#draft.value = this.#drafts.get(room.name) ?? "";
    this.#grow();
    this.drawHead();
    this.drawTyping();
    this.#atEnd = true;
    this.drawAll({ keepPlace: false });
    if (matchMedia("(hover: hover)").matches) this.#draft.focus();
  }

  // ---------------------------------------------------------------- drawing

  drawHead() {
    const room = this.#chat.open;
    if (!room) return;
    const others = [...room.online].filter((user) => user !== this.#chat.me);
    byId("thread-name").textContent = room.title;
    byId("thread-sub").textContent = whoIsHere(room, others, this.#client.state === "connected");
  }

  drawOlder() {
    const room = this.#chat.open;
    this.#log.setAttribute("aria-busy", String(room.loading));
    const beginning = room.wasReset ? "The beginning: this conversation was created again, and its earlier messages no longer exist" : "The beginning";
    byId("older").textContent = room.loading ? "Reading older messages …" : room.more || (room.head === 0 && !room.wasReset) ? "" : beginning;
  }

  /** Redraws everything, on opening and after a page of history was added above. */
  drawAll({ keepPlace }) {
    const room = this.#chat.open;
    const fromEnd = this.#log.scrollHeight - this.#log.scrollTop;
    const messages = [...room.messages.values()].sort((one, other) => one.seq - other.seq);
    this.#list.replaceChildren(
      ...messages.map((message, index) => this.#item(room, message, messages[index - 1])),
      ...[...room.pending.values()].map((pending) => this.#pendingItem(room, pending)),
    );
    this.drawOlder();
    this.drawReceipts();
    this.#log.scrollTop = this.#log.scrollHeight - (keepPlace && !this.#atEnd ? fromEnd : 0);
    this.#onScroll();
  }

  onMessage(room, message, pending) {
    if (room !== this.#chat.open) {
      if (message.sender !== this.#chat.me) announce(`New message in ${room.title}`);
      return;
    }
    const follow = this.#isNearEnd() || message.sender === this.#chat.me;
    if (pending) this.#list.querySelector(`[data-key="${CSS.escape(pending.key)}"]`)?.remove();
    const firstPending = this.#list.querySelector(".pending");
    const item = this.#item(room, message, room.messages.get(message.seq - 1));
    if (!pending) item.classList.add("fresh");
    this.#list.insertBefore(item, firstPending);
    this.drawReceipts();
    if (message.sender !== this.#chat.me) announce(`${message.sender}: ${message.content}`);
    if (follow) this.#toEnd();
    else byId("latest").hidden = false;
  }

  onReset() {
    this.drawAll({ keepPlace: false });
    byId("latest").hidden = true;
    announce("This conversation was created again");
  }

  onDropped(room) {
    for (const item of [...this.#list.querySelectorAll("[data-seq]")]) {
      if (Number(item.dataset.seq) >= room.oldest) break;
      item.remove();
    }
    this.drawOlder();
  }

  onPending(pending) {
    const room = this.#chat.open;
    const old = this.#list.querySelector(`[data-key="${CSS.escape(pending.key)}"]`);
    const item = room.pending.has(pending.key) && this.#pendingItem(room, pending);
    if (old && item) old.replaceWith(item);
    else if (old) old.remove();
    else if (item) {
      this.#list.append(item);
      this.#toEnd();
    }
  }

  /** Draws the state of the user's own messages: as text on the last one, as marks on the others. */
  drawReceipts() {
    const room = this.#chat.open;
    if (!room) return;
    const own = [...this.#list.querySelectorAll(".own[data-seq]")];
    own.forEach((item, index) => {
      const readers = this.#chat.readers(room, Number(item.dataset.seq));
      const words = readers.length ? `read by ${listNames(readers)}` : "sent";
      const mark = item.querySelector(".receipt");
      mark.dataset.state = readers.length ? "read" : "sent";
      mark.title = words;
      mark.querySelector(".words").classList.toggle("hidden", index < own.length - 1);
      mark.querySelector(".words").textContent = words;
    });
  }

  drawTyping() {
    const users = [...this.#chat.open.typing.keys()];
    const line = byId("typing");
    if (users.length === 0) return line.replaceChildren();
    line.replaceChildren(
      element("span", { class: "wings", "aria-hidden": "true" }, element("i"), element("i"), element("i")),
      `${listNames(users)} ${users.length === 1 ? "is" : "are"} typing`,
    );
  }

  #item(room, message, before) {
    const own = message.sender === this.#chat.me;
    const newDay = !before || !isSameDay(before.at, message.at);
    const grouped = !newDay && before.sender === message.sender && Date.parse(message.at) - Date.parse(before.at) < GROUP_MS;
    return element("li", { class: `message${own ? " own" : ""}${grouped ? " grouped" : ""}`, "data-seq": message.seq },
      newDay && element("p", { class: "day" }, dayName(message.at)),
      !own && element("span", { class: "face", "aria-hidden": "true" }, grouped ? "" : initials(message.sender)),
      element("div", { class: "bubble" },
        element("p", { class: grouped || own ? "hidden" : "sender" }, message.sender, message.role !== "user" && ` · ${message.role}`),
        element("p", { class: "content" }, message.content),
        element("p", { class: "meta" },
          element("span", { class: "seq", title: "Number in the conversation" }, `#${message.seq}`),
          element("time", { datetime: message.at }, clockTime(message.at)),
          own && receipt("sent", "sent"),
        ),
      ),
    );
  }

  #pendingItem(room, pending) {
    const failed = pending.state === "failed";
    const words = failed ? `not sent: ${pending.error.message}` : waitingWords(pending) ?? "sending";
    return element("li", { class: "message own pending", "data-key": pending.key },
      element("div", { class: "bubble" },
        element("p", { class: "content" }, pending.content),
        element("p", { class: "meta" },
          element("time", { datetime: pending.at }, clockTime(pending.at)),
          receipt(failed ? "failed" : "sending", words),
          failed && element("button", { type: "button", class: "again", onclick: () => this.#again(room, pending) }, "Try again"),
        ),
      ),
    );
  }

  // ---------------------------------------------------------------- what people do

  #send() {
    const content = this.#draft.value.trim();
    if (!content || !this.#chat.open) return;
    this.#draft.value = "";
    this.#grow();
    this.#chat.send(this.#chat.open, content);
  }

  #again(room, pending) {
    pending.state = "sending";
    this.#chat.retry(room, pending);
  }

  #onInput() {
    this.#grow();
    if (this.#draft.value.trim()) this.#chat.typing(this.#chat.open);
    else this.#chat.stopTyping(this.#chat.open);
  }

  #onKey(event) {
    // While an input method composes a word, it handles Enter itself.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#send();
  }

  #onEscape(event) {
    if (document.querySelector("dialog[open]") || document.body.dataset.view !== "chat" || !this.#chat.open || event.defaultPrevented) return;
    if (document.body.classList.contains("people-shown")) byId("show-people").click();
    else this.#router.closeRoom();
  }

  #countDown() {
    for (const pending of this.#shown?.pending.values() ?? []) {
      const words = pending.state === "waiting" && this.#list.querySelector(`[data-key="${CSS.escape(pending.key)}"] .words`);
      if (words) words.textContent = waitingWords(pending) ?? "sending";
    }
  }

  #onScroll() {
    const room = this.#chat.open;
    if (!room) return;
    this.#atEnd = this.#isNearEnd();
    if (this.#atEnd) {
      byId("latest").hidden = true;
      this.#markRead();
    }
    if (this.#log.scrollTop < NEAR_TOP_PX && room.more && !room.loading && room.joining) this.#chat.loadOlder(room).catch((error) => announce(error.message));
  }

  #toEnd() {
    this.#log.scrollTop = this.#log.scrollHeight;
    byId("latest").hidden = true;
    this.#markRead();
  }

  #isNearEnd() {
    return this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < NEAR_END_PX;
  }

  #markRead() {
    const room = this.#chat.open;
    if (room && !document.hidden && document.body.dataset.view === "chat" && this.#isNearEnd()) this.#chat.markRead(room);
  }

  /** Grows the field with its text, up to the limit in the style sheet. */
  #grow() {
    this.#draft.style.height = "auto";
    this.#draft.style.height = `${this.#draft.scrollHeight}px`;
  }
}

/** Returns why a message is waiting and when the next attempt is; undefined after that time. */
function waitingWords({ state, until, because }) {
  const seconds = Math.ceil((until - Date.now()) / 1000);
  if (state !== "waiting" || !(seconds > 0)) return undefined;
  const why = because === "rate_limited" ? "too many messages at once" : "the server cannot accept it now";
  return `waiting: ${why}, next try in ${seconds} s`;
}

function whoIsHere(room, others, connected) {
  if (!connected) return "not connected: presence is unknown";
  if (!room.presenceKnown) return "";
  return others.length === 0 ? "nobody else is here right now" : `${listNames(others)} ${others.length === 1 ? "is" : "are"} here`;
}

function receipt(state, words) {
  return element("span", { class: "receipt", "data-state": state, title: words }, element("span", { class: "tick", "aria-hidden": "true" }), element("span", { class: "words" }, words));
}

function listNames(names) {
  if (names.length > 3) return `${names.slice(0, 2).join(", ")} and ${names.length - 2} others`;
  return names.join(", ").replace(/, ([^,]*)$/, " and $1");
}
