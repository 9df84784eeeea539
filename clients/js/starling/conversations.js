import { StarlingError } from "./errors.js";
import { pause } from "./waiting.js";

/** Most messages per conversation that are kept while a hole before them is filled. Further ones are read from the log later. */
const HELD_MESSAGES_MAX = 1000;
/** Most requests for a hole before the client gives up on it. */
const HOLE_ATTEMPTS_MAX = 40;
/** Messages per request on a fast connection. */
const PAGE = 200;
/** If a page arrives within this time, the next one may be longer. */
const QUICK_MS = 1000;

/**
 * The joined conversations with their cursors. Delivers the messages in the order of the log.
 *
 * A cursor is a number in one particular log. A conversation that was deleted and created again under the same name, or whose
 * database was restored, has another `log`, where numbers from the old log mean nothing. Then the client
 * discards all it knows about the conversation, emits `reset`, and receives the messages from the beginning.
 */
export class Conversations {
  #joined = new Map(); // name -> { name, cursor, log, top, held, filling }
  #emit;
  #history;
  #holeRetryMs;
  #skips;
  #isClosed;

  constructor({ emit, history, isClosed, holeRetryMs, catchUp }) {
    this.#emit = emit;
    this.#history = history;
    this.#isClosed = isClosed;
    this.#holeRetryMs = holeRetryMs;
    this.#skips = catchUp === "skip";
  }

  get names() {
    return [...this.#joined.keys()];
  }

  has(name) {
    return this.#joined.has(name);
  }

  /** Returns the position in a conversation as the fields of a `join`, `{ after, log }`; empty if it is not joined. */
  position(name) {
    const conversation = this.#joined.get(name);
    return conversation ? { after: conversation.cursor, log: conversation.log } : {};
  }

  /** Returns the cursors for a resume, by name: a number, or a number with its log. */
  cursors() {
    return Object.fromEntries([...this.#joined].map(([name, { cursor, log }]) => [name, log === undefined ? cursor : { seq: cursor, log }]));
  }

  /** Restores the cursors of an earlier client. */
  restore(cursors) {
    for (const [name, cursor] of Object.entries(cursors)) {
      const { seq, log } = typeof cursor === "number" ? { seq: cursor } : cursor;
      this.#joined.set(name, newConversation(name, seq, log));
    }
  }

  /** Handles the reply to a join with `after`. `explicit` also moves the cursor of a known conversation there. */
  joined(name, ok, after, explicit) {
    let conversation = this.#joined.get(name);
    if (!conversation) {
      conversation = newConversation(name, after ?? ok.head, ok.log);
      this.#joined.set(name, conversation);
    } else if (explicit) {
      conversation.cursor = after;
      conversation.held.clear();
    }
    this.caughtUp(name, ok);
  }

  /** Handles the state of a conversation in the reply to a join or resume, before the replay. */
  caughtUp(name, { head, replayed, truncated, log, reset }) {
    let conversation = this.#joined.get(name);
    if (reset) {
      // A new object, so that messages still in flight from the old log are ignored.
      conversation = newConversation(name, 0, log);
      this.#joined.set(name, conversation);
      this.#emit("reset", { conversation: name, log });
      if (this.#joined.get(name) !== conversation) return; // left by a listener
    } else if (log !== undefined) conversation.log = log;
    if (!truncated) return;
    // More was missed than the node replays. The older part is read from the log first, or skipped if the program prefers that.
    const to = head - replayed;
    this.#emit("truncated", { conversation: name, from: conversation.cursor + 1, to, skipped: this.#skips });
    if (this.#skips) conversation.cursor = Math.max(conversation.cursor, to);
    else {
      conversation.top = Math.max(conversation.top, to);
      this.#fill(conversation);
    }
  }

  /** Handles a `message` event. */
  message(message) {
    const conversation = this.#joined.get(message.conversation);
    if (conversation) this.#accept(conversation, message);
  }

  /**
   * Handles a `deleted` event. Forgets the conversation and returns true if the event is about the log known here. A late event,
   * after the conversation has been created again and joined, is about another log.
   */
  deleted({ conversation: name, log }) {
    const known = this.#joined.get(name);
    if (known?.log !== undefined && log !== undefined && known.log !== log) return false;
    this.#joined.delete(name);
    return true;
  }

  forget(name) {
    return this.#joined.delete(name);
  }

  /** Forgets a conversation that can no longer be read. */
  gone(name, error) {
    if (this.forget(name)) this.#emit("gone", { conversation: name, error });
  }

  /** Accepts a message: drops a repeat, fills a hole before it first, or delivers it. */
  #accept(conversation, message) {
    if (!this.#isCurrent(conversation) || message.seq <= conversation.cursor) return;
    if (message.seq > conversation.cursor + 1) {
      conversation.top = Math.max(conversation.top, message.seq);
      if (conversation.held.size < HELD_MESSAGES_MAX) conversation.held.set(message.seq, message);
      this.#fill(conversation);
      return;
    }
    for (let next = message; next; next = conversation.held.get(conversation.cursor + 1)) {
      conversation.cursor = next.seq;
      conversation.held.delete(next.seq);
      this.#emit("message", next);
      if (!this.#isCurrent(conversation)) return;
    }
  }

  /** Reads missing messages from the log up to the highest number seen. */
  async #fill(conversation) {
    if (conversation.filling) return;
    conversation.filling = true;
    const { name } = conversation;
    let limit = PAGE;
    for (let attempt = 0; this.#isCurrent(conversation) && !this.#isClosed() && conversation.cursor < conversation.top; ) {
      const before = conversation.cursor;
      const asked = performance.now();
      try {
        const { messages } = await this.#history(name, { after: before, limit });
        const isQuick = performance.now() - asked < QUICK_MS;
        // A slow page may have been shortened by a retry; pages of that length suit this connection.
        limit = isQuick ? Math.min(PAGE, limit * 2) : Math.max(1, Math.min(limit, messages.length));
        for (const message of messages) this.#accept(conversation, { ev: "message", conversation: name, ...message });
      } catch (error) {
        if (error.code === "timeout") limit = Math.max(1, Math.floor(limit / 2));
        if ((error.code === "not_found" || error.code === "forbidden") && this.#isCurrent(conversation)) this.gone(name, error);
      }
      if (conversation.cursor > before) attempt = 0;
      else if (++attempt < HOLE_ATTEMPTS_MAX) await pause(this.#holeRetryMs);
      else this.#giveUpHole(conversation);
    }
    conversation.filling = false;
  }

  /** Skips a hole that the log cannot fill, and reports it, so that later messages are not held back forever. */
  #giveUpHole(conversation) {
    if (!this.#isCurrent(conversation)) return;
    const next = Math.min(conversation.top + 1, ...conversation.held.keys());
    this.#emit("error", new StarlingError("gap", `${conversation.name}: ${conversation.cursor + 1} to ${next - 1} could not be read`));
    conversation.cursor = next - 1;
    const message = conversation.held.get(next);
    if (message) this.#accept(conversation, message);
  }

  #isCurrent(conversation) {
    return this.#joined.get(conversation.name) === conversation;
  }
}

function newConversation(name, cursor, log) {
  return { name, cursor, log, top: 0, held: new Map(), filling: false };
}
