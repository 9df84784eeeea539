/**
 * The nodes' time. The clock of a computer or phone may be wrong by hours, so the client does not trust it. It learns
 * the time from the nodes and advances it with the monotonic clock, which nobody can set.
 *
 * A time from a node is always older than the moment it is read, so each one is a lower bound and the highest counts.
 */
export class NodeClock {
  #offsetMs = -Infinity; // the nodes' time minus `performance.now()`

  get known() {
    return this.#offsetMs > -Infinity;
  }

  /** Returns the nodes' time in milliseconds since 1970. Only valid if `known`. */
  now() {
    return performance.now() + this.#offsetMs;
  }

  /** Learns that it is `time` or later. A text that is not a time is ignored. */
  isAtLeast(time) {
    const ms = typeof time === "number" ? time : Date.parse(time);
    if (Number.isFinite(ms)) this.#offsetMs = Math.max(this.#offsetMs, ms - performance.now());
  }

  /** Learns that it is not yet `time`. If that contradicts earlier times, the time becomes unknown. */
  isBefore(time) {
    if (this.known && this.now() >= Date.parse(time)) this.#offsetMs = -Infinity;
  }
}
