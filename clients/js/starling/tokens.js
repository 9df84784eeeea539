import { StarlingError } from "./errors.js";
import { TIMER_MS_MAX } from "./waiting.js";

/** So many requests may follow at once, for instance after a refusal; then one for each interval. */
const BURST = 3;
/** How far ahead of its end a token is renewed, unless its life is short. */
const AHEAD_MS = 60_000;
/** A renewal that can't be timed, or that did not help, comes later each time, up to this pause. */
const PAUSE_MS_MAX = 300_000;
/** A token is not used for a new connection when it has no more than this left. */
const NEARLY_OVER_MS = 5_000;

/**
 * The program's token, or the function that gets one. Whatever the clock of this machine says, and however often
 * connections are lost, the function is called at most `BURST` times at once and then once for each interval: a token
 * that still holds is used again.
 */
export class Tokens {
  #source;
  #intervalMs;
  #timeoutMs;
  #clock;
  #token = null; // the newest that the function gave, while it is good
  #gotAt = 0; // when, by the monotonic clock
  #acceptedAs = null; // what the node took last: { token, expiresAt }
  #asking = null;
  #allowance = BURST;
  #countedAt = 0;
  #waiting = null; // { timer, reject } of a request that waits for its turn
  #renewTimer = null;
  #hasty = 0; // renewals in a row that had to be held back

  constructor({ source, intervalMs, timeoutMs, clock }) {
    this.#source = source;
    this.#intervalMs = intervalMs;
    this.#timeoutMs = timeoutMs;
    this.#clock = clock;
  }

  /** Whether there is a function that gets new tokens. */
  get renewable() {
    return typeof this.#source === "function";
  }

  /** The token to show; `fresh` asks the function even though the newest still holds. */
  async get({ fresh = false } = {}) {
    if (!this.renewable) return this.#source;
    if (this.#token !== null && !fresh && !this.#isNearlyOver()) return this.#token;
    this.#asking ??= this.#ask().finally(() => (this.#asking = null));
    return this.#asking;
  }

  /** The node took this token. Plans `renew` for some time before it ends. */
  accepted(token, expiresAt, renew) {
    this.#clock.isBefore(expiresAt);
    this.#acceptedAs = { token, expiresAt };
    this.#plan(renew);
  }

  /** The node does not, or no longer, take this token. */
  refused(token) {
    if (token === this.#token) this.#token = null;
    // It was good before, so it has ended: which tells the time.
    if (token === this.#acceptedAs?.token) this.#clock.isAtLeast(this.#acceptedAs.expiresAt);
    this.#acceptedAs = null;
  }

  /** A renewal failed: tries again later. */
  renewLater(renew) {
    if (!this.renewable || !this.#acceptedAs) return;
    this.#wakeAfter(this.#heldBack(0), renew);
  }

  /** Stops waiting and renewing. */
  pause() {
    clearTimeout(this.#renewTimer);
  }

  /** Ends all, also a request that waits for its turn. */
  stop() {
    this.pause();
    if (!this.#waiting) return;
    clearTimeout(this.#waiting.timer);
    this.#waiting.reject(new StarlingError("closed", "the client was closed"));
    this.#waiting = null;
  }

  #plan(renew) {
    clearTimeout(this.#renewTimer);
    if (!this.renewable || !this.#acceptedAs?.expiresAt) return;
    const leftMs = this.#leftMs() ?? 0;
    // A minute ahead, but never before three quarters of a short life are over.
    const wantedMs = Math.max(leftMs * 0.75, leftMs - AHEAD_MS, 0);
    if (wantedMs >= this.#intervalMs) this.#hasty = 0;
    this.#wakeAfter(wantedMs >= this.#intervalMs ? wantedMs : this.#heldBack(wantedMs), renew);
  }

  #heldBack(wantedMs) {
    return Math.max(wantedMs, Math.min(PAUSE_MS_MAX, this.#intervalMs * 2 ** this.#hasty++));
  }

  #wakeAfter(ms, renew) {
    clearTimeout(this.#renewTimer);
    // A life longer than a timer can count is looked at again in between.
    if (ms > TIMER_MS_MAX) this.#renewTimer = setTimeout(() => this.#plan(renew), TIMER_MS_MAX);
    else this.#renewTimer = setTimeout(renew, ms);
  }

  #isNearlyOver() {
    if (this.#acceptedAs?.token !== this.#token) return false;
    const leftMs = this.#leftMs();
    return leftMs !== undefined && leftMs < Math.min(NEARLY_OVER_MS, this.#intervalMs);
  }

  /** How long the accepted token is still good, as far as that can be known; undefined where it can't. */
  #leftMs() {
    const { token, expiresAt } = this.#acceptedAs;
    const endsAt = Date.parse(expiresAt);
    if (this.#clock.known) return endsAt - this.#clock.now();
    // No node has told the time yet. What the token says of its own length does not depend on this machine's clock;
    // and that clock counts only where it does not say that a token has ended which was accepted just now.
    const guesses = [];
    const lifeMs = lifeOf(token);
    if (lifeMs > 0) guesses.push(lifeMs - (performance.now() - this.#gotAt));
    if (endsAt > Date.now()) guesses.push(endsAt - Date.now());
    return guesses.length ? Math.min(...guesses) : undefined;
  }

  async #ask() {
    await this.#turn();
    const token = await this.#withinTime(this.#source());
    if (typeof token !== "string" || token === "") throw new TypeError("the token function gave no token");
    if (token !== this.#token) this.#gotAt = performance.now();
    this.#token = token;
    return token;
  }

  /** Waits until one more request may go. */
  #turn() {
    const now = performance.now();
    if (this.#countedAt) this.#allowance = Math.min(BURST, this.#allowance + (now - this.#countedAt) / this.#intervalMs);
    this.#countedAt = now;
    const waitMs = Math.max(0, (1 - this.#allowance) * this.#intervalMs);
    this.#allowance -= 1;
    if (waitMs === 0) return undefined;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting = null;
        resolve();
      }, waitMs);
      this.#waiting = { timer, reject };
    });
  }

  /** A function that never answers must not stop the client for good. */
  #withinTime(answer) {
    if (!Number.isFinite(this.#timeoutMs)) return answer;
    let timer;
    const tooLate = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`the token function gave none in ${this.#timeoutMs} ms`)), this.#timeoutMs);
    });
    return Promise.race([answer, tooLate]).finally(() => clearTimeout(timer));
  }
}

/** How long a JWT is good by its own claims; undefined if it does not say. */
function lifeOf(token) {
  try {
    const { iat, exp } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return Number.isFinite(exp - iat) ? (exp - iat) * 1000 : undefined;
  } catch {
    return undefined;
  }
}
