/**
 * Starling's client for browsers and Node (protocol version 1, JSON).
 *
 * What it promises to the program that uses it:
 *
 * - `message` events of a joined conversation come in the order of the log, each exactly once,
 *   whatever happens to the connection in between.
 * - `send` resolves when the message is committed. Until then it is tried again under the same
 *   idempotency key, so a retry never becomes a second message; sends to one conversation keep their order.
 * - A lost connection comes back by itself and goes on where it was; a node that drains is left
 *   without anybody noticing.
 *
 * How: every socket is a *link*. There is at most one current link, one that is being dialled (after a
 * loss, or beside the current one during a drain) and one that is retiring. What the program asks for is a
 * *job*; a job waits in the outbox until the current link carries it, and goes back there if the link is lost.
 */

const FRAME_BYTES_MAX = 128 * 1024;
/** Cursors and topics that one `connect` may name. */
const RESUME_ENTRIES_MAX = 1000;
/** Joins and subscriptions that are made again go so many at a time; more would only meet the limit on commands. */
const REJOINS_AT_ONCE = 16;
/** Messages kept aside per conversation while a hole before them is filled; the rest is read again from the log. */
const HELD_MESSAGES_MAX = 1000;
/** How often a hole is asked for before it is given up. */
const HOLE_ATTEMPTS_MAX = 40;
/** How long a replaced socket may take to answer what was asked on it. */
const RETIRE_MS = 5000;
/** `setTimeout` overflows above this many milliseconds. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** Close codes after which coming back by itself would be wrong, and the error the program sees. */
const FINAL_CLOSES = new Map([
  [4400, ["protocol", "the node did not understand this client"]],
  [4409, ["replaced", "this session was attached somewhere else"]],
  [4410, ["ended", "an operator ended this session"]],
]);

const DEFAULTS = {
  outboxLimit: 1000,
  requestTimeoutMs: 30_000,
  sendTimeoutMs: 120_000,
  dialTimeoutMs: 10_000,
  backoffBaseMs: 250,
  backoffMaxMs: 15_000,
  holeRetryMs: 250, // a read replica may lag
  catchUp: "page",
};

/** Every rejection of this module: `code` is stable (see the README for the list), `message` is for people. */
export class StarlingError extends Error {
  constructor(code, message, retryAfterMs) {
    super(message || code);
    this.name = "StarlingError";
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

export class Starling {
  #options;
  #Socket;
  #urls;
  #urlIndex = 0;
  #listeners = new Map();

  #state = "idle";
  #link = null; // carries commands and events
  #dialling = null; // being opened, or waiting for the reply to its `connect`
  #dialCount = 0; // a dial whose number is not the newest was given up
  #failures = 0; // dials in a row that came to nothing
  #retryTimer = null;
  #drainTimer = null;
  #refreshTimer = null;
  #askedTokenAgain = false;
  #opening = null; // what `connect()` returned: { promise, resolve, reject }

  #session = null; // { session, ticket }
  #identity = {}; // user, tenant and node of the newest `connect`
  #conversations = new Map(); // joined: name -> { name, cursor, top, held, filling }
  #topics = new Map(); // subscribed: name -> { epoch, offset }

  #jobs = new Set(); // all that is unsettled; bounded by `outboxLimit`
  #outbox = []; // those that wait for a link, by `order`
  #lanes = new Map(); // conversation -> the one `send` that is under way
  #order = 0;
  #lastId = 0;

  constructor(options) {
    const urls = options.urls ?? [options.url];
    if (urls.length === 0 || urls.some((url) => !url)) throw new StarlingError("bad_request", "a url is needed");
    this.#options = { ...DEFAULTS, ...options };
    this.#urls = urls.map(webSocketUrl);
    this.#Socket = options.WebSocket ?? globalThis.WebSocket;
    if (!this.#Socket) throw new StarlingError("bad_request", "no WebSocket here: pass one as the option `WebSocket`");
    if (options.resume) this.#restore(options.resume);
  }

  /** `idle`, `connecting`, `connected`, `reconnecting` or `closed`. */
  get state() {
    return this.#state;
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
    return [...this.#conversations.keys()];
  }

  // ---------------------------------------------------------------- connection

  /** Resolves once connected; goes on trying while no node answers, rejects when that can't help. */
  connect() {
    if (this.#opening) return this.#opening.promise;
    this.#opening = deferred();
    // A rejection is also an `error` event; nobody has to wait on this promise.
    this.#opening.promise.catch(() => {});
    this.#failures = 0;
    this.#askedTokenAgain = false;
    this.#setState("connecting");
    this.#dial();
    globalThis.addEventListener?.("online", this.#hurry);
    return this.#opening.promise;
  }

  /** Closes for good and rejects what is unsettled with `closed`. `connect()` starts afresh. */
  close() {
    this.#shut(new StarlingError("closed", "the client was closed"));
  }

  /**
   * Drops the socket without a goodbye, as a broken network would, and comes back after `holdMs`.
   * For demonstrations and tests.
   */
  cut(holdMs = 0) {
    if (this.#link) this.#lost(this.#link, 1006, "cut", holdMs);
  }

  /** What a later `new Starling({ resume })` needs to go on here, for instance after a page reload. */
  snapshot() {
    return this.#session && { ...this.#session, cursors: this.#cursors(), topics: Object.fromEntries(this.#topics) };
  }

  // ---------------------------------------------------------------- conversations

  /** Creates a conversation; resolves with its name and whether it is new. */
  create({ conversation, title, members, metadata } = {}) {
    const fields = { conversation, title, members, metadata };
    // Without a name a repeat would make a second one, so it is not repeated once it may have arrived.
    return this.#request("create", fields, { replay: conversation !== undefined });
  }

  /** Starts the flow of events; with `after`, messages since that seq come first. */
  join(conversation, { after } = {}) {
    // Joining again goes on at the cursor, so that nothing is skipped; an explicit `after` goes back.
    const from = after ?? this.#conversations.get(conversation)?.cursor;
    return this.#request("join", { conversation, after: from }, {
      onOk: (ok) => this.#joined(conversation, ok, from, after !== undefined),
    });
  }

  async leave(conversation) {
    const forget = () => this.#conversations.delete(conversation);
    forget();
    // Again with the reply: a join that was under way may have brought it back.
    await this.#request("leave", { conversation }, { onOk: forget });
  }

  /** Resolves with `{ id, seq, at, duplicate, key }` when the message is committed. */
  async send(conversation, content, { metadata, key = randomKey(), timeoutMs } = {}) {
    const options = { lane: conversation, timeoutMs: timeoutMs ?? this.#options.sendTimeoutMs };
    return { ...(await this.#request("send", { conversation, key, content, metadata }, options)), key };
  }

  history(conversation, { before, after, limit } = {}) {
    return this.#request("history", { conversation, before, after, limit });
  }

  async read(conversation, seq) {
    await this.#request("read", { conversation, seq });
  }

  /** Says that the user types, or has stopped. Nothing is kept for later: offline it does nothing. */
  async typing(conversation, typing = true) {
    if (this.#link) await this.#request("typing", { conversation, typing }, { once: true }).catch(ignoreTransient);
  }

  async presence(conversation) {
    return (await this.#request("presence", { conversation })).users;
  }

  // ---------------------------------------------------------------- topics and the rest

  /** `since` is a position that an earlier `subscribe` or `publish` gave. */
  subscribe(topic, { since = this.#topics.get(topic) } = {}) {
    return this.#request("subscribe", { topic, since }, { onOk: (ok) => this.#subscribed(topic, ok, since) });
  }

  async unsubscribe(topic) {
    const forget = () => this.#topics.delete(topic);
    forget();
    await this.#request("unsubscribe", { topic }, { onOk: forget });
  }

  /** Not repeated once it may have arrived: a publication has no key. */
  publish(topic, data) {
    return this.#request("publish", { topic, data }, { replay: false });
  }

  /** Shows the node a newer token, by default from the token function. */
  async refresh(token) {
    const ok = await this.#request("refresh", { token: token ?? (await this.#token()) });
    this.#planRefresh(ok.expires_at);
    return ok;
  }

  /** Round trip to the node in milliseconds. */
  async ping() {
    const start = performance.now();
    await this.#request("ping", {}, { once: true });
    return performance.now() - start;
  }

  /** Calls `listener` for every such event; returns the function that ends it. */
  on(event, listener) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    this.#listeners.get(event).add(listener);
    return () => this.off(event, listener);
  }

  off(event, listener) {
    this.#listeners.get(event)?.delete(listener);
  }

  // ---------------------------------------------------------------- dialling

  /** Opens a link: the first one, one after a loss, or, while the current one drains, a second one. */
  async #dial() {
    const count = ++this.#dialCount;
    clearTimeout(this.#retryTimer);
    let token;
    try {
      // Before the socket: a slow token must not run into the node's connect timeout.
      token = await this.#token();
    } catch (error) {
      if (count !== this.#dialCount) return;
      this.#emit("error", new StarlingError("unauthorized", `no token: ${error?.message ?? error}`));
      return this.#dialLater();
    }
    if (count !== this.#dialCount) return;

    const url = this.#urls[this.#urlIndex++ % this.#urls.length];
    const link = { socket: null, url, pending: new Map(), ready: false, muted: false, gone: false, heardAt: 0, pingedAt: 0 };
    link.handover = Boolean(this.#link);
    this.#dialling = link;
    link.timer = setTimeout(() => this.#lost(link, 1006, "no answer in time"), this.#options.dialTimeoutMs);
    let socket;
    try {
      socket = link.socket = new this.#Socket(url, "starling.v1.json");
    } catch (error) {
      return this.#shut(new StarlingError("bad_request", error.message));
    }
    socket.onopen = () => this.#sayConnect(link, token);
    socket.onmessage = (event) => this.#onFrame(link, event.data);
    socket.onclose = (event) => this.#lost(link, event.code, event.reason);
    socket.onerror = () => {}; // a close follows, and says the same
  }

  #sayConnect(link, token) {
    const resume = this.#resumption(token);
    link.named = resume;
    // From here on the node may serve this session on the new socket: what still comes on the old one would
    // come twice. Replies there still count.
    if (this.#link && resume) this.#link.muted = true;
    this.#transmit(link, {
      body: JSON.stringify({ op: "connect", token, resume }),
      settle: (error, ok) => (error ? this.#refused(link, error) : this.#connected(link, ok)),
    });
  }

  #refused(link, error) {
    if (error.code === "unauthorized") return this.#lost(link, 4401, error.message);
    if (["unavailable", "rate_limited", "internal"].includes(error.code)) {
      return this.#lost(link, 1013, error.message, error.retryAfterMs);
    }
    this.#shut(error);
  }

  #connected(link, ok) {
    const previous = this.#link;
    clearTimeout(link.timer);
    clearTimeout(this.#drainTimer);
    this.#dialling = null;
    this.#link = link;
    link.ready = true;
    link.timer = setInterval(() => this.#watch(link, ok.heartbeat_ms), ok.heartbeat_ms / 2);
    this.#failures = 0;
    this.#askedTokenAgain = false;
    this.#session = { session: ok.session, ticket: ok.ticket };
    this.#identity = { user: ok.user, tenant: ok.tenant, node: ok.node };
    this.#planRefresh(ok.expires_at);
    if (previous) this.#retire(previous);

    const summary = { resumed: ok.resumed, handover: link.handover, replayed: 0, conversations: ok.conversations ?? {}, topics: ok.topics ?? {} };
    for (const part of [...Object.values(summary.conversations), ...Object.values(summary.topics)]) summary.replayed += part.replayed;
    this.#setState("connected", { ...this.#identity, session: ok.session, ...summary });
    if (ok.resumed) this.#resumed(ok, link.named);
    else this.#rejoin(this.#conversations.keys(), this.#topics.keys());
    this.#flush();
    this.#opening?.resolve(this);
  }

  /**
   * What `connect` resumes with. The session may be in more than one frame can name: then it is the topics, since only a
   * position brings publications back, and the conversations that were joined last. The others are joined again.
   */
  #resumption(token) {
    if (!this.#session) return undefined;
    let bytes = FRAME_BYTES_MAX - 32 - utf8Length(JSON.stringify({ op: "connect", token, resume: { ...this.#session, cursors: {}, topics: {} } }));
    let entries = RESUME_ENTRIES_MAX;
    const fitting = (all) =>
      Object.fromEntries(all.reverse().filter((entry) => {
        bytes -= utf8Length(JSON.stringify(Object.fromEntries([entry])));
        return bytes > 0 && --entries >= 0;
      }));
    const topics = fitting([...this.#topics]);
    return { ...this.#session, cursors: fitting(Object.entries(this.#cursors())), topics };
  }

  /** The node kept the session: takes over what it says about each conversation and topic that `connect` named. */
  #resumed(ok, named) {
    // Of what was not named the node replayed nothing.
    const served = {
      conversations: (name) => Object.hasOwn(named.cursors, name) && Object.hasOwn(ok.conversations ?? {}, name),
      topics: (name) => Object.hasOwn(named.topics, name) && Object.hasOwn(ok.topics ?? {}, name),
    };
    for (const name of ok.gone ?? []) this.#forget(name, new StarlingError("not_found", "no longer readable"));
    for (const [name, part] of Object.entries(ok.conversations ?? {})) {
      const conversation = this.#conversations.get(name);
      if (conversation && served.conversations(name)) this.#catchUp(conversation, part);
      // Left while the connection was away, so that the node did not hear of it.
      else if (!conversation) this.#request("leave", { conversation: name }, { first: true }).catch(() => {});
    }
    for (const [name, part] of Object.entries(ok.topics ?? {})) {
      if (this.#topics.has(name) && served.topics(name)) this.#subscribed(name, part, this.#topics.get(name));
      else if (!this.#topics.has(name)) this.#request("unsubscribe", { topic: name }, { first: true }).catch(() => {});
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
    const options = (onOk) => ({ first: true, only: this.#link, lane: `rejoin/${count++ % REJOINS_AT_ONCE}`, timeoutMs: Infinity, onOk });
    for (const name of conversations) {
      const { cursor } = this.#conversations.get(name);
      const onOk = (ok) => {
        if (this.#conversations.has(name)) this.#joined(name, ok, cursor, false);
        // Left while this waited for its turn.
        else this.#request("leave", { conversation: name }, { first: true }).catch(() => {});
      };
      this.#request("join", { conversation: name, after: cursor }, options(onOk))
        .catch((error) => error.code === "disconnected" || this.#forget(name, error));
    }
    for (const name of topics) {
      const since = this.#topics.get(name);
      const onOk = (ok) => {
        if (this.#topics.has(name)) this.#subscribed(name, ok, since);
        else this.#request("unsubscribe", { topic: name }, { first: true }).catch(() => {});
      };
      this.#request("subscribe", { topic: name, since }, options(onOk))
        .catch((error) => error.code === "disconnected" || (this.#topics.delete(name) && this.#emit("gone", { topic: name, error })));
    }
  }

  /** A replaced socket may still answer; then it goes. */
  #retire(link) {
    link.retiring = true;
    link.muted = true;
    clearInterval(link.timer);
    if (link.pending.size === 0) this.#lost(link, 1000, "replaced");
    else link.timer = setTimeout(() => this.#lost(link, 1000, "replaced"), RETIRE_MS);
  }

  /** The one place where a link ends, whoever ended it. */
  #lost(link, code, reason, waitMs = 0) {
    if (link.gone) return;
    link.gone = true;
    clearTimeout(link.timer); // an interval too: they share their ids
    hangUp(link.socket, code);
    const wasCurrent = link === this.#link;
    const wasDialling = link === this.#dialling;
    if (wasCurrent) this.#link = null;
    if (wasDialling) this.#dialling = null;
    this.#takeBack(link);
    if (link.retiring) return this.#flush();

    if (wasDialling && this.#link) {
      // The second socket of a drain failed. Untouched, the current one serves on and we try again; but once
      // muted it has events that we did not take, so both go and the cursors bring us back.
      if (!this.#link.muted) return this.#dialLater(waitMs);
      return this.#lost(this.#link, code, reason, waitMs);
    }
    if (wasCurrent && this.#dialling) {
      // A drain is under way and the node was quicker; unless muted, people should know that we are away.
      if (!link.muted) this.#setState("reconnecting", { code, reason });
      return;
    }
    clearTimeout(this.#drainTimer);
    clearTimeout(this.#refreshTimer);
    if (FINAL_CLOSES.has(code)) {
      if (code !== 4400) this.#session = null;
      return this.#shut(new StarlingError(...FINAL_CLOSES.get(code)));
    }
    if (code === 4401) {
      if (typeof this.#options.token !== "function" || this.#askedTokenAgain) {
        return this.#shut(new StarlingError("unauthorized", reason || "the token was not accepted"));
      }
      this.#askedTokenAgain = true;
    }
    // Over a limit: coming back at once would only meet it again.
    if (code === 4429) waitMs = Math.max(waitMs, this.#options.backoffMaxMs / 3);
    this.#dialLater(waitMs, { code, reason });
  }

  /** Capped exponential backoff with full jitter, so that a dead node's clients do not come back as one. */
  #dialLater(waitMs = 0, detail = {}) {
    const { backoffBaseMs, backoffMaxMs } = this.#options;
    const retryInMs = waitMs + Math.random() * Math.min(backoffMaxMs, backoffBaseMs * 2 ** this.#failures++);
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#dial(), retryInMs);
    if (this.#link) return; // a drain: served meanwhile
    const state = this.#session || this.#state === "reconnecting" ? "reconnecting" : "connecting";
    this.#setState(state, { ...detail, retryInMs, attempt: this.#failures });
  }

  /** The browser says that the network is back: no reason to wait any longer. */
  #hurry = () => {
    if (!this.#link && !this.#dialling && this.#retryTimer && this.#state !== "closed") this.#dial();
  };

  #shut(error) {
    if (this.#state === "closed") return;
    const links = [this.#link, this.#dialling];
    this.#link = this.#dialling = null;
    this.#dialCount++;
    for (const timer of [this.#retryTimer, this.#drainTimer, this.#refreshTimer]) clearTimeout(timer);
    globalThis.removeEventListener?.("online", this.#hurry);
    for (const link of links) {
      if (!link) continue;
      link.gone = true;
      clearTimeout(link.timer);
      hangUp(link.socket, 1000);
    }
    for (const job of [...this.#jobs]) job.settle(error);
    this.#setState("closed", { error });
    if (error.code !== "closed") this.#emit("error", error);
    this.#opening?.reject(error);
    this.#opening = null;
  }

  /**
   * Browsers hide the node's pings, so a quiet link is asked: after one heartbeat of silence a `ping`, and after
   * one more without any sign of life it is dead. Counted from our own ping, so that a sleeping tab is not fooled.
   */
  #watch(link, heartbeatMs) {
    const now = performance.now();
    if (link.pingedAt > link.heardAt) {
      if (now - link.pingedAt >= heartbeatMs) this.#lost(link, 1006, "silent for two heartbeats");
    } else if (now - link.heardAt >= heartbeatMs) {
      link.pingedAt = now;
      this.#transmit(link, { body: '{"op":"ping"}', settle() {} });
    }
  }

  async #token() {
    const { token } = this.#options;
    return typeof token === "function" ? token() : token;
  }

  #planRefresh(expiresAt) {
    clearTimeout(this.#refreshTimer);
    if (typeof this.#options.token !== "function" || !expiresAt) return;
    const leftMs = Date.parse(expiresAt) - Date.now();
    // A minute ahead, but never before three quarters of a short life are over.
    const inMs = Math.max(leftMs * 0.75, leftMs - 60_000, 0);
    this.#refreshTimer = setTimeout(() => {
      // A failure is told; if it stays so, the node closes with 4401 and the function is asked once more.
      if (inMs <= TIMER_MS_MAX) this.refresh().catch((error) => this.#emit("error", asStarlingError(error)));
      else this.#planRefresh(expiresAt);
    }, Math.min(inMs, TIMER_MS_MAX));
  }

  // ---------------------------------------------------------------- jobs

  /**
   * Asks the node for something; the promise settles with the reply, whichever link brings it.
   *
   * - `replay`: may be asked again when the link was lost after it had left.
   * - `once`: neither repeated nor retried.
   * - `lane`: only one job of a lane is under way, in the order of the calls.
   * - `first`: before all that waits. `only`: on this link or not at all.
   * - `onOk`: runs before any event that follows the reply.
   */
  #request(op, fields, options = {}) {
    const { replay = true, once = false, lane, first = false, only, onOk, timeoutMs = this.#options.requestTimeoutMs } = options;
    if (this.#state === "closed") return Promise.reject(new StarlingError("closed", "the client is closed"));
    if (this.#jobs.size >= this.#options.outboxLimit && !first) {
      return Promise.reject(new StarlingError("overflow", `${this.#jobs.size} commands wait already`));
    }
    const body = JSON.stringify({ op, ...fields });
    // Checked here, since the node would close the connection, and the retry would close the next.
    if (utf8Length(body) > FRAME_BYTES_MAX - 32) return Promise.reject(new StarlingError("too_large", "the frame is over 128 KiB"));

    return new Promise((resolve, reject) => {
      const job = { op, body, lane, only, once, replay: replay && !once && !only, order: first ? this.#order - 1e9 : ++this.#order };
      job.settle = (error, ok) => {
        if (!this.#jobs.delete(job)) return;
        clearTimeout(job.timer);
        clearTimeout(job.retryTimer);
        if (job.waiting) this.#outbox = this.#outbox.filter((other) => other !== job);
        if (this.#lanes.get(lane) === job) this.#lanes.delete(lane);
        if (error) reject(error);
        else {
          onOk?.(ok);
          resolve(ok);
        }
        if (lane !== undefined) this.#flush();
      };
      if (Number.isFinite(timeoutMs)) {
        job.timer = setTimeout(() => job.settle(new StarlingError("timeout", `no reply to ${op} in ${timeoutMs} ms`)), timeoutMs);
      }
      this.#jobs.add(job);
      this.#enqueue([job]);
      this.#flush();
    });
  }

  #enqueue(jobs) {
    for (const job of jobs) job.waiting = true;
    const tail = this.#outbox.at(-1);
    this.#outbox.push(...jobs);
    if (tail && jobs.some((job) => job.order < tail.order)) this.#outbox.sort((a, b) => a.order - b.order);
  }

  /** Puts on the wire what may go. During a drain's change of sockets everything waits for the new one. */
  #flush() {
    const link = this.#link;
    if (!link?.ready || link.muted || this.#outbox.length === 0) return;
    const waiting = this.#outbox;
    this.#outbox = [];
    const kept = [];
    for (const job of waiting) {
      if (!this.#jobs.has(job)) continue;
      if (job.lane !== undefined && (this.#lanes.get(job.lane) ?? job) !== job) {
        kept.push(job);
        continue;
      }
      job.waiting = false;
      if (job.only && job.only !== link) {
        job.settle(new StarlingError("disconnected", "the connection was lost"));
        continue;
      }
      if (job.lane !== undefined) this.#lanes.set(job.lane, job);
      this.#transmit(link, job);
    }
    this.#outbox = [...kept, ...this.#outbox];
  }

  #transmit(link, job) {
    const id = ++this.#lastId;
    link.pending.set(id, job);
    link.socket.send(`{"id":${id},${job.body.slice(1)}`);
  }

  /** What a lost link has not answered goes back in line, or is given up where a repeat could do harm. */
  #takeBack(link) {
    const jobs = [...link.pending.values()].filter((job) => this.#jobs.has(job));
    link.pending.clear();
    this.#enqueue(jobs.filter((job) => job.replay));
    for (const job of jobs) {
      if (!job.replay) job.settle(new StarlingError("disconnected", `the connection was lost before ${job.op} was answered`));
    }
  }

  #onFrame(link, data) {
    if (link.gone) return;
    link.heardAt = performance.now();
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return this.#lost(link, 1002, "a frame that is not JSON");
    }
    if (frame.ev !== undefined) {
      if (!link.muted && link.ready) this.#onEvent(frame);
      return;
    }
    const job = link.pending.get(frame.id);
    if (!job) return;
    link.pending.delete(frame.id);
    this.#onReply(link, job, frame);
    if (link.retiring && link.pending.size === 0) this.#lost(link, 1000, "replaced");
  }

  #onReply(link, job, { ok, error }) {
    if (error === undefined) {
      // On a muted link the events that this reply announces are ignored: ask again on the new one.
      if (link.muted && job.replay && (job.op === "join" || job.op === "subscribe")) this.#enqueue([job]);
      else job.settle(null, ok ?? {});
    } else if ((error.code === "unavailable" || error.code === "rate_limited") && this.#jobs.has(job) && !job.once) {
      // Nothing was accepted, so it may be tried again; its lane stays taken, which keeps the order.
      const pauseMs = (error.retry_after_ms ?? 1000) * (1 + Math.random() / 4);
      job.retryTimer = setTimeout(() => {
        this.#enqueue([job]);
        this.#flush();
      }, pauseMs);
      this.#emit("retry", { op: job.op, code: error.code, pauseMs });
    } else {
      job.settle(new StarlingError(error.code, error.message, error.retry_after_ms));
    }
  }

  // ---------------------------------------------------------------- events and order

  #onEvent(event) {
    switch (event.ev) {
      case "message": {
        const conversation = this.#conversations.get(event.conversation);
        if (conversation) this.#accept(conversation, event);
        return;
      }
      case "publication": {
        const position = this.#topics.get(event.topic);
        if (!position) return;
        position.offset = event.offset;
        break;
      }
      case "draining":
        clearTimeout(this.#drainTimer);
        this.#drainTimer = setTimeout(() => {
          if (this.#link && !this.#dialling) this.#dial();
        }, event.reconnect_after_ms);
        break;
      case "member":
        if (event.user === this.user && !event.member) this.#conversations.delete(event.conversation);
        break;
    }
    this.#emit(event.ev, event);
  }

  #joined(name, ok, after, explicit) {
    let conversation = this.#conversations.get(name);
    if (!conversation) {
      conversation = newConversation(name, after ?? ok.head);
      this.#conversations.set(name, conversation);
    } else if (explicit) {
      conversation.cursor = after;
      conversation.held.clear();
    }
    this.#catchUp(conversation, ok);
  }

  /** More was missed than the node replays: the older part is paged from the log first, or skipped if so wished. */
  #catchUp(conversation, { head, replayed, truncated }) {
    if (!truncated) return;
    const skipped = this.#options.catchUp === "skip";
    const to = head - replayed;
    this.#emit("truncated", { conversation: conversation.name, from: conversation.cursor + 1, to, skipped });
    if (skipped) conversation.cursor = Math.max(conversation.cursor, to);
    else {
      conversation.top = Math.max(conversation.top, to);
      this.#fill(conversation);
    }
  }

  /** Takes one message in: a repeat is dropped, a hole filled first, the next one delivered. */
  #accept(conversation, message) {
    if (this.#conversations.get(conversation.name) !== conversation || message.seq <= conversation.cursor) return;
    if (message.seq > conversation.cursor + 1) {
      conversation.top = Math.max(conversation.top, message.seq);
      if (conversation.held.size < HELD_MESSAGES_MAX) conversation.held.set(message.seq, message);
      this.#fill(conversation);
      return;
    }
    for (let next = message; next; next = conversation.held.get(conversation.cursor + 1)) {
      conversation.cursor = next.seq;
      conversation.held.delete(next.seq);
      this.#emit("message", next);
      if (this.#conversations.get(conversation.name) !== conversation) return;
    }
  }

  /** Reads the hole from the log until nothing is missing up to the highest number seen. */
  async #fill(conversation) {
    if (conversation.filling) return;
    conversation.filling = true;
    const current = () => this.#conversations.get(conversation.name) === conversation && this.#state !== "closed";
    for (let attempt = 0; current() && conversation.cursor < conversation.top; ) {
      const before = conversation.cursor;
      try {
        const { messages } = await this.history(conversation.name, { after: before, limit: 200 });
        for (const message of messages) this.#accept(conversation, { ev: "message", conversation: conversation.name, ...message });
      } catch (error) {
        if (error.code === "not_found" || error.code === "forbidden") this.#forget(conversation.name, error);
      }
      if (conversation.cursor > before) attempt = 0;
      else if (++attempt < HOLE_ATTEMPTS_MAX) await pause(this.#options.holeRetryMs);
      else this.#giveUpHole(conversation);
    }
    conversation.filling = false;
  }

  /** The log does not have it: better a hole that is told than silence for ever. */
  #giveUpHole(conversation) {
    const next = Math.min(conversation.top + 1, ...conversation.held.keys());
    this.#emit("error", new StarlingError("gap", `${conversation.name}: ${conversation.cursor + 1} to ${next - 1} could not be read`));
    conversation.cursor = next - 1;
    const message = conversation.held.get(next);
    if (message) this.#accept(conversation, message);
  }

  #subscribed(topic, ok, since) {
    // What is replayed moves the position itself, publication by publication.
    const offset = ok.recovered && since ? since.offset : ok.offset;
    this.#topics.set(topic, { epoch: ok.epoch, offset });
    if (since && !ok.recovered) this.#emit("gap", { topic });
  }

  #forget(name, error) {
    if (this.#conversations.delete(name)) this.#emit("gone", { conversation: name, error });
  }

  // ---------------------------------------------------------------- small things

  #cursors() {
    return Object.fromEntries([...this.#conversations].map(([name, { cursor }]) => [name, cursor]));
  }

  #restore({ session, ticket, cursors = {}, topics = {} }) {
    this.#session = { session, ticket };
    for (const [name, cursor] of Object.entries(cursors)) this.#conversations.set(name, newConversation(name, cursor));
    for (const [name, position] of Object.entries(topics)) this.#topics.set(name, { ...position });
  }

  #setState(state, detail = {}) {
    const previous = this.#state;
    this.#state = state;
    this.#emit("state", { state, previous, ...detail });
  }

  #emit(event, detail) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        listener(detail);
      } catch (error) {
        // A listener's mistake must not stop the flow for the others.
        if (globalThis.reportError) globalThis.reportError(error);
        else console.error(error);
      }
    }
  }
}

function newConversation(name, cursor) {
  return { name, cursor, top: 0, held: new Map(), filling: false };
}

/** `http://host`, `ws://host` and the full path all mean the same node. */
function webSocketUrl(address) {
  const url = new URL(address, globalThis.location?.href);
  url.protocol = url.protocol.replace(/^http/, "ws");
  if (url.pathname === "/") url.pathname = "/v1/ws";
  url.hash = "";
  return url.href;
}

function hangUp(socket, code) {
  if (!socket) return;
  socket.onopen = socket.onmessage = socket.onclose = null;
  // `ws` can drop a socket hard, which a cut or dead one asks for; browsers only know `close`.
  if (code === 1006 && socket.terminate) socket.terminate();
  else socket.close();
}

function ignoreTransient(error) {
  if (!["disconnected", "rate_limited", "unavailable", "timeout", "closed"].includes(error.code)) throw error;
}

function asStarlingError(error) {
  return error instanceof StarlingError ? error : new StarlingError("unauthorized", `no token: ${error?.message ?? error}`);
}

/** 128 random bits; `crypto.randomUUID` is missing on pages that came over plain HTTP from another host. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function utf8Length(text) {
  return new TextEncoder().encode(text).length;
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function deferred() {
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
}
