/**
 * Starling's client for browsers and Node (protocol version 1, JSON).
 *
 * It guarantees the following:
 *
 * - `message` events of a joined conversation arrive in the order of the log, each exactly once,
 *   whatever happens to the connection. If the log was created again, `reset` says so.
 * - `send` resolves when the message is committed. Until then it is retried with the same
 *   idempotency key, so a retry never becomes a second message. Sends to one conversation keep their order.
 * - A lost connection is restored automatically and continues where it was. When a node drains, the client
 *   moves to another one unnoticed.
 *
 * `starling/connection.js` opens and restores connections; `jobs.js` holds commands until they are
 * answered; `conversations.js` puts messages in order; `tokens.js` renews tokens; `http.js` makes HTTP requests.
 */
import { Addresses } from "./starling/addresses.js";
import { NodeClock } from "./starling/clock.js";
import { Connection } from "./starling/connection.js";
import { Conversations } from "./starling/conversations.js";
import { Emitter } from "./starling/emitter.js";
import { StarlingError, ignoreTransient } from "./starling/errors.js";
import { Http } from "./starling/http.js";
import { FRAME_BYTES_MAX, Jobs, utf8Length } from "./starling/jobs.js";
import { Tokens } from "./starling/tokens.js";

export { StarlingError };

/** Most cursors and topics in one `connect`. */
const RESUME_ENTRIES_MAX = 1000;
/** Most joins and subscriptions that are repeated at the same time. More would only hit the limit on commands. */
const REJOINS_AT_ONCE = 16;
/** Events that the client itself emits. An event from a node with one of these names is ignored. */
const OWN_EVENTS = new Set(["state", "truncated", "gap", "gone", "reset", "retry", "error"]);

const DEFAULTS = {
  outboxLimit: 1000,
  requestTimeoutMs: 30_000,
  sendTimeoutMs: 120_000,
  dialTimeoutMs: 10_000,
  connectAttempts: 6,
  backoffBaseMs: 250,
  backoffMaxMs: 15_000,
  tokenIntervalMs: 5_000,
  holeRetryMs: 250, // a read replica may lag
  catchUp: "page",
};

export class Starling {
  #options;
  #addresses;
  #clock = new NodeClock();
  #emitter = new Emitter();
  #tokens;
  #jobs;
  #http;
  #connection;
  #conversations;
  #topics = new Map(); // subscribed: name -> { epoch, offset }
  #session = null; // { session, ticket }
  #identity = {}; // user, tenant and node of the newest `connect`

  constructor(options) {
    this.#addresses = new Addresses(options.urls ?? [options.url]);
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    this.#options = { ...DEFAULTS, ...Object.fromEntries(given) };
    this.#options.WebSocket ??= globalThis.WebSocket;
    if (!this.#options.WebSocket) throw new StarlingError("bad_request", "this platform has no WebSocket: pass one as the option `WebSocket`");
    // Wrapped, because browsers require `fetch` to be called on the global object.
    this.#options.fetch ??= globalThis.fetch && ((...all) => globalThis.fetch(...all));
    const { token, tokenIntervalMs, requestTimeoutMs: timeoutMs, outboxLimit: limit, fetch, holeRetryMs, catchUp } = this.#options;
    const emit = (event, detail) => this.#emitter.emit(event, detail);
    this.#tokens = new Tokens({ source: token, intervalMs: tokenIntervalMs, timeoutMs, clock: this.#clock });
    this.#jobs = new Jobs({ limit, timeoutMs, link: () => this.#connection.link, emit });
    this.#http = new Http({ addresses: this.#addresses, tokens: this.#tokens, fetch, clock: this.#clock, timeoutMs });
    this.#conversations = new Conversations({
      emit, holeRetryMs, catchUp,
      history: (name, range) => this.history(name, range),
      isClosed: () => this.state === "closed",
    });
    this.#connection = new Connection({
      options: this.#options, addresses: this.#addresses, tokens: this.#tokens, jobs: this.#jobs, emit,
      hooks: {
        resumption: (token, how) => this.#resumption(token, how),
        identified: (ok) => this.#identified(ok),
        connected: (ok, link) => this.#connected(ok, link),
        event: (frame) => this.#onEvent(frame),
        renew: () => this.#renew(),
        hasSession: () => this.#session !== null,
        sessionEnded: () => (this.#session = null),
      },
    });
    if (options.resume) this.#restore(options.resume);
  }

  /** `idle`, `connecting`, `connected`, `reconnecting` or `closed`. */
  get state() {
    return this.#connection.state;
  }
  get session() {
    return this.#session?.session;
  }
  get user() {
    return this.#identity.user;
  }
  get tenant() {
    return this.#identity.tenant;
  }
  get node() {
    return this.#identity.node;
  }
  /** The names of the joined conversations. */
  get joined() {
    return this.#conversations.names;
  }
  /** The addresses, tried one after another. A new list is used from the next attempt on. */
  get urls() {
    return this.#addresses.all;
  }
  set urls(urls) {
    this.#addresses.replace(urls);
  }

  // ---------------------------------------------------------------- connection

  /**
   * Resolves once connected. Rejects with the cause if trying again cannot help, or after `connectAttempts` attempts without
   * a response from a node. Once connected, the client reconnects automatically for as long as it takes.
   */
  connect() {
    const opened = this.#connection.open().then(() => this);
    // A rejection is also an `error` event, so the program need not handle this promise.
    opened.catch(() => {});
    return opened;
  }

  /** Closes the client and rejects all unsettled commands with `closed`. `connect()` starts afresh. */
  close() {
    this.#http.stop();
    this.#connection.shut(new StarlingError("closed", "the client was closed"));
  }

  /**
   * Drops the connection without a close frame, as a broken network would, and reconnects after `holdMs`.
   * For demonstrations and tests.
   */
  cut(holdMs = 0) {
    this.#connection.cut(holdMs);
  }

  /** Returns the state that a later `new Starling({ resume })` needs to continue here, for example after a page reload. */
  snapshot() {
    return this.#session && { ...this.#session, cursors: this.#conversations.cursors(), topics: Object.fromEntries(this.#topics) };
  }

  // ---------------------------------------------------------------- conversations

  /** Creates a conversation; resolves with its name and whether it is new. `members` are other users. */
  create({ conversation, title, members, metadata } = {}) {
    const fields = { conversation, title, members, metadata };
    // Without a name a repeat would create a second one, so the command is not repeated once it may have arrived.
    return this.#jobs.request("create", fields, { replay: conversation !== undefined });
  }

  /** Returns a page of the user's conversations, most recently active first; `next` is the next page's cursor. */
  list({ cursor, limit } = {}) {
    return this.#http.call("GET", ["conversations"], { query: { cursor, limit } });
  }

  /** Returns one conversation, including its members. */
  describe(conversation) {
    return this.#http.call("GET", ["conversations", conversation]);
  }

  /** Changes `title` and `metadata`: an absent field stays, `null` removes it. For the owner. */
  update(conversation, { title, metadata }) {
    return this.#http.call("PATCH", ["conversations", conversation], { body: { title, metadata } });
  }

  /** Changes the title. For the owner. */
  rename(conversation, title) {
    return this.update(conversation, { title });
  }

  /** Deletes the conversation with all its messages. For the owner. */
  async delete(conversation) {
    await this.#http.call("DELETE", ["conversations", conversation], { removes: true });
    this.#conversations.forget(conversation);
  }

  /** Adds a member; resolves with the conversation. For the owner. */
  addMember(conversation, user) {
    return this.#http.call("PUT", ["conversations", conversation, "members", user]);
  }

  /** Removes a member. For the owner; members may remove themselves, which is `leave` with `forGood`. */
  async removeMember(conversation, user) {
    await this.#http.call("DELETE", ["conversations", conversation, "members", user], { removes: true });
    if (user === this.user) this.#conversations.forget(conversation);
  }

  /** Starts the events of a conversation. With `after`, the messages after that seq (of that `log`, if given) arrive first. */
  join(conversation, { after, log } = {}) {
    // Joining again continues at the cursor, so that nothing is skipped; an explicit `after` goes back.
    const known = this.#conversations.position(conversation);
    const from = after ?? known.after;
    const fields = { conversation, after: from, log: from === undefined ? undefined : log ?? known.log };
    return this.#jobs.request("join", fields, {
      onOk: (ok) => this.#conversations.joined(conversation, ok, from, after !== undefined),
    });
  }

  /** Stops the events of a conversation. The user stays a member, unless `forGood` is true. */
  async leave(conversation, { forGood = false } = {}) {
    const forget = () => this.#conversations.forget(conversation);
    forget();
    // Repeated with the reply: a join in flight may have added the conversation again.
    await this.#jobs.request("leave", { conversation }, { onOk: forget });
    if (forGood) await this.removeMember(conversation, this.user);
  }

  /** Resolves with `{ id, seq, at, duplicate, key }` when the message is committed. */
  async send(conversation, content, { metadata, key = randomKey(), timeoutMs } = {}) {
    const options = { lane: conversation, timeoutMs: timeoutMs ?? this.#options.sendTimeoutMs };
    const ok = await this.#jobs.request("send", { conversation, key, content, metadata }, options);
    this.#clock.isAtLeast(ok.at);
    return { ...ok, key };
  }

  history(conversation, { before, after, limit } = {}) {
    return this.#jobs.request("history", { conversation, before, after, limit });
  }

  async read(conversation, seq) {
    await this.#jobs.request("read", { conversation, seq });
  }

  /** Reports that the user is typing, or has stopped. Does nothing while offline. */
  async typing(conversation, typing = true) {
    if (this.#connection.link) await this.#jobs.request("typing", { conversation, typing }, { once: true }).catch(ignoreTransient);
  }

  async presence(conversation) {
    return (await this.#jobs.request("presence", { conversation })).users;
  }

  // ---------------------------------------------------------------- topics and the rest

  /** Subscribes to a topic. `since` is a position from an earlier `subscribe` or `publish`. */
  subscribe(topic, { since = this.#topics.get(topic) } = {}) {
    return this.#jobs.request("subscribe", { topic, since }, { onOk: (ok) => this.#subscribed(topic, ok, since) });
  }

  async unsubscribe(topic) {
    const forget = () => this.#topics.delete(topic);
    forget();
    await this.#jobs.request("unsubscribe", { topic }, { onOk: forget });
  }

  /** Publishes on a topic. Not repeated once it may have arrived, because a publication has no key. */
  publish(topic, data) {
    return this.#jobs.request("publish", { topic, data }, { replay: false });
  }

  /** Sends a new token to the node, by default from the token function. */
  async refresh(token) {
    const shown = token ?? (await this.#tokens.get({ fresh: true }));
    const ok = await this.#jobs.request("refresh", { token: shown });
    this.#tokens.accepted(shown, ok.expires_at, () => this.#renew());
    return ok;
  }

  /** Returns the round-trip time to the node in milliseconds. */
  async ping() {
    const start = performance.now();
    await this.#jobs.request("ping", {}, { once: true });
    return performance.now() - start;
  }

  /** Calls `listener` for every such event; returns a function that removes the listener. */
  on(event, listener) {
    return this.#emitter.on(event, listener);
  }

  off(event, listener) {
    this.#emitter.off(event, listener);
  }

  // ---------------------------------------------------------------- sessions

  /** Stores the reply to `connect`; returns its part of the event `state`. */
  #identified(ok) {
    this.#session = { session: ok.session, ticket: ok.ticket };
    this.#identity = { user: ok.user, tenant: ok.tenant, node: ok.node };
    const { conversations = {}, topics = {} } = ok;
    const replayed = [...Object.values(conversations), ...Object.values(topics)].reduce((sum, part) => sum + part.replayed, 0);
    return { ...this.#identity, session: ok.session, replayed, conversations, topics };
  }

  #connected(ok, link) {
    if (ok.resumed) this.#resumed(ok, link.named);
    else this.#rejoin(this.joined, [...this.#topics.keys()]);
  }

  /**
   * Returns the `resume` of a `connect`. If the session has more than fits into a frame, topics come first, since publications can
   * only be recovered by position, then the conversations that were joined last. The others are joined again.
   */
  #resumption(token, { plain }) {
    if (!this.#session) return undefined;
    let bytes = FRAME_BYTES_MAX - 32 - utf8Length(JSON.stringify({ op: "connect", token, resume: { ...this.#session, cursors: {}, topics: {} } }));
    let entries = RESUME_ENTRIES_MAX;
    const fitting = (all) =>
      Object.fromEntries(all.reverse().filter((entry) => {
        bytes -= utf8Length(JSON.stringify(Object.fromEntries([entry])));
        return bytes > 0 && --entries >= 0;
      }));
    const topics = fitting([...this.#topics]);
    const cursors = Object.entries(this.#conversations.cursors());
    return { ...this.#session, cursors: fitting(plain ? cursors.map(([name, cursor]) => [name, cursor.seq ?? cursor]) : cursors), topics };
  }

  /** Handles a resumed session: stores the state of each conversation and topic that `connect` named. */
  #resumed(ok, named) {
    // The node replayed nothing for conversations and topics that were not named.
    const served = {
      conversations: (name) => Object.hasOwn(named.cursors, name) && Object.hasOwn(ok.conversations ?? {}, name),
      topics: (name) => Object.hasOwn(named.topics, name) && Object.hasOwn(ok.topics ?? {}, name),
    };
    for (const name of ok.gone ?? []) this.#conversations.gone(name, new StarlingError("not_found", "no longer readable"));
    for (const [name, part] of Object.entries(ok.conversations ?? {})) {
      if (this.#conversations.has(name) && served.conversations(name)) this.#conversations.caughtUp(name, part);
      // Left while disconnected, so the node does not know about it.
      else if (!this.#conversations.has(name)) this.#jobs.request("leave", { conversation: name }, { first: true }).catch(() => {});
    }
    for (const [name, part] of Object.entries(ok.topics ?? {})) {
      if (this.#topics.has(name) && served.topics(name)) this.#subscribed(name, part, this.#topics.get(name));
      else if (!this.#topics.has(name)) this.#jobs.request("unsubscribe", { topic: name }, { first: true }).catch(() => {});
    }
    this.#rejoin(
      this.joined.filter((name) => !served.conversations(name)),
      [...this.#topics.keys()].filter((name) => !served.topics(name)),
    );
  }

  /** Joins and subscribes again, at the current cursors, where the node has no state. Only for the current link. */
  #rejoin(conversations, topics) {
    let count = 0;
    // Names contain no slash, so no other job uses these lanes. They need no deadline while they wait for each other: they end with the link.
    const options = (onOk) => ({
      first: true, only: this.#connection.link, lane: `rejoin/${count++ % REJOINS_AT_ONCE}`, timeoutMs: Infinity, onOk,
    });
    for (const name of conversations) {
      const { after, log } = this.#conversations.position(name);
      const onOk = (ok) => {
        if (this.#conversations.has(name)) this.#conversations.joined(name, ok, after, false);
        // Left while this job was waiting.
        else this.#jobs.request("leave", { conversation: name }, { first: true }).catch(() => {});
      };
      this.#jobs.request("join", { conversation: name, after, log }, options(onOk))
        .catch((error) => error.code === "disconnected" || this.#conversations.gone(name, error));
    }
    for (const name of topics) {
      const since = this.#topics.get(name);
      const onOk = (ok) => {
        if (this.#topics.has(name)) this.#subscribed(name, ok, since);
        else this.#jobs.request("unsubscribe", { topic: name }, { first: true }).catch(() => {});
      };
      this.#jobs.request("subscribe", { topic: name, since }, options(onOk))
        .catch((error) => error.code === "disconnected" || (this.#topics.delete(name) && this.#emitter.emit("gone", { topic: name, error })));
    }
  }

  #restore({ session, ticket, cursors = {}, topics = {} }) {
    this.#session = { session, ticket };
    this.#conversations.restore(cursors);
    for (const [name, position] of Object.entries(topics)) this.#topics.set(name, { ...position });
  }

  /** Renews a token that expires soon. A failure is reported and retried; if that does not help, the node closes with 4401. */
  #renew() {
    this.refresh().catch((error) => {
      if (this.state === "closed") return;
      this.#emitter.emit("error", error instanceof StarlingError ? error : new StarlingError("unauthorized", `no token: ${error?.message ?? error}`));
      if (this.state === "connected") this.#tokens.renewLater(() => this.#renew());
    });
  }

  // ---------------------------------------------------------------- events

  #onEvent(event) {
    switch (event.ev) {
      case "message":
        this.#clock.isAtLeast(event.at);
        return this.#conversations.message(event);
      case "publication": {
        const position = this.#topics.get(event.topic);
        if (!position) return;
        position.offset = event.offset;
        break;
      }
      case "draining":
        this.#connection.drain(event.reconnect_after_ms);
        break;
      case "deleted":
        if (!this.#conversations.deleted(event)) return;
        break;
      case "member":
        if (event.user === this.user && !event.member) this.#conversations.forget(event.conversation);
        break;
    }
    if (!OWN_EVENTS.has(event.ev)) this.#emitter.emit(event.ev, event);
  }

  #subscribed(topic, ok, since) {
    // Each replayed publication advances the position.
    const offset = ok.recovered && since ? since.offset : ok.offset;
    this.#topics.set(topic, { epoch: ok.epoch, offset });
    if (since && !ok.recovered) this.#emitter.emit("gap", { topic });
  }
}

/** Returns 128 random bits in hexadecimal. `crypto.randomUUID` is missing on pages loaded over plain HTTP from another host. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
