import { StarlingError } from "./errors.js";
import { pause } from "./waiting.js";

/** Messages kept aside per conversation while a hole before them is filled; the rest is read again from the log. */
const HELD_MESSAGES_MAX = 1000;
/** How often a hole is asked for before it is given up. */
const HOLE_ATTEMPTS_MAX = 40;
/** How many messages are asked for at a time, where the line is quick enough. */
const PAGE = 200;
/** A page that comes within this time may be followed by a longer one. */
const QUICK_MS = 1000;

/**
 * The joined conversations: how far each has come, and its messages in the order of the log.
 *
 * A cursor is a number in one particular log. A conversation that was deleted and made again under its name, or whose
 * database was restored, has another `log`, and what was counted in the old one means nothing there: then all that is
 * known of the conversation is forgotten, `reset` says so, and the messages come from the beginning.
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

  /** Where this conversation stands: `{ after, log }`, as a `join` takes it; empty for one that is not joined. */
  position(name) {
    const conversation = this.#joined.get(name);
    return conversation ? { after: conversation.cursor, log: conversation.log } : {};
  }

  /** What a resume needs to know, by name: a number, or the number and its log. */
  cursors() {
    return Object.fromEntries([...this.#joined].map(([name, { cursor, log }]) => [name, log === undefined ? cursor : { seq: cursor, log }]));
  }

  /** Takes the cursors of an earlier client. */
  restore(cursors) {
    for (const [name, cursor] of Object.entries(cursors)) {
      const { seq, log } = typeof cursor === "number" ? { seq: cursor } : cursor;
      this.#joined.set(name, newConversation(name, seq, log));
    }
  }

  /** Takes the answer to a join that asked for what came after `after`; `explicit` moves a known cursor there, too. */
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

  /** Takes what the node says of a conversation before it replays: in the answer to a join or a resume. */
  caughtUp(name, { head, replayed, truncated, log, reset }) {
    let conversation = this.#joined.get(name);
    if (reset) {
      // A new object: what is still on its way for the old log finds nobody.
      conversation = newConversation(name, 0, log);
      this.#joined.set(name, conversation);
      this.#emit("reset", { conversation: name, log });
      if (this.#joined.get(name) !== conversation) return; // left by a listener
    } else if (log !== undefined) conversation.log = log;
    if (!truncated) return;
    // More was missed than the node replays: the older part is paged from the log first, or skipped if so wished.
    const to = head - replayed;
    this.#emit("truncated", { conversation: name, from: conversation.cursor + 1, to, skipped: this.#skips });
    if (this.#skips) conversation.cursor = Math.max(conversation.cursor, to);
    else {
      conversation.top = Math.max(conversation.top, to);
      this.#fill(conversation);
    }
  }

  /** Takes a message as the node sends it. */
  message(message) {
    const conversation = this.#joined.get(message.conversation);
    if (conversation) this.#accept(conversation, message);
  }

  /**
   * Whether a `deleted` event is about the log that is known here; then the conversation is forgotten. An event that
   * comes late, when the conversation has been made again and joined, is not.
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

  /** Forgets a conversation that the node says can't be read any more. */
  gone(name, error) {
    if (this.forget(name)) this.#emit("gone", { conversation: name, error });
  }

  /** Takes one message in: a repeat is dropped, a hole filled first, the next one delivered. */
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

  /** Reads the hole from the log until nothing is missing up to the highest number seen. */
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
        // A slow one may have been made shorter on its way: such pages this line can bear.
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

  /** The log does not have it: better a hole that is told than silence for ever. */
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
