import { StarlingError } from "./errors.js";
import { TIMER_MS_MAX } from "./waiting.js";

/** Number of requests that may follow at once, for example after a refusal; after that, one per interval. */
const BURST = 3;
/** How long before its expiry a token is renewed, unless its lifetime is short. */
const AHEAD_MS = 60_000;
/** Longest pause before a renewal whose time is unknown, or after one that did not help. The pauses grow up to this. */
const PAUSE_MS_MAX = 300_000;
/** A token that expires within this time is not used for a new connection. */
const NEARLY_OVER_MS = 5_000;

/**
 * The program's token, or the function that returns one. Whatever this machine's clock says, and however often
 * connections are lost, the function is called at most `BURST` times at once and then once per interval. A token
 * that is still valid is reused.
 */
export class Tokens {
  #source;
  #intervalMs;
  #timeoutMs;
  #clock;
  #token = null; // newest token from the function, while it is valid
  #gotAt = 0; // when the function returned it, by the monotonic clock
  #acceptedAs = null; // last token that a node accepted: { token, expiresAt }
  #asking = null;
  #allowance = BURST;
  #countedAt = 0;
  #waiting = null; // { timer, reject } of a request that waits for its allowance
  #renewTimer = null;
  #hasty = 0; // number of consecutive renewals that were delayed

  constructor({ source, intervalMs, timeoutMs, clock }) {
    this.#source = source;
    this.#intervalMs = intervalMs;
    this.#timeoutMs = timeoutMs;
    this.#clock = clock;
  }

  /** Whether there is a function that returns new tokens. */
  get renewable() {
    return typeof this.#source === "function";
  }

  /** Returns the token to use. `fresh` calls the function even if the newest token is still valid. */
  async get({ fresh = false } = {}) {
    if (!this.renewable) return this.#source;
    if (this.#token !== null && !fresh && !this.#isNearlyOver()) return this.#token;
    this.#asking ??= this.#ask().finally(() => (this.#asking = null));
    return this.#asking;
  }

  /** Records that a node accepted this token. Schedules `renew` for some time before its expiry. */
  accepted(token, expiresAt, renew) {
    this.#clock.isBefore(expiresAt);
    this.#acceptedAs = { token, expiresAt };
    this.#plan(renew);
  }

  /** Records that a node refused this token. */
  refused(token) {
    if (token === this.#token) this.#token = null;
    // It was accepted before, so it has expired, which reveals the time.
    if (token === this.#acceptedAs?.token) this.#clock.isAtLeast(this.#acceptedAs.expiresAt);
    this.#acceptedAs = null;
  }

  /** Schedules another renewal after one has failed. */
  renewLater(renew) {
    if (!this.renewable || !this.#acceptedAs) return;
    this.#wakeAfter(this.#heldBack(0), renew);
  }

  /** Stops waiting and renewing. */
  pause() {
    clearTimeout(this.#renewTimer);
  }

  /** Ends everything, including a waiting request. */
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
    // A minute before the expiry, but not before three quarters of a short lifetime have passed.
    const wantedMs = Math.max(leftMs * 0.75, leftMs - AHEAD_MS, 0);
    if (wantedMs >= this.#intervalMs) this.#hasty = 0;
    this.#wakeAfter(wantedMs >= this.#intervalMs ? wantedMs : this.#heldBack(wantedMs), renew);
  }

  #heldBack(wantedMs) {
    return Math.max(wantedMs, Math.min(PAUSE_MS_MAX, this.#intervalMs * 2 ** this.#hasty++));
  }

  #wakeAfter(ms, renew) {
    clearTimeout(this.#renewTimer);
    // For a lifetime longer than a timer can count, the renewal is planned again in between.
    if (ms > TIMER_MS_MAX) this.#renewTimer = setTimeout(() => this.#plan(renew), TIMER_MS_MAX);
    else this.#renewTimer = setTimeout(renew, ms);
  }

  #isNearlyOver() {
    if (this.#acceptedAs?.token !== this.#token) return false;
    const leftMs = this.#leftMs();
    return leftMs !== undefined && leftMs < Math.min(NEARLY_OVER_MS, this.#intervalMs);
  }

  /** Returns how long the accepted token is still valid; undefined if that is unknown. */
  #leftMs() {
    const { token, expiresAt } = this.#acceptedAs;
    const endsAt = Date.parse(expiresAt);
    if (this.#clock.known) return endsAt - this.#clock.now();
    // The nodes' time is not known yet. The lifetime in the token does not depend on this machine's clock. This machine's
    // clock only counts if it does not claim that a token has expired that was accepted just now.
    const guesses = [];
    const lifeMs = lifeOf(token);
    if (lifeMs > 0) guesses.push(lifeMs - (performance.now() - this.#gotAt));
    if (endsAt > Date.now()) guesses.push(endsAt - Date.now());
    return guesses.length ? Math.min(...guesses) : undefined;
  }

  async #ask() {
    await this.#turn();
    const token = await this.#withinTime(this.#source());
    if (typeof token !== "string" || token === "") throw new TypeError("the token function returned no token");
    if (token !== this.#token) this.#gotAt = performance.now();
    this.#token = token;
    return token;
  }

  /** Waits until one more request is allowed. */
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

  /** Limits the time of the token function, so that one that never returns does not stop the client for good. */
  #withinTime(answer) {
    if (!Number.isFinite(this.#timeoutMs)) return answer;
    let timer;
    const tooLate = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`the token function returned nothing in ${this.#timeoutMs} ms`)), this.#timeoutMs);
    });
    return Promise.race([answer, tooLate]).finally(() => clearTimeout(timer));
  }
}

/** Returns the lifetime of a JWT by its own claims; undefined if they do not say. */
function lifeOf(token) {
  try {
    const { iat, exp } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return Number.isFinite(exp - iat) ? (exp - iat) * 1000 : undefined;
  } catch {
    return undefined;
  }
}
