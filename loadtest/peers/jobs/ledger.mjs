// Which jobs were added, and when each was begun.
export class Ledger {
  #added = [];
  #begun = new Map();
  #filler;
  #waits = [];
  doubled = 0;

  constructor(payloadBytes) {
    this.#filler = "x".repeat(Math.max(payloadBytes - 40, 0));
  }

  // The payload of a new job.
  next() {
    const number = this.#added.length;
    this.#added.push(performance.now());
    return { number, filler: this.#filler };
  }

  // Notes that a worker has begun a job. Does no work.
  begin({ number }) {
    if (this.#begun.has(number)) {
      this.doubled += 1;
      return;
    }
    const now = performance.now();
    this.#begun.set(number, now);
    this.#waits.push(now - this.#added[number]);
  }

  get added() {
    return this.#added.length;
  }

  get begun() {
    return this.#begun.size;
  }

  get lost() {
    return this.added - this.begun;
  }

  // Forgets the waits so far.
  restart() {
    this.#waits = [];
  }

  // Milliseconds from before a job was added until a worker began it.
  waits() {
    const sorted = this.#waits.toSorted((one, other) => one - other);
    const at = (percent) => sorted[Math.min(Math.floor((sorted.length * percent) / 100), sorted.length - 1)] ?? 0;
    return { p50_ms: at(50), p90_ms: at(90), p99_ms: at(99), max_ms: sorted.at(-1) ?? 0 };
  }
}
