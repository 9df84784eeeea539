/**
 * State of the conversations on this page, without their appearance. The views listen to `on(part)`:
 * `rooms` (the list, its order, previews and unread counts), `open`, `message`, `pending`, `history` and `older` (a page of history
 * arrived, or was requested), `dropped` (the oldest messages were removed), `reset` (all messages were removed, because the log was created again), `reads`, `typing`,
 * `people`, `removed`.
 */

/** Most conversations that are joined at once. Unread messages are only counted in these. */
const JOINED_ROOMS_MAX = 60;
/** Most messages of one conversation that are kept. Older ones are read again when the user scrolls up. */
const KEPT_MESSAGES_MAX = 2000;
/** Number of messages that are removed at once when there are more. */
const DROPPED_MESSAGES = 500;
const ROOMS_PAGE = 30;
const HISTORY_PAGE = 50;
const LATENCIES_MAX = 300;
/** Lifetime of a typing state, as in the protocol. */
const TYPING_MS = 6000;
/** Shortest interval between repeated typing commands. */
const TYPING_EVERY_MS = 3000;
const READ_DEBOUNCE_MS = 120;

export class Chat {
  rooms = new Map(); // name -> room
  open = null; // the room on display
  nextPage = undefined; // cursor of the next page of rooms; null after the last
  latencies = []; // { at, ms }: time from a send on this page to its message event
  received = 0; // message events
  repeats = 0; // messages whose number was already there; the client should drop all of them
  #client;
  #listeners = new Map();

  constructor(client) {
    this.#client = client;
    client.on("message", (message) => this.#onMessage(message));
    client.on("read", ({ conversation, user, seq }) => this.#onRead(conversation, user, seq));
    client.on("typing", ({ conversation, user, typing }) => this.#onTyping(conversation, user, typing));
    client.on("presence", (event) => this.#onPresence(event));
    client.on("member", (event) => this.#onMember(event));
    client.on("state", (event) => this.#onState(event));
    client.on("updated", ({ conversation, title }) => this.#onUpdated(conversation, title));
    client.on("deleted", ({ conversation }) => this.#remove(conversation, "was deleted"));
    client.on("reset", ({ conversation }) => this.#onReset(conversation));
    client.on("retry", (retry) => retry.op === "send" && this.#onRetry(retry));
    client.on("gone", ({ conversation }) => conversation && this.#remove(conversation, "can no longer be read"));
  }

  get me() {
    return this.#client.user;
  }

  on(part, listener) {
    if (!this.#listeners.has(part)) this.#listeners.set(part, []);
    this.#listeners.get(part).push(listener);
  }

  /** Returns the rooms in the order of the list: most recently active first. */
  list() {
    return [...this.rooms.values()].sort((one, other) => other.activity - one.activity);
  }

  unread(room) {
    // The user's own messages are never unread, even if they were written on another device.
    return Math.max(0, room.head - Math.max(room.reads[this.me] ?? 0, room.ownHead));
  }

  async loadRooms() {
    const { conversations, next } = await this.#client.list({ limit: ROOMS_PAGE, cursor: this.nextPage });
    this.nextPage = next ?? null;
    const added = conversations.filter(({ conversation }) => !this.rooms.has(conversation)).map((info) => this.#add(info));
    this.#tell("rooms");
    // One after another, the newest first, so that the connection stays free for the user's actions.
    for (const room of added) {
      if (this.#client.joined.length >= JOINED_ROOMS_MAX) break;
      await this.#join(room).catch(() => {});
    }
  }

  /** Resolves with the new room's name. */
  async createRoom(title, members) {
    const { conversation } = await this.#client.create({ title, members });
    if (!this.rooms.has(conversation)) this.#add({ conversation, title, owner: this.me, created_at: new Date().toISOString(), head: 0 });
    this.#tell("rooms");
    return conversation;
  }

  /** Shows a conversation, even if the list does not contain it yet. */
  async openRoom(name) {
    const room = this.rooms.get(name) ?? (await this.#find(name));
    this.open = room;
    this.#tell("open");
    await this.#join(room);
    await Promise.all([this.#loadPeople(room), room.messages.size < 2 && this.loadOlder(room)]);
  }

  closeRoom() {
    if (!this.open) return;
    this.open = null;
    this.#tell("open");
  }

  /** Loads the page before the oldest message; resolves once the messages are in `room.messages`. */
  async loadOlder(room) {
    if (room.loading || !room.more) return;
    room.loading = true;
    this.#tell("older", room);
    try {
      const before = room.oldest > 0 ? room.oldest : undefined;
      const { messages, more } = await this.#client.history(room.name, { before, limit: HISTORY_PAGE });
      for (const message of messages) this.#keep(room, message);
      room.more = more && messages.length > 0;
      this.#tell("history", room, messages);
    } finally {
      room.loading = false;
      this.#tell("older", room);
    }
  }

  /** Sends a message. It is shown as sending at once and replaced by the event with the same key in its metadata. */
  async send(room, content, key = randomKey()) {
    const pending = { key, content, state: "sending", at: new Date().toISOString(), sentAt: performance.now() };
    room.pending.set(key, pending);
    this.stopTyping(room);
    this.#tell("pending", room, pending);
    try {
      const { seq } = await this.#client.send(room.name, content, { key, metadata: { key } });
      pending.state = "sent";
      // Without a join there is no event of the user's own message; otherwise the event has arrived or will arrive.
      if (room.messages.has(seq)) room.pending.delete(key);
    } catch (error) {
      pending.state = "failed";
      pending.error = error;
    }
    this.#tell("pending", room, pending);
  }

  retry(room, pending) {
    // With the same key, this attempt only finds the message if the first one arrived after all.
    return this.send(room, pending.content, pending.key);
  }

  typing(room) {
    const now = performance.now();
    if (now - room.typingSaidAt < TYPING_EVERY_MS) return;
    room.typingSaidAt = now;
    this.#client.typing(room.name, true).catch(() => {});
  }

  stopTyping(room) {
    if (room.typingSaidAt === -Infinity) return;
    room.typingSaidAt = -Infinity;
    this.#client.typing(room.name, false).catch(() => {});
  }

  /** Marks everything as read, with one command for any number of messages that arrive at once. */
  markRead(room) {
    if (room.head <= (room.reads[this.me] ?? 0) || room.readTimer) return;
    room.readTimer = setTimeout(() => {
      room.readTimer = null;
      this.#onRead(room.name, this.me, room.head);
      this.#client.read(room.name, room.head).catch(() => {});
    }, READ_DEBOUNCE_MS);
  }

  async invite(room, user) {
    await this.#client.addMember(room.name, user);
    await this.#loadPeople(room);
  }

  async removeMember(room, user) {
    await this.#client.removeMember(room.name, user);
    await this.#loadPeople(room);
  }

  async rename(room, title) {
    await this.#client.rename(room.name, title);
    this.#onUpdated(room.name, title);
  }

  /** Ends the user's own membership. */
  leave(room) {
    return this.#end(room, () => this.#client.leave(room.name, { forGood: true }));
  }

  delete(room) {
    return this.#end(room, () => this.#client.delete(room.name));
  }

  async #end(room, call) {
    room.ending = true;
    try {
      await call();
    } finally {
      room.ending = false;
    }
    this.#remove(room.name);
  }

  /** Returns the other users who have read this number. */
  readers(room, seq) {
    return Object.keys(room.reads).filter((user) => user !== this.me && room.reads[user] >= seq);
  }

  // ---------------------------------------------------------------- rooms

  #add({ conversation, title, owner, head, created_at }) {
    const room = {
      name: conversation,
      title: title || conversation,
      owner,
      head: head ?? 0,
      activity: Date.parse(created_at) || 0,
      messages: new Map(), // seq -> message
      oldest: 0, // lowest seq in `messages`; 0: none
      newest: 0, // highest seq received
      ownHead: 0, // highest seq that this user wrote
      more: (head ?? 0) > 0,
      loading: false,
      pending: new Map(), // key -> the user's own message without a number
      reads: {},
      typing: new Map(), // user -> timer
      typingSaidAt: -Infinity,
      readTimer: null,
      members: [],
      online: new Set(),
      presenceKnown: false, // false while disconnected
      lastSeen: new Map(),
      wasReset: false,
      ending: false, // this page is leaving or deleting it
      joining: null,
    };
    this.rooms.set(room.name, room);
    return room;
  }

  async #find(name) {
    const info = await this.#client.describe(name);
    const room = this.rooms.get(name) ?? this.#add(info);
    this.#tell("rooms");
    return room;
  }

  #join(room) {
    room.joining ??= this.#client
      // Replays only the newest message, for the preview in the list.
      .join(room.name, { after: Math.max(0, room.head - 1) })
      .then((reply) => this.#take(room, reply))
      .catch((error) => {
        room.joining = null;
        throw error;
      });
    return room.joining;
  }

  #take(room, { head, online, reads }) {
    room.head = Math.max(room.head, head);
    room.more = room.oldest > 1 || (room.oldest === 0 && head > 0);
    Object.assign(room.reads, reads);
    room.online = new Set(online);
    room.presenceKnown = true;
    this.#tell("rooms");
    this.#tell("people", room);
    this.#tell("reads", room);
  }

  /** Joins again after a reconnect. The client recovers the messages itself, but presence and read marks must be requested. */
  async #refresh() {
    const rooms = this.list().filter((room) => room.joining);
    if (this.open) rooms.unshift(this.open);
    for (const room of new Set(rooms)) await this.#client.join(room.name).then((reply) => this.#take(room, reply), () => {});
  }

  /** Loads the members and their last-seen times. Who is online comes from the join and later events. */
  async #loadPeople(room) {
    const [info, users] = await Promise.all([this.#client.describe(room.name).catch(() => null), this.#client.presence(room.name)]);
    room.members = info?.members ?? users.map(({ user }) => user);
    if (info) room.owner = info.owner;
    for (const { user, last_seen } of users) if (last_seen) room.lastSeen.set(user, last_seen);
    this.#tell("people", room);
  }

  /** Removes a room. `why` is shown to users who did not do it themselves. */
  #remove(name, why) {
    const room = this.rooms.get(name);
    if (!room) return;
    this.rooms.delete(name);
    if (this.open === room) this.closeRoom();
    this.#tell("rooms");
    if (why && !room.ending) this.#tell("removed", room, why);
  }

  // ---------------------------------------------------------------- events

  #onState({ state, previous }) {
    if (state === "connected" && previous === "reconnecting") return this.#refresh();
    if (state === "connected") return undefined;
    // While disconnected, presence is unknown.
    for (const room of this.rooms.values()) {
      room.presenceKnown = false;
      this.#tell("people", room);
    }
    return this.#tell("rooms");
  }

  #onUpdated(name, title) {
    const room = this.rooms.get(name);
    if (!room) return;
    room.title = title || name;
    this.#tell("rooms");
    this.#tell("people", room);
  }

  /** Discards all messages, because the log was created again. The messages of the new log follow. */
  #onReset(name) {
    const room = this.rooms.get(name);
    if (!room) return;
    room.messages.clear();
    Object.assign(room, { head: 0, oldest: 0, newest: 0, ownHead: 0, more: false, reads: {}, last: undefined, wasReset: true });
    this.#tell("reset", room);
    this.#tell("rooms");
    if (this.open === room) this.#loadPeople(room).catch(() => {});
  }

  /** Marks messages as waiting: the node refused one for the moment, and later ones wait behind it. */
  #onRetry({ conversation, code, at }) {
    const room = this.rooms.get(conversation);
    for (const pending of room?.pending.values() ?? []) {
      if (pending.state !== "sending" && pending.state !== "waiting") continue;
      Object.assign(pending, { state: "waiting", until: at, because: code });
      this.#tell("pending", room, pending);
    }
  }

  #onMessage(message) {
    this.received++;
    const room = this.rooms.get(message.conversation);
    if (!room) return;
    if (room.newest >= message.seq) this.repeats++;
    this.#keep(room, message);
    room.head = Math.max(room.head, message.seq);
    room.newest = Math.max(room.newest, message.seq);
    this.#clearTyping(room, message.sender);
    const pending = message.sender === this.me && room.pending.get(message.metadata?.key);
    if (pending) {
      this.latencies.push({ at: Date.now(), ms: performance.now() - pending.sentAt });
      if (this.latencies.length > LATENCIES_MAX) this.latencies.shift();
      room.pending.delete(pending.key);
    }
    this.#tell("message", room, message, pending || undefined);
    if (room.messages.size > KEPT_MESSAGES_MAX) this.#dropOldest(room);
    this.#tell("rooms");
  }

  #dropOldest(room) {
    const kept = [...room.messages.keys()].sort((one, other) => one - other).slice(DROPPED_MESSAGES);
    room.messages = new Map(kept.map((seq) => [seq, room.messages.get(seq)]));
    room.oldest = kept[0];
    room.more = true;
    this.#tell("dropped", room);
  }

  #keep(room, message) {
    room.messages.set(message.seq, message);
    room.oldest = room.oldest ? Math.min(room.oldest, message.seq) : message.seq;
    if (message.seq >= (room.last?.seq ?? 0)) room.last = message;
    room.activity = Math.max(room.activity, Date.parse(message.at));
    if (message.sender === this.me) room.ownHead = Math.max(room.ownHead, message.seq);
  }

  #onRead(name, user, seq) {
    const room = this.rooms.get(name);
    if (!room || seq <= (room.reads[user] ?? 0)) return;
    room.reads[user] = seq;
    this.#tell("reads", room);
    if (user === this.me) this.#tell("rooms");
  }

  #onTyping(name, user, typing) {
    const room = this.rooms.get(name);
    if (!room || user === this.me) return;
    this.#clearTyping(room, user);
    if (typing) room.typing.set(user, setTimeout(() => this.#onTyping(name, user, false), TYPING_MS));
    this.#tell("typing", room);
  }

  #clearTyping(room, user) {
    if (!room.typing.has(user)) return;
    clearTimeout(room.typing.get(user));
    room.typing.delete(user);
    this.#tell("typing", room);
  }

  #onPresence({ conversation, user, online, last_seen }) {
    const room = this.rooms.get(conversation);
    if (!room) return;
    if (online) room.online.add(user);
    else {
      room.online.delete(user);
      room.lastSeen.set(user, last_seen ?? new Date().toISOString());
      this.#clearTyping(room, user);
    }
    this.#tell("people", room);
    this.#tell("rooms");
  }

  async #onMember({ conversation, user, member }) {
    const room = this.rooms.get(conversation);
    if (user === this.me && !member) return this.#remove(conversation, "is closed to you: your membership has ended");
    if (user === this.me && !room) {
      const info = await this.#client.describe(conversation).catch(() => ({ conversation }));
      if (this.rooms.has(conversation)) return;
      const added = this.#add({ ...info, head: info.head ?? 0 });
      added.activity = Date.now();
      this.#tell("rooms");
      return this.#join(added).catch(() => {});
    }
    if (!room) return;
    room.members = room.members.filter((other) => other !== user);
    if (member) room.members.push(user);
    else room.online.delete(user);
    // The conversation has a new owner.
    if (!member && user === room.owner) this.#loadPeople(room).catch(() => {});
    this.#tell("people", room);
    this.#tell("rooms");
  }

  #tell(part, ...detail) {
    for (const listener of this.#listeners.get(part) ?? []) listener(...detail);
  }
}

function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
