/** Listeners by event. One that throws stops nobody else. */
export class Emitter {
  #listeners = new Map();

  /** Calls `listener` for every such event; returns the function that ends it. */
  on(event, listener) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    this.#listeners.get(event).add(listener);
    return () => this.off(event, listener);
  }

  off(event, listener) {
    this.#listeners.get(event)?.delete(listener);
  }

  emit(event, detail) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        listener(detail);
      } catch (error) {
        // A mistake in a listener must not stop the flow for the others.
        if (globalThis.reportError) globalThis.reportError(error);
        else console.error(error);
      }
    }
  }
}
