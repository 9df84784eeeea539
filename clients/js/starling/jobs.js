import { StarlingError, isRefusedForNow } from "./errors.js";

export const FRAME_BYTES_MAX = 128 * 1024;
/** First pause after a refusal. It doubles with each further refusal. */
const PAUSE_MS = 25;
/** Longest pause that the client chooses by itself. */
const PAUSE_MS_MAX = 5000;
/** Messages per page of `history` if the program does not say. */
const HISTORY_LIMIT = 50;

/**
 * Commands of the program. A job waits in the outbox until the current link sends it. It returns there if the
 * link is lost or the node refuses it for the moment. The reply settles it, whichever link it arrives on.
 */
export class Jobs {
  #limit;
  #timeoutMs;
  #link; // () => the current link
  #emit;
  #all = new Set(); // all unsettled jobs; bounded by the limit
  #outbox = []; // jobs that wait for a link, sorted by `order`
  #lanes = new Map(); // lane -> the one job of it that is in flight
  #order = 0;
  #closed = false;

  constructor({ limit, timeoutMs, link, emit }) {
    this.#limit = limit;
    this.#timeoutMs = timeoutMs;
    this.#link = link;
    this.#emit = emit;
  }

  /**
   * Sends a command to the node and resolves with its `ok`.
   *
   * - `replay`: the command may be repeated if the link was lost after it was sent.
   * - `once`: the command is neither repeated nor retried.
   * - `lane`: only one job per lane is in flight, in the order of the calls.
   * - `first`: the command goes before all waiting ones. `only`: it is sent on this link or not at all.
   * - `onOk`: runs before any event that follows the reply.
   */
  request(op, fields, options = {}) {
    const { replay = true, once = false, lane, first = false, only, onOk, timeoutMs = this.#timeoutMs } = options;
    if (this.#closed) return Promise.reject(new StarlingError("closed", "the client is closed"));
    if (this.#all.size >= this.#limit && !first) {
      return Promise.reject(new StarlingError("overflow", `${this.#all.size} commands are waiting already`));
    }
    const body = JSON.stringify({ op, ...fields });
    // Checked here, because the node would close the connection, and the retry would close the next one.
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

  /** Sends all jobs that may be sent. During a move away from a draining node all jobs wait for the new connection. */
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

  /** Queues the unanswered jobs of a lost link again, or rejects them if a repeat could do harm. */
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
      // The events that this reply announces are ignored on a muted link, so repeat the command on the new one.
      if (link.muted && job.replay && (job.op === "join" || job.op === "subscribe")) this.#enqueue([job]);
      else job.settle(null, ok ?? {});
    } else if (isRefusedForNow(error) && this.#all.has(job) && !job.once) {
      this.#retryLater(job, error);
    } else {
      job.settle(new StarlingError(error.code, error.message, error.retry_after_ms));
    }
  }

  /** Accepts commands again, after `close()` and `connect()`. */
  open() {
    this.#closed = false;
  }

  close(error) {
    this.#closed = true;
    for (const job of [...this.#all]) job.settle(error);
  }

  /** Retries a job later, since nothing was accepted. The job keeps its lane, which preserves the order. */
  #retryLater(job, { code, message, retry_after_ms: wantedMs }) {
    // If a node keeps naming short times, the pauses grow nevertheless.
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

/** Halves the page of a repeated `history`. On a slow connection a long page delays everything else, so that the link looks dead. */
function shorten(job) {
  const limit = Math.floor((job.fields.limit ?? HISTORY_LIMIT) / 2);
  if (!(limit >= 1)) return;
  job.fields = { ...job.fields, limit };
  job.body = JSON.stringify({ op: job.op, ...job.fields });
}

export function utf8Length(text) {
  return new TextEncoder().encode(text).length;
}
