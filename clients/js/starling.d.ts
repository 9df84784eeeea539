/** Sequence number of a message in a conversation: 1, 2, 3 … without holes. */
export type Seq = number;

/** Stable codes. The first nine come from the node, the others from this client. */
export type ErrorCode =
  | "bad_request" | "unauthorized" | "forbidden" | "not_found" | "conflict" | "too_large"
  | "rate_limited" | "unavailable" | "internal"
  | "timeout" | "closed" | "overflow" | "disconnected" | "unreachable" | "gap" | "protocol" | "replaced" | "ended";

export class StarlingError extends Error {
  constructor(code: ErrorCode, message?: string, retryAfterMs?: number);
  readonly code: ErrorCode;
  /** Milliseconds to wait before trying again. */
  readonly retryAfterMs?: number;
}

/** A position in a topic's short history. */
export interface Position {
  epoch: string;
  offset: number;
}

/** Position in a conversation: a number and the log that it belongs to. */
export type Cursor = Seq | { seq: Seq; log: string };

export interface Snapshot {
  session: string;
  ticket: string;
  cursors: Record<string, Cursor>;
  topics: Record<string, Position>;
}

export interface Options {
  /** Address of a node or a load balancer: `https://host`, `wss://host` or the full `…/v1/ws`. */
  url?: string;
  /** Several addresses. The next one is tried after each failure and each lost connection. */
  urls?: string[];
  /** A token, or a function that returns a fresh one. Only a function lets the client renew tokens before they expire. */
  token: string | (() => string | Promise<string>);
  /** Replacement for the global WebSocket. Node before 22 needs the one from the package `ws`. */
  WebSocket?: new (url: string, protocol: string) => unknown;
  /** Replacement for the global `fetch`. */
  fetch?: typeof fetch;
  /** Result of `snapshot()` of an earlier client, to continue its session. */
  resume?: Snapshot;
  /** Most commands that can be unsettled at once; further ones reject with `overflow`. Default 1000. */
  outboxLimit?: number;
  /** How long other commands and HTTP requests may take before they reject with `timeout`. Default 30,000. */
  requestTimeoutMs?: number;
  /** How long `send` tries before it rejects with `timeout`. Default 120,000; `Infinity` for no limit. */
  sendTimeoutMs?: number;
  /** Longest time from opening a connection to the reply to `connect`. Default 10,000. */
  dialTimeoutMs?: number;
  /** Attempts after which `connect()` rejects if no node has responded; at least one for each address. Default 6; `Infinity` for no limit. */
  connectAttempts?: number;
  /** Shortest average interval between calls of the token function. Up to three calls may follow at once. Default 5,000. */
  tokenIntervalMs?: number;
  /** The n-th pause is random, below `min(backoffMaxMs, backoffBaseMs × 2ⁿ)`. Default 250. */
  backoffBaseMs?: number;
  /** Longest pause between attempts. Default 15,000. */
  backoffMaxMs?: number;
  /** Pause before a hole that could not be filled from the log is requested again. Default 250. */
  holeRetryMs?: number;
  /** What to do if more was missed than a node replays: read all of it from the log first, or skip it. Default `page`. */
  catchUp?: "page" | "skip";
}

export type Role = "user" | "assistant" | "system" | "tool";

export interface Message {
  conversation: string;
  seq: Seq;
  id: string;
  sender: string;
  role: Role;
  content: string;
  metadata?: Record<string, unknown>;
  /** RFC 3339, UTC. */
  at: string;
}

export interface JoinReply {
  /** Newest seq, 0 when empty. */
  head: Seq;
  /** Number of existing messages that follow as events. */
  replayed: number;
  truncated: boolean;
  /** The id of the conversation's log. */
  log?: string;
  /** The requested number belongs to a log that no longer exists; the messages of the new log follow from the beginning. */
  reset?: boolean;
  online: string[];
  /** How far each user has read. */
  reads: Record<string, Seq>;
}

export interface Conversation {
  conversation: string;
  title?: string;
  metadata?: Record<string, unknown>;
  owner: string;
  /** RFC 3339, UTC. */
  created_at: string;
  /** Newest seq, 0 when empty. */
  head: Seq;
}

export interface ConversationWithMembers extends Conversation {
  members: string[];
}

export interface UserPresence {
  user: string;
  online: boolean;
  devices: number;
  last_seen?: string;
}

export type State = "idle" | "connecting" | "connected" | "reconnecting" | "closed";

export interface StateEvent {
  state: State;
  previous: State;
  /** With `connected`. */
  user?: string;
  tenant?: string;
  node?: string;
  session?: string;
  resumed?: boolean;
  /** With `connected`: the previous node was draining, and the move was seamless. */
  handover?: boolean;
  /** With `connected`: number of missed events that the node replays. */
  replayed?: number;
  conversations?: Record<string, { head: Seq; replayed: number; truncated: boolean; log?: string; reset?: boolean }>;
  topics?: Record<string, Position & { recovered: boolean; replayed: number }>;
  /** With `connecting` and `reconnecting`: the close code and reason, and when the next attempt is due. */
  code?: number;
  reason?: string;
  retryInMs?: number;
  attempt?: number;
  /** With `closed`. */
  error?: StarlingError;
}

export interface Events {
  message: Message;
  read: { conversation: string; user: string; seq: Seq };
  typing: { conversation: string; user: string; typing: boolean };
  presence: { conversation: string; user: string; online: boolean; last_seen?: string };
  member: { conversation: string; user: string; member: boolean };
  /** The title or the metadata changed; an absent field was removed. */
  updated: { conversation: string; title?: string; metadata?: Record<string, unknown> };
  /** The conversation was deleted, which also ends the join; `member` follows. */
  deleted: { conversation: string; log?: string };
  publication: { topic: string; offset: number; data: unknown; sender?: string };
  draining: { reconnect_after_ms: number };
  state: StateEvent;
  /** The conversation's log was created again: discard what was shown. The messages of the new log follow. */
  reset: { conversation: string; log?: string };
  /** Messages `from` to `to` were not replayed. They are read from the log, unless `skipped` is true. */
  truncated: { conversation: string; from: Seq; to: Seq; skipped: boolean };
  /** Publications of this topic may have been missed. */
  gap: { topic: string };
  /** The client is no longer in this conversation or topic, because it cannot be read any more. */
  gone: { conversation?: string; topic?: string; error: StarlingError };
  /**
   * A command was refused for the moment and is retried after `pauseMs`, at the time `at` (milliseconds since 1970, by this
   * machine's clock). `conversation` and `key` identify it, if it has them.
   */
  retry: { op: string; code: ErrorCode; message?: string; pauseMs: number; at: number; conversation?: string; key?: string };
  /** An error that belongs to no call: the end of the connection, a failed refresh, a hole that could not be filled. */
  error: StarlingError;
}

export class Starling {
  constructor(options: Options);

  readonly state: State;
  readonly session: string | undefined;
  readonly user: string | undefined;
  readonly tenant: string | undefined;
  readonly node: string | undefined;
  readonly joined: string[];
  /** The addresses, tried one after another. A new list is used from the next attempt on. */
  urls: string[];

  /**
   * Resolves once connected. Rejects with the cause if trying again cannot help (`forbidden`: the origin is not allowed; `not_found`: no node
   * there; `unauthorized`: the token), or after `connectAttempts` (`unreachable`).
   */
  connect(): Promise<Starling>;
  close(): void;
  cut(holdMs?: number): void;
  snapshot(): Snapshot | null;

  create(conversation?: {
    conversation?: string;
    title?: string;
    members?: string[];
    metadata?: Record<string, unknown>;
  }): Promise<{ conversation: string; created: boolean }>;
  /** Most recently active first. */
  list(options?: { cursor?: string | null; limit?: number }): Promise<{ conversations: Conversation[]; next: string | null }>;
  describe(conversation: string): Promise<ConversationWithMembers>;
  /** An absent field stays, `null` removes it. */
  update(
    conversation: string,
    changes: { title?: string | null; metadata?: Record<string, unknown> | null },
  ): Promise<ConversationWithMembers>;
  rename(conversation: string, title: string | null): Promise<ConversationWithMembers>;
  delete(conversation: string): Promise<void>;
  addMember(conversation: string, user: string): Promise<ConversationWithMembers>;
  removeMember(conversation: string, user: string): Promise<void>;
  /** `log` is the log that `after` belongs to; by default that of the earlier join. */
  join(conversation: string, options?: { after?: Seq; log?: string }): Promise<JoinReply>;
  /** Stops the events; with `forGood` it also ends the membership. */
  leave(conversation: string, options?: { forGood?: boolean }): Promise<void>;
  send(
    conversation: string,
    content: string,
    options?: { metadata?: Record<string, unknown>; key?: string; timeoutMs?: number },
  ): Promise<{ id: string; seq: Seq; at: string; duplicate: boolean; key: string }>;
  /** Returns one page in ascending order. It may be shorter than `limit` (large messages, a slow connection): `more` says whether there are more. */
  history(
    conversation: string,
    options?: { before?: Seq; after?: Seq; limit?: number },
  ): Promise<{ messages: Message[]; more: boolean }>;
  read(conversation: string, seq: Seq): Promise<void>;
  typing(conversation: string, typing?: boolean): Promise<void>;
  presence(conversation: string): Promise<UserPresence[]>;

  subscribe(topic: string, options?: { since?: Position }): Promise<Position & { recovered: boolean; replayed: number }>;
  unsubscribe(topic: string): Promise<void>;
  publish(topic: string, data: unknown): Promise<Position>;

  refresh(token?: string): Promise<{ expires_at: string }>;
  /** Returns the round-trip time to the node in milliseconds. */
  ping(): Promise<number>;

  on<E extends keyof Events>(event: E, listener: (detail: Events[E]) => void): () => void;
  off<E extends keyof Events>(event: E, listener: (detail: Events[E]) => void): void;
}
