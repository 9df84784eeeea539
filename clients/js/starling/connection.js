import { StarlingError, isRefusedForNow } from "./errors.js";
import { Link } from "./link.js";
import { explain } from "./probe.js";
import { deferred } from "./waiting.js";

/** How long a replaced socket may take to answer what was asked on it. */
const RETIRE_MS = 5000;
/** A refusal that a node answers with, as if it had closed the socket by it. */
const REFUSED_FOR_NOW = 1013;
/** Over a limit of the node. */
const OVER_A_LIMIT = 4429;

/** Close codes after which coming back by itself would be wrong, and the error the program sees. */
const FINAL_CLOSES = new Map([
  [4400, ["protocol", "the node did not understand this client"]],
  [4409, ["replaced", "this session was attached somewhere else"]],
  [4410, ["ended", "an operator ended this session"]],
]);

/**
 * Keeps a connection: there is at most one current link, one that is being dialled (after a loss, or beside the
 * current one when its node drains) and some that retire.
 */
export class Connection {
  #options;
  #addresses;
  #tokens;
  #jobs;
  #emit;
  #hooks; // resumption(token), connected(ok, link), event(frame), renew()

  #state = "idle";
  #link = null; // carries commands and events
  #dialling = null; // being opened, or waiting for the reply to its `connect`
  #dialCount = 0; // a dial whose number is not the newest was given up
  #failures = 0; // dials in a row that came to nothing
  #retryTimer = null;
  #drainTimer = null;
  #askedTokenAgain = false;
  #plainCursors = false; // a node of the version before refused cursors that name their log
  #opening = null; // what `connect()` returned: { promise, resolve, reject }
  #first = null; // until the first success: { failures, causes: url -> what is wrong there }

  constructor({ options, addresses, tokens, jobs, emit, hooks }) {
    this.#options = options;
    this.#addresses = addresses;
    this.#tokens = tokens;
    this.#jobs = jobs;
    this.#emit = emit;
    this.#hooks = hooks;
  }

  get state() {
    return this.#state;
  }

  get link() {
    return this.#link;
  }

  open() {
    if (this.#opening) return this.#opening.promise;
    this.#opening = deferred();
    // A rejection is also an `error` event; nobody has to wait on this promise.
    this.#opening.promise.catch(() => {});
    this.#first = { failures: 0, causes: new Map() };
    this.#failures = 0;
    this.#askedTokenAgain = false;
    this.#jobs.open();
    this.#setState("connecting");
    this.#dial();
    globalThis.addEventListener?.("online", this.#hurry);
    return this.#opening.promise;
  }

  cut(holdMs) {
    if (this.#link) this.#lost(this.#link, 1006, "cut", holdMs);
  }

  /** The current node asked to be left. */
  drain(afterMs) {
    clearTimeout(this.#drainTimer);
    this.#drainTimer = setTimeout(() => {
      if (this.#link && !this.#dialling) this.#dial();
    }, afterMs);
  }

  /** Ends everything. */
  shut(error) {
    if (this.#state === "closed") return;
    const links = [this.#link, this.#dialling];
    this.#link = this.#dialling = this.#first = null;
    this.#dialCount++;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#drainTimer);
    this.#tokens.stop();
    globalThis.removeEventListener?.("online", this.#hurry);
    for (const link of links) {
      if (!link) continue;
      link.gone = true;
      link.hangUp(1000);
    }
    this.#jobs.close(error);
    this.#setState("closed", { error });
    if (error.code !== "closed") this.#emit("error", error);
    this.#opening?.reject(error);
    this.#opening = null;
  }

  // ---------------------------------------------------------------- dialling

  /** Opens a link: the first one, one after a loss, or, while the current one drains, a second one. */
  async #dial() {
    const count = ++this.#dialCount;
    clearTimeout(this.#retryTimer);
    let token;
    try {
      // Before the socket: a slow token must not run into the node's connect timeout.
      token = await this.#tokens.get();
    } catch (failure) {
      if (count !== this.#dialCount) return;
      const error = new StarlingError("unauthorized", `no token: ${failure?.message ?? failure}`);
      if (this.#first && ++this.#first.failures >= this.#firstAttempts) return this.shut(error);
      this.#emit("error", error);
      return this.#dialLater();
    }
    if (count !== this.#dialCount) return;

    const link = (this.#dialling = new Link(this.#addresses.take()));
    link.token = token;
    link.handover = Boolean(this.#link);
    link.timer = setTimeout(() => this.#lost(link, 1006, "no answer in time"), this.#options.dialTimeoutMs);
    try {
      link.open(this.#options.WebSocket, {
        opened: () => this.#sayConnect(link),
        frame: (data) => this.#onFrame(link, data),
        closed: (code, reason) => this.#lost(link, code, reason),
      });
    } catch (error) {
      // The platform does not take this address, such as `ws:` on a page that came by https.
      link.trouble = error.message;
      this.#lost(link, 1006, error.message);
    }
  }

  #sayConnect(link) {
    const resume = this.#hooks.resumption(link.token, { plain: this.#plainCursors });
    link.named = resume;
    // From here on the node may serve this session on the new socket: what still comes on the old one would
    // come twice. Replies there still count.
    if (this.#link && resume) this.#link.muted = true;
    link.transmit({
      body: JSON.stringify({ op: "connect", token: link.token, resume }),
      settle: (error, ok) => (error ? this.#refused(link, error) : this.#connected(link, ok)),
      once: true,
    });
  }

  #refused(link, error) {
    if (error.code === "unauthorized") return this.#lost(link, 4401, error.message);
    if (isRefusedForNow(error) || error.code === "internal") return this.#lost(link, REFUSED_FOR_NOW, error.message, error.retryAfterMs);
    const named = Object.values(link.named?.cursors ?? {});
    if (error.code === "bad_request" && named.some((cursor) => typeof cursor !== "number") && !this.#plainCursors) {
      this.#plainCursors = true;
      return this.#lost(link, 1006, error.message);
    }
    this.shut(error);
  }

  #connected(link, ok) {
    const previous = this.#link;
    clearTimeout(link.timer);
    clearTimeout(this.#drainTimer);
    this.#dialling = null;
    this.#first = null;
    this.#link = link;
    link.ready = true;
    link.watch(ok.heartbeat_ms, () => this.#lost(link, 1006, "silent for two heartbeats"));
    this.#failures = 0;
    this.#askedTokenAgain = false;
    this.#plainCursors = false;
    this.#tokens.accepted(link.token, ok.expires_at, this.#hooks.renew);
    if (previous) this.#retire(previous);
    const detail = this.#hooks.identified(ok);
    this.#setState("connected", { ...detail, resumed: ok.resumed, handover: link.handover });
    if (this.#link === link) this.#hooks.connected(ok, link);
    this.#jobs.flush();
    this.#opening?.resolve();
  }

  /** A replaced socket may still answer; then it goes. */
  #retire(link) {
    link.retiring = true;
    link.muted = true;
    clearInterval(link.timer);
    if (link.pending.size === 0) this.#lost(link, 1000, "replaced");
    else link.timer = setTimeout(() => this.#lost(link, 1000, "replaced"), RETIRE_MS);
  }

  #onFrame(link, data) {
    if (link.gone) return;
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return this.#lost(link, 1002, "a frame that is not JSON");
    }
    if (typeof frame !== "object" || frame === null) return this.#lost(link, 1002, "a frame that is no object");
    if (frame.ev !== undefined) {
      if (!link.muted && link.ready) this.#hooks.event(frame);
      return;
    }
    const job = link.answered(frame.id);
    if (!job) return;
    this.#jobs.onReply(link, job, frame);
    if (link.retiring && link.pending.size === 0) this.#lost(link, 1000, "replaced");
  }

  // ---------------------------------------------------------------- losing and coming back

  /** The one place where a link ends, whoever ended it. */
  #lost(link, code, reason, waitMs = 0) {
    if (link.gone) return;
    link.gone = true;
    link.hangUp(code);
    const wasCurrent = link === this.#link;
    const wasDialling = link === this.#dialling;
    if (wasCurrent) this.#link = null;
    if (wasDialling) this.#dialling = null;
    this.#jobs.takeBack(link);
    if (link.retiring) return this.#jobs.flush();

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
    this.#tokens.pause();
    if (FINAL_CLOSES.has(code)) {
      if (code !== 4400) this.#hooks.sessionEnded();
      return this.shut(new StarlingError(...FINAL_CLOSES.get(code)));
    }
    if (code === 4401) {
      this.#tokens.refused(link.token);
      if (!this.#tokens.renewable || this.#askedTokenAgain) {
        return this.shut(new StarlingError("unauthorized", reason || "the token was not accepted"));
      }
      this.#askedTokenAgain = true;
    }
    // Over a limit: coming back at once would only meet it again.
    if (code === OVER_A_LIMIT) waitMs = Math.max(waitMs, this.#options.backoffMaxMs / 3);
    // What a node answers shows that the address is right. Until one has, the program wants to know what is wrong.
    const isNode = [4401, OVER_A_LIMIT, REFUSED_FOR_NOW].includes(code) || this.#plainCursors;
    if (this.#first && !isNode) this.#firstFailed(link, code, reason, waitMs);
    else this.#dialLater(waitMs, { code, reason });
  }

  get #firstAttempts() {
    return Math.max(this.#options.connectAttempts, this.#addresses.all.length);
  }

  /**
   * A dial before the first success failed. Finds out why; gives up after some of them, or when every address has an
   * answer that trying again can't change.
   */
  async #firstFailed(link, code, reason, waitMs) {
    const first = this.#first;
    const last = ++first.failures >= this.#firstAttempts;
    if (!last) this.#dialLater(waitMs, { code, reason });
    const why = link.opened ? closedEarly(link, code, reason) : await explain(link.url, link.trouble, this.#options.fetch);
    if (this.#first !== first) return; // connected meanwhile, or closed
    first.causes.set(link.url, why);
    if (why.patient) {
      first.failures--;
      if (last) this.#dialLater(Math.max(waitMs, why.error.retryAfterMs ?? 0), { code, reason: why.error.message });
      return;
    }
    const hopeless = this.#addresses.all.every((url) => first.causes.get(url)?.final);
    if (last || hopeless) this.shut(why.error);
  }

  /** Capped exponential backoff with full jitter, so that a dead node's clients do not come back as one. */
  #dialLater(waitMs = 0, detail = {}) {
    const { backoffBaseMs, backoffMaxMs } = this.#options;
    const retryInMs = waitMs + Math.random() * Math.min(backoffMaxMs, backoffBaseMs * 2 ** this.#failures++);
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#dial(), retryInMs);
    if (this.#link) return; // a drain: served meanwhile
    const state = this.#hooks.hasSession() || this.#state === "reconnecting" ? "reconnecting" : "connecting";
    this.#setState(state, { ...detail, retryInMs, attempt: this.#failures });
  }

  /** The browser says that the network is back: no reason to wait any longer. */
  #hurry = () => {
    if (!this.#link && !this.#dialling && this.#retryTimer && this.#state !== "closed") this.#dial();
  };

  #setState(state, detail = {}) {
    const previous = this.#state;
    this.#state = state;
    this.#emit("state", { state, previous, ...detail });
  }
}

/** A socket that opened, and then was closed before `connect` was answered. */
function closedEarly({ url }, code, reason) {
  const text = `${new URL(url).host} took the connection and closed it (${code}${reason && `: ${reason}`})`;
  return { error: new StarlingError("unreachable", text), final: false, patient: false };
}
