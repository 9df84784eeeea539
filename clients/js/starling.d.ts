/** Sequence number in a conversation: 1, 2, 3 … without a hole. */
export type Seq = number;

/** Stable codes. The first nine come from the node, the others from this client. */
export type ErrorCode =
  | "bad_request" | "unauthorized" | "forbidden" | "not_found" | "conflict" | "too_large"
  | "rate_limited" | "unavailable" | "internal"
  | "timeout" | "closed" | "overflow" | "disconnected" | "unreachable" | "gap" | "protocol" | "replaced" | "ended";

export class StarlingError extends Error {
  constructor(code: ErrorCode, message?: string, retryAfterMs?: number);
  readonly code: ErrorCode;
  /** Milliseconds after which trying again makes sense. */
  readonly retryAfterMs?: number;
}

/** A position in a topic's short history. */
export interface Position {
  epoch: string;
  offset: number;
}

/** How far a conversation was read: a number, and the log that it is a number of. */
export type Cursor = Seq | { seq: Seq; log: string };

export interface Snapshot {
  session: string;
  ticket: string;
  cursors: Record<string, Cursor>;
  topics: Record<string, Position>;
}

export interface Options {
  /** Address of a node or a balancer: `https://host`, `wss://host` or the full `…/v1/ws`. */
  url?: string;
  /** Several addresses, tried one after the other: after a failure, and after a connection was lost. */
  urls?: string[];
  /** A token, or a function that gets a fresh one; only with a function are tokens renewed before they expire. */
  token: string | (() => string | Promise<string>);
  /** Where there is no global WebSocket (Node before 22): the one of the package `ws`. */
  WebSocket?: new (url: string, protocol: string) => unknown;
  /** Where there is no global `fetch`, or another one is wanted. */
  fetch?: typeof fetch;
  /** What `snapshot()` of an earlier client gave, to go on there. */
  resume?: Snapshot;
  /** Commands that may be unsettled at once; above, they reject with `overflow`. Default 1000. */
  outboxLimit?: number;
  /** Default 30,000. */
  requestTimeoutMs?: number;
  /** How long `send` tries before it rejects with `timeout`. Default 120,000; `Infinity` for ever. */
  sendTimeoutMs?: number;
  /** From opening a socket to the node's reply. Default 10,000. */
  dialTimeoutMs?: number;
  /** Attempts after which `connect()` rejects if no node has answered, at least one for each address. Default 6; `Infinity` for ever. */
  connectAttempts?: number;
  /** The token function is called at most once in this time, but for three calls at once. Default 5,000. */
  tokenIntervalMs?: number;
  /** The n-th wait is random below `min(backoffMaxMs, backoffBaseMs × 2ⁿ)`. Default 250. */
  backoffBaseMs?: number;
  /** Default 15,000. */
  backoffMaxMs?: number;
  /** Pause before a hole that the log did not fill yet is asked for again. Default 250. */
  holeRetryMs?: number;
  /** What to do when more was missed than a node replays: read it all from the log first, or skip it. Default `page`. */
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
  /** Messages that follow as events. */
  replayed: number;
  truncated: boolean;
  /** The id of the conversation's log. */
  log?: string;
  /** The number asked for belongs to a log that is no more: all of the new one follows. */
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
  /** With `connected`: the node before was draining, and nobody noticed. */
  handover?: boolean;
  /** With `connected`: events that the node sends again because they were missed. */
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
  /** The title or the metadata was changed; what is absent was removed. */
  updated: { conversation: string; title?: string; metadata?: Record<string, unknown> };
  /** The conversation was deleted, and is left by that; `member` follows. */
  deleted: { conversation: string; log?: string };
  publication: { topic: string; offset: number; data: unknown; sender?: string };
  draining: { reconnect_after_ms: number };
  state: StateEvent;
  /** The conversation's log was made again: forget what was shown of it. All messages of the new log follow. */
  reset: { conversation: string; log?: string };
  /** Messages `from` to `to` were not replayed; they are read from the log, or `skipped`. */
  truncated: { conversation: string; from: Seq; to: Seq; skipped: boolean };
  /** Publications of this topic may have been missed. */
  gap: { topic: string };
  /** No longer in this conversation or topic: it can't be read any more. */
  gone: { conversation?: string; topic?: string; error: StarlingError };
  /**
   * A command was refused for the moment and is tried again after `pauseMs`, at the time `at` (milliseconds since 1970, by this
   * machine's clock). `conversation` and `key` say which one, where it has them.
   */
  retry: { op: string; code: ErrorCode; message?: string; pauseMs: number; at: number; conversation?: string; key?: string };
  /** What no call could reject with: the end of the connection, a failed refresh, a hole that nobody could fill. */
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
  /** The addresses that are tried one after the other; a new list holds from the next attempt on. */
  urls: string[];

  /**
   * Resolves once connected. Rejects with the cause when trying again can't help (`forbidden`: the origin is not allowed; `not_found`: no node
   * there; `unauthorized`: the token) or after `connectAttempts` (`unreachable`).
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
  /** Newest activity first. */
  list(options?: { cursor?: string | null; limit?: number }): Promise<{ conversations: Conversation[]; next: string | null }>;
  describe(conversation: string): Promise<ConversationWithMembers>;
  /** What is absent stays, `null` removes. */
  update(
    conversation: string,
    changes: { title?: string | null; metadata?: Record<string, unknown> | null },
  ): Promise<ConversationWithMembers>;
  rename(conversation: string, title: string | null): Promise<ConversationWithMembers>;
  delete(conversation: string): Promise<void>;
  addMember(conversation: string, user: string): Promise<ConversationWithMembers>;
  removeMember(conversation: string, user: string): Promise<void>;
  /** `log`: the one that `after` is a number of, by default that of the earlier join. */
  join(conversation: string, options?: { after?: Seq; log?: string }): Promise<JoinReply>;
  /** Ends the flow of events; with `forGood` the membership too. */
  leave(conversation: string, options?: { forGood?: boolean }): Promise<void>;
  send(
    conversation: string,
    content: string,
    options?: { metadata?: Record<string, unknown>; key?: string; timeoutMs?: number },
  ): Promise<{ id: string; seq: Seq; at: string; duplicate: boolean; key: string }>;
  /** One page, ascending. It may be shorter than `limit` (a large one, a slow line): `more` says whether there is more. */
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
  /** Milliseconds to the node and back. */
  ping(): Promise<number>;

  on<E extends keyof Events>(event: E, listener: (detail: Events[E]) => void): () => void;
  off<E extends keyof Events>(event: E, listener: (detail: Events[E]) => void): void;
}
