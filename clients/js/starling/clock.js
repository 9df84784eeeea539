/**
 * The nodes' time. The clock of a computer or phone may be wrong by hours, so the client does not trust it: it learns
 * the time from what nodes say, and lets it go on by the monotonic clock, which nobody sets.
 *
 * Everything a node says is older than the moment it is read, so each reading is a lower bound and the highest counts.
 */
export class NodeClock {
  #offsetMs = -Infinity; // the nodes' time minus `performance.now()`

  get known() {
    return this.#offsetMs > -Infinity;
  }

  /** Milliseconds since 1970 as the nodes count them; only where `known`. */
  now() {
    return performance.now() + this.#offsetMs;
  }

  /** It is `time` by now, or later. A text that is no time is ignored. */
  isAtLeast(time) {
    const ms = typeof time === "number" ? time : Date.parse(time);
    if (Number.isFinite(ms)) this.#offsetMs = Math.max(this.#offsetMs, ms - performance.now());
  }

  /** It is not yet `time`. Where that contradicts what was learned, nothing is known any more. */
  isBefore(time) {
    if (this.known && this.now() >= Date.parse(time)) this.#offsetMs = -Infinity;
  }
}
