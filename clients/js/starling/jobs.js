import { StarlingError, isRefusedForNow } from "./errors.js";

export const FRAME_BYTES_MAX = 128 * 1024;
/** The first pause after a refusal that names none; it doubles with each further one. */
const PAUSE_MS = 25;
/** The longest pause that a client takes without being told to. */
const PAUSE_MS_MAX = 5000;
/** How many messages a page of `history` has where the program does not say. */
const HISTORY_LIMIT = 50;

/**
 * What the program asked for. A job waits in the outbox until the current link carries it, goes back there when that
 * link is lost or the node refuses it for the moment, and is settled by the reply, whichever link brings it.
 */
export class Jobs {
  #limit;
  #timeoutMs;
  #link; // () => the current link
  #emit;
  #all = new Set(); // all that is unsettled; bounded by the limit
  #outbox = []; // those that wait for a link, by `order`
  #lanes = new Map(); // lane -> the one job of it that is under way
  #order = 0;
  #closed = false;

  constructor({ limit, timeoutMs, link, emit }) {
    this.#limit = limit;
    this.#timeoutMs = timeoutMs;
    this.#link = link;
    this.#emit = emit;
  }

  /**
   * Asks the node for something.
   *
   * - `replay`: may be asked again when the link was lost after it had left.
   * - `once`: neither repeated nor retried.
   * - `lane`: only one job of a lane is under way, in the order of the calls.
   * - `first`: before all that waits. `only`: on this link or not at all.
   * - `onOk`: runs before any event that follows the reply.
   */
  request(op, fields, options = {}) {
    const { replay = true, once = false, lane, first = false, only, onOk, timeoutMs = this.#timeoutMs } = options;
    if (this.#closed) return Promise.reject(new StarlingError("closed", "the client is closed"));
    if (this.#all.size >= this.#limit && !first) {
      return Promise.reject(new StarlingError("overflow", `${this.#all.size} commands wait already`));
    }
    const body = JSON.stringify({ op, ...fields });
    // Checked here, since the node would close the connection, and the retry would close the next.
    if (utf8Length(body) > FRAME_BYTES_MAX - 32) return Promise.reject(new StarlingError("too_large", "the frame is over 128 KiB"));

    return new Promise((resolve, reject) => {
      const job = { op, fields, body, lane, only, once, refusals: 0 };
      job.replay = replay && !once && !only;
      job.order = first ? this.#order - 1e9 : ++this.#order;
      job.settle = (error, ok) => {
        if (!this.#all.delete(job)) return;
        clearTimeout(job.timer);
        clearTimeout(job.retryTimer);
        if (job.waiting) this.#outbox = this.#outbox.filter((other) => other !== job);
        if (this.#lanes.get(lane) === job) this.#lanes.delete(lane);
        if (error) reject(error);
        else {
          onOk?.(ok);
          resolve(ok);
        }
        if (lane !== undefined) this.flush();
      };
      if (Number.isFinite(timeoutMs)) {
        job.timer = setTimeout(() => job.settle(new StarlingError("timeout", `no reply to ${op} in ${timeoutMs} ms`)), timeoutMs);
      }
      this.#all.add(job);
      this.#enqueue([job]);
      this.flush();
    });
  }

  /** Puts on the wire what may go. While a draining node is left everything waits for the new socket. */
  flush() {
    const link = this.#link();
    if (!link?.ready || link.muted || this.#outbox.length === 0) return;
    const waiting = this.#outbox;
    this.#outbox = [];
    const kept = [];
    for (const job of waiting) {
      if (!this.#all.has(job)) continue;
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
      link.transmit(job);
    }
    this.#outbox = [...kept, ...this.#outbox];
  }

  /** What a lost link has not answered goes back in line, or is given up where a repeat could do harm. */
  takeBack(link) {
    const jobs = [...link.pending.values()].filter((job) => this.#all.has(job));
    link.pending.clear();
    for (const job of jobs) if (job.op === "history") shorten(job);
    this.#enqueue(jobs.filter((job) => job.replay));
    for (const job of jobs) {
      if (!job.replay) job.settle(new StarlingError("disconnected", `the connection was lost before ${job.op} was answered`));
    }
  }

  onReply(link, job, { ok, error }) {
    if (error === undefined) {
      // On a muted link the events that this reply announces are ignored: ask again on the new one.
      if (link.muted && job.replay && (job.op === "join" || job.op === "subscribe")) this.#enqueue([job]);
      else job.settle(null, ok ?? {});
    } else if (isRefusedForNow(error) && this.#all.has(job) && !job.once) {
      this.#retryLater(job, error);
    } else {
      job.settle(new StarlingError(error.code, error.message, error.retry_after_ms));
    }
  }

  /** Takes commands again, as after `close()` and `connect()`. */
  open() {
    this.#closed = false;
  }

  close(error) {
    this.#closed = true;
    for (const job of [...this.#all]) job.settle(error);
  }

  /** Nothing was accepted, so it may be tried again; its lane stays taken, which keeps the order. */
  #retryLater(job, { code, message, retry_after_ms: wantedMs }) {
    // A node that names a short time again and again is asked less and less often.
    const leastMs = Math.min(PAUSE_MS_MAX, (wantedMs === undefined ? 1000 : PAUSE_MS) * 2 ** job.refusals++);
    const pauseMs = Math.max(wantedMs ?? 0, leastMs) * (1 + Math.random() / 4);
    job.retryTimer = setTimeout(() => {
      this.#enqueue([job]);
      this.flush();
    }, pauseMs);
    const { conversation, key } = job.fields;
    this.#emit("retry", { op: job.op, code, message, pauseMs, at: Date.now() + pauseMs, conversation, key });
  }

  #enqueue(jobs) {
    for (const job of jobs) job.waiting = true;
    const tail = this.#outbox.at(-1);
    this.#outbox.push(...jobs);
    if (tail && jobs.some((job) => job.order < tail.order)) this.#outbox.sort((a, b) => a.order - b.order);
  }
}

/** On a slow line a long page keeps all else waiting, so that the link looks dead: what is asked again is half as long. */
function shorten(job) {
  const limit = Math.floor((job.fields.limit ?? HISTORY_LIMIT) / 2);
  if (!(limit >= 1)) return;
  job.fields = { ...job.fields, limit };
  job.body = JSON.stringify({ op: job.op, ...job.fields });
}

export function utf8Length(text) {
  return new TextEncoder().encode(text).length;
}
