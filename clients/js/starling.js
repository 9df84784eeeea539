/**
 * Starling's client for browsers and Node (protocol version 1, JSON).
 *
 * What it promises to the program that uses it:
 *
 * - `message` events of a joined conversation come in the order of the log, each exactly once,
 *   whatever happens to the connection in between; a log that was made again is told by `reset`.
 * - `send` resolves when the message is committed. Until then it is tried again under the same
 *   idempotency key, so a retry never becomes a second message; sends to one conversation keep their order.
 * - A lost connection comes back by itself and goes on where it was; a node that drains is left
 *   without anybody noticing.
 *
 * Where what is: `starling/connection.js` dials, loses and comes back; `jobs.js` has what the program asked for until
 * it is answered; `conversations.js` puts messages in order; `tokens.js` renews tokens; `http.js` makes the calls that go by HTTP.
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

/** Cursors and topics that one `connect` may name. */
const RESUME_ENTRIES_MAX = 1000;
/** Joins and subscriptions that are made again go so many at a time; more would only meet the limit on commands. */
const REJOINS_AT_ONCE = 16;
/** Events of the client's own; a node's event of such a name is ignored. */
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
    if (!this.#options.WebSocket) throw new StarlingError("bad_request", "no WebSocket here: pass one as the option `WebSocket`");
    // Not the bare function: browsers want it called on the global object.
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
  /** The addresses that are tried one after the other. A new list holds from the next attempt on. */
  get urls() {
    return this.#addresses.all;
  }
  set urls(urls) {
    this.#addresses.replace(urls);
  }

  // ---------------------------------------------------------------- connection

  /**
   * Resolves once connected. Rejects with the cause when trying again can't help, or after `connectAttempts` attempts at
   * which no node answered. Once connected, the client comes back by itself for as long as it takes.
   */
  connect() {
    const opened = this.#connection.open().then(() => this);
    // A rejection is also an `error` event; nobody has to wait on this promise.
    opened.catch(() => {});
    return opened;
  }

  /** Closes for good and rejects what is unsettled with `closed`. `connect()` starts afresh. */
  close() {
    this.#http.stop();
    this.#connection.shut(new StarlingError("closed", "the client was closed"));
  }

  /**
   * Drops the socket without a goodbye, as a broken network would, and comes back after `holdMs`.
   * For demonstrations and tests.
   */
  cut(holdMs = 0) {
    this.#connection.cut(holdMs);
  }

  /** What a later `new Starling({ resume })` needs to go on here, for instance after a page reload. */
  snapshot() {
    return this.#session && { ...this.#session, cursors: this.#conversations.cursors(), topics: Object.fromEntries(this.#topics) };
  }

  // ---------------------------------------------------------------- conversations

  /** Creates a conversation; resolves with its name and whether it is new. `members` are other users. */
  create({ conversation, title, members, metadata } = {}) {
    const fields = { conversation, title, members, metadata };
    // Without a name a repeat would make a second one, so it is not repeated once it may have arrived.
    return this.#jobs.request("create", fields, { replay: conversation !== undefined });
  }

  /** One page of the conversations that the user is a member of, newest activity first; `next` is the next page's cursor. */
  list({ cursor, limit } = {}) {
    return this.#http.call("GET", ["conversations"], { query: { cursor, limit } });
  }

  /** What there is to know of one conversation, its members included. */
  describe(conversation) {
    return this.#http.call("GET", ["conversations", conversation]);
  }

  /** Changes `title` and `metadata`; what is absent stays, `null` removes. For the owner. */
  update(conversation, { title, metadata }) {
    return this.#http.call("PATCH", ["conversations", conversation], { body: { title, metadata } });
  }

  /** Gives the conversation another title. For the owner. */
  rename(conversation, title) {
    return this.update(conversation, { title });
  }

  /** Deletes the conversation with all its messages. For the owner. */
  async delete(conversation) {
    await this.#http.call("DELETE", ["conversations", conversation], { removes: true });
    this.#conversations.forget(conversation);
  }

  /** Makes a user a member; resolves with the conversation. For the owner. */
  addMember(conversation, user) {
    return this.#http.call("PUT", ["conversations", conversation, "members", user]);
  }

  /** Ends a membership. For the owner; a member may end their own, which is `leave` with `forGood`. */
  async removeMember(conversation, user) {
    await this.#http.call("DELETE", ["conversations", conversation, "members", user], { removes: true });
    if (user === this.user) this.#conversations.forget(conversation);
  }

  /** Starts the flow of events; with `after`, messages since that seq (of that `log`, if given) come first. */
  join(conversation, { after, log } = {}) {
    // Joining again goes on at the cursor, so that nothing is skipped; an explicit `after` goes back.
    const known = this.#conversations.position(conversation);
    const from = after ?? known.after;
    const fields = { conversation, after: from, log: from === undefined ? undefined : log ?? known.log };
    return this.#jobs.request("join", fields, {
      onOk: (ok) => this.#conversations.joined(conversation, ok, from, after !== undefined),
    });
  }

  /** Ends the flow of events; the user stays a member, unless it is `forGood`. */
  async leave(conversation, { forGood = false } = {}) {
    const forget = () => this.#conversations.forget(conversation);
    forget();
    // Again with the reply: a join that was under way may have brought it back.
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

  /** Says that the user types, or has stopped. Nothing is kept for later: offline it does nothing. */
  async typing(conversation, typing = true) {
    if (this.#connection.link) await this.#jobs.request("typing", { conversation, typing }, { once: true }).catch(ignoreTransient);
  }

  async presence(conversation) {
    return (await this.#jobs.request("presence", { conversation })).users;
  }

  // ---------------------------------------------------------------- topics and the rest

  /** `since` is a position that an earlier `subscribe` or `publish` gave. */
  subscribe(topic, { since = this.#topics.get(topic) } = {}) {
    return this.#jobs.request("subscribe", { topic, since }, { onOk: (ok) => this.#subscribed(topic, ok, since) });
  }

  async unsubscribe(topic) {
    const forget = () => this.#topics.delete(topic);
    forget();
    await this.#jobs.request("unsubscribe", { topic }, { onOk: forget });
  }

  /** Not repeated once it may have arrived: a publication has no key. */
  publish(topic, data) {
    return this.#jobs.request("publish", { topic, data }, { replay: false });
  }

  /** Shows the node a newer token, by default from the token function. */
  async refresh(token) {
    const shown = token ?? (await this.#tokens.get({ fresh: true }));
    const ok = await this.#jobs.request("refresh", { token: shown });
    this.#tokens.accepted(shown, ok.expires_at, () => this.#renew());
    return ok;
  }

  /** Round trip to the node in milliseconds. */
  async ping() {
    const start = performance.now();
    await this.#jobs.request("ping", {}, { once: true });
    return performance.now() - start;
  }

  /** Calls `listener` for every such event; returns the function that ends it. */
  on(event, listener) {
    return this.#emitter.on(event, listener);
  }

  off(event, listener) {
    this.#emitter.off(event, listener);
  }

  // ---------------------------------------------------------------- sessions

  /** Takes the answer to `connect`; returns what the event `state` tells of it. */
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
   * What `connect` resumes with. The session may be in more than one frame can name: then it is the topics, since only a
   * position brings publications back, and the conversations that were joined last. The others are joined again.
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

  /** The node kept the session: takes over what it says about each conversation and topic that `connect` named. */
  #resumed(ok, named) {
    // Of what was not named the node replayed nothing.
    const served = {
      conversations: (name) => Object.hasOwn(named.cursors, name) && Object.hasOwn(ok.conversations ?? {}, name),
      topics: (name) => Object.hasOwn(named.topics, name) && Object.hasOwn(ok.topics ?? {}, name),
    };
    for (const name of ok.gone ?? []) this.#conversations.gone(name, new StarlingError("not_found", "no longer readable"));
    for (const [name, part] of Object.entries(ok.conversations ?? {})) {
      if (this.#conversations.has(name) && served.conversations(name)) this.#conversations.caughtUp(name, part);
      // Left while the connection was away, so that the node did not hear of it.
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

  /** The node knows nothing of these: asks again from where we are. Belongs to this link alone. */
  #rejoin(conversations, topics) {
    let count = 0;
    // No name holds a slash, so the lanes are nobody else's. Waiting for one another they need no deadline: they end with the link.
    const options = (onOk) => ({
      first: true, only: this.#connection.link, lane: `rejoin/${count++ % REJOINS_AT_ONCE}`, timeoutMs: Infinity, onOk,
    });
    for (const name of conversations) {
      const { after, log } = this.#conversations.position(name);
      const onOk = (ok) => {
        if (this.#conversations.has(name)) this.#conversations.joined(name, ok, after, false);
        // Left while this waited for its turn.
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

  /** The token is soon over. A failure is told and tried again; if it stays so, the node closes with 4401. */
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
    // What is replayed moves the position itself, publication by publication.
    const offset = ok.recovered && since ? since.offset : ok.offset;
    this.#topics.set(topic, { epoch: ok.epoch, offset });
    if (since && !ok.recovered) this.#emitter.emit("gap", { topic });
  }
}

/** 128 random bits; `crypto.randomUUID` is missing on pages that came over plain HTTP from another host. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
