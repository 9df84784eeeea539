/** Listeners by event. A listener that throws does not stop the others. */
export class Emitter {
  #listeners = new Map();

  /** Calls `listener` for every such event; returns a function that removes the listener. */
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
        // An error in a listener must not keep the event from the others.
        if (globalThis.reportError) globalThis.reportError(error);
        else console.error(error);
      }
    }
  }
}
