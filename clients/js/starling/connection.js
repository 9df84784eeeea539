import { StarlingError, isRefusedForNow } from "./errors.js";
import { Link } from "./link.js";
import { explain } from "./probe.js";
import { deferred } from "./waiting.js";

/** How long a replaced connection may take to answer its commands. */
const RETIRE_MS = 5000;
/** Internal close code for a temporary refusal of `connect`. */
const REFUSED_FOR_NOW = 1013;
/** Close code for exceeding a limit of the node. */
const OVER_A_LIMIT = 4429;

/** Close codes after which the client must not reconnect by itself, with the error for the program. */
const FINAL_CLOSES = new Map([
  [4400, ["protocol", "the node did not understand this client"]],
  [4409, ["replaced", "this session was attached elsewhere"]],
  [4410, ["ended", "an operator ended this session"]],
]);

/**
 * Keeps a connection alive. There is at most one current link, at most one that is being opened (after a loss, or next to the
 * current one when its node drains), and some that are retiring.
 */
export class Connection {
  #options;
  #addresses;
  #tokens;
  #jobs;
  #emit;
  #hooks; // resumption(token), connected(ok, link), event(frame), renew()

  #state = "idle";
  #link = null; // current link, for commands and events
  #dialling = null; // link that is being opened, or waits for the reply to its `connect`
  #dialCount = 0; // number of the newest attempt; older ones have been abandoned
  #failures = 0; // number of consecutive failed attempts
  #retryTimer = null;
  #drainTimer = null;
  #askedTokenAgain = false;
  #plainCursors = false; // a node of the previous version refused cursors with a log
  #opening = null; // what `connect()` returned: { promise, resolve, reject }
  #first = null; // until the first success: { failures, causes: url -> explanation }

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
    // A rejection is also an `error` event, so the program need not handle this promise.
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

  /** Plans the move away from the current node, which is draining. */
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

  /** Opens a link: the first one, one after a loss, or a second one while the current node drains. */
  async #dial() {
    const count = ++this.#dialCount;
    clearTimeout(this.#retryTimer);
    let token;
    try {
      // Before the socket is opened, so that a slow token function does not exceed the node's connect timeout.
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
    link.timer = setTimeout(() => this.#lost(link, 1006, "no reply in time"), this.#options.dialTimeoutMs);
    try {
      link.open(this.#options.WebSocket, {
        opened: () => this.#sayConnect(link),
        frame: (data) => this.#onFrame(link, data),
        closed: (code, reason) => this.#lost(link, code, reason),
      });
    } catch (error) {
      // The platform does not allow this address, for example `ws:` on a page loaded over https.
      link.trouble = error.message;
      this.#lost(link, 1006, error.message);
    }
  }

  #sayConnect(link) {
    const resume = this.#hooks.resumption(link.token, { plain: this.#plainCursors });
    link.named = resume;
    // From now on the node may serve this session on the new connection, so events on the old one could
    // arrive twice. Replies on the old one still count.
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

  /** Closes a replaced link once its commands have been answered. */
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
    if (typeof frame !== "object" || frame === null) return this.#lost(link, 1002, "a frame that is not an object");
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

  /** Ends a link, whatever the reason. No other place does. */
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
      // The second connection of a drain failed. If the current one is not muted, it continues and we try again. If it is
      // muted, we have ignored some of its events, so both are closed and the cursors recover the events.
      if (!this.#link.muted) return this.#dialLater(waitMs);
      return this.#lost(this.#link, code, reason, waitMs);
    }
    if (wasCurrent && this.#dialling) {
      // The node closed during a drain before we had moved. Unless the link was muted, the program must know that we are disconnected.
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
    // Reconnecting at once would only exceed the limit again.
    if (code === OVER_A_LIMIT) waitMs = Math.max(waitMs, this.#options.backoffMaxMs / 3);
    // A response of a node shows that the address is right. Until there was one, the program needs to know what is wrong.
    const isNode = [4401, OVER_A_LIMIT, REFUSED_FOR_NOW].includes(code) || this.#plainCursors;
    if (this.#first && !isNode) this.#firstFailed(link, code, reason, waitMs);
    else this.#dialLater(waitMs, { code, reason });
  }

  get #firstAttempts() {
    return Math.max(this.#options.connectAttempts, this.#addresses.all.length);
  }

  /**
   * Handles a failed attempt before the first success. Finds out why, and gives up after some attempts, or if every address gives a
   * response that trying again cannot change.
   */
  async #firstFailed(link, code, reason, waitMs) {
    const first = this.#first;
    const last = ++first.failures >= this.#firstAttempts;
    if (!last) this.#dialLater(waitMs, { code, reason });
    const why = link.opened ? closedEarly(link, code, reason) : await explain(link.url, link.trouble, this.#options.fetch);
    if (this.#first !== first) return; // connected or closed in the meantime
    first.causes.set(link.url, why);
    if (why.patient) {
      first.failures--;
      if (last) this.#dialLater(Math.max(waitMs, why.error.retryAfterMs ?? 0), { code, reason: why.error.message });
      return;
    }
    const hopeless = this.#addresses.all.every((url) => first.causes.get(url)?.final);
    if (last || hopeless) this.shut(why.error);
  }

  /** Schedules the next attempt with capped exponential backoff and full jitter, so that the clients of a dead node do not return all at once. */
  #dialLater(waitMs = 0, detail = {}) {
    const { backoffBaseMs, backoffMaxMs } = this.#options;
    const retryInMs = waitMs + Math.random() * Math.min(backoffMaxMs, backoffBaseMs * 2 ** this.#failures++);
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#dial(), retryInMs);
    if (this.#link) return; // during a drain the current link continues
    const state = this.#hooks.hasSession() || this.#state === "reconnecting" ? "reconnecting" : "connecting";
    this.#setState(state, { ...detail, retryInMs, attempt: this.#failures });
  }

  /** Tries at once when the browser reports that the network is back. */
  #hurry = () => {
    if (!this.#link && !this.#dialling && this.#retryTimer && this.#state !== "closed") this.#dial();
  };

  #setState(state, detail = {}) {
    const previous = this.#state;
    this.#state = state;
    this.#emit("state", { state, previous, ...detail });
  }
}

/** Explains a connection that was closed after it opened but before the reply to `connect`. */
function closedEarly({ url }, code, reason) {
  const text = `${new URL(url).host} accepted the connection and closed it (${code}${reason && `: ${reason}`})`;
  return { error: new StarlingError("unreachable", text), final: false, patient: false };
}
