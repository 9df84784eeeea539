/**
 * A small in-memory imitation of Starling. Tests can delay or replace each of its replies, to show what the
 * client does when a node misbehaves in ways that a real one only does by accident.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const FRAME_BYTES_MAX = 128 * 1024;
const RESUME_ENTRIES_MAX = 1000;

export class MockCluster {
  conversations = new Map(); // name -> { id, log: [message], keys: Map(key -> message) }; `id` is the protocol's `log`
  sessions = new Map(); // id -> { user, joined: Set, peer }
  nodes = [];
  replayLimit = 1000;
  heartbeatMs = 25_000;
  tokenLifeMs = 3_600_000;
  refuseResume = false;
  /** The nodes' clock. */
  now = () => Date.now();
  #lastSession = 0;
  #lastLog = 0;

  async node(name) {
    const node = new MockNode(this, name);
    await node.listen();
    this.nodes.push(node);
    return node;
  }

  close() {
    for (const node of this.nodes) node.kill();
  }

  conversation(name) {
    if (!this.conversations.has(name)) this.conversations.set(name, { id: `log${++this.#lastLog}`, log: [], keys: new Map() });
    return this.conversations.get(name);
  }

  /** Deletes a conversation; `silent` imitates a lost event or a restored database. */
  delete(name, { silent = false } = {}) {
    const { id } = this.conversation(name);
    this.conversations.delete(name);
    for (const { user, joined, peer } of this.sessions.values()) {
      if (!joined.delete(name) || silent) continue;
      peer?.say({ ev: "deleted", conversation: name, log: id });
      peer?.say({ ev: "member", conversation: name, user, member: false });
    }
  }

  /** Commits a message and, unless `silent`, sends it to all clients that joined. */
  append(name, content, { sender = "bob", key = null, silent = false } = {}) {
    const { log, keys } = this.conversation(name);
    const known = keys.get(key);
    if (known) return { message: known, duplicate: true };
    const seq = log.length + 1;
    const message = { conversation: name, seq, id: `m${seq}`, sender, role: "user", content, at: new Date(this.now()).toISOString() };
    log.push(message);
    if (key) keys.set(key, message);
    if (!silent) for (const { joined, peer } of this.sessions.values()) if (joined.has(name)) peer?.say({ ev: "message", ...message });
    return { message, duplicate: false };
  }

  newSession(user) {
    const id = `s${++this.#lastSession}`;
    this.sessions.set(id, { id, user, joined: new Set(), peer: null });
    return this.sessions.get(id);
  }
}

class MockNode {
  peers = new Set();
  commands = []; // every command received, in order
  /** (frame, peer) => "swallow" | { error } | undefined: called before a command is carried out. */
  before = () => undefined;
  /** (frame, peer) => "swallow" | undefined: called after it was carried out, before the reply. */
  after = () => undefined;
  /** (request) => { status, headers?, body? } | undefined: returns the response to an HTTP request. */
  http = () => undefined;
  /** Status with which upgrades are refused. */
  refuseUpgrade = 0;

  constructor(cluster, name) {
    Object.assign(this, { cluster, name });
  }

  async listen() {
    this.server = createServer((request, response) => this.#answer(request, response));
    const sockets = new WebSocketServer({ noServer: true });
    this.server.on("upgrade", (request, socket, head) => {
      if (this.refuseUpgrade) socket.end(`HTTP/1.1 ${this.refuseUpgrade} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
      else sockets.handleUpgrade(request, socket, head, (peer) => this.#accept(peer));
    });
    this.server.listen(0, "127.0.0.1");
    await once(this.server, "listening");
    this.url = `http://127.0.0.1:${this.server.address().port}`;
  }

  async #answer(request, response) {
    let text = "";
    for await (const part of request) text += part;
    request.text = text;
    const { status, headers = {}, body } = this.http(request) ?? { status: request.url.startsWith("/v1/ws") ? 426 : 404 };
    response.writeHead(status, { connection: "close", ...headers }).end(body && JSON.stringify(body));
  }

  /** Drops all connections at once and stops listening, as after kill -9. */
  kill() {
    this.server.close();
    this.server.closeAllConnections();
    this.cut();
  }

  cut() {
    for (const peer of this.peers) peer.socket.terminate();
  }

  drain(reconnectAfterMs = 0) {
    for (const peer of this.peers) peer.say({ ev: "draining", reconnect_after_ms: reconnectAfterMs });
  }

  #accept(socket) {
    const peer = { socket, session: null, say: (frame) => socket.send(JSON.stringify(frame)) };
    this.peers.add(peer);
    socket.on("message", (data) => (data.length > FRAME_BYTES_MAX ? socket.close(1009) : this.#command(peer, JSON.parse(data))));
    socket.on("close", () => {
      this.peers.delete(peer);
      if (peer.session?.peer === peer) peer.session.peer = null;
    });
  }

  #command(peer, frame) {
    this.commands.push(frame);
    const verdict = this.before(frame, peer) ?? tooLarge(frame);
    if (verdict === "swallow") return;
    if (verdict?.error) {
      peer.say({ id: frame.id, error: verdict.error });
      if (verdict.close) peer.socket.close(verdict.close);
      return;
    }
    const [ok, events = []] = this[`do_${frame.op}`](peer, frame);
    if (this.after(frame, peer) === "swallow") return;
    peer.say({ id: frame.id, ok });
    for (const message of events) peer.say({ ev: "message", ...message });
  }

  #replay(name, after, known) {
    const { id, log } = this.cluster.conversation(name);
    const reset = after > log.length || (known !== undefined && known !== null && known !== id);
    const missed = log.slice(reset ? 0 : after);
    const events = missed.slice(-this.cluster.replayLimit);
    return [{ head: log.length, replayed: events.length, truncated: events.length < missed.length, log: id, reset }, events];
  }

  do_connect(peer, { resume }) {
    const { cluster } = this;
    const known = !cluster.refuseResume && cluster.sessions.get(resume?.session);
    const session = known || cluster.newSession("alice");
    if (session.peer) session.peer.socket.close(4409);
    session.peer = peer;
    peer.session = session;
    const ok = {
      session: session.id, ticket: `ticket-${session.id}`, user: session.user, tenant: "default", node: this.name,
      resumed: Boolean(known), heartbeat_ms: cluster.heartbeatMs, resume_window_ms: 120_000,
      expires_at: new Date(cluster.now() + cluster.tokenLifeMs).toISOString(),
    };
    if (!known) return [ok];
    const events = [];
    for (const name of Object.keys(resume.cursors)) session.joined.add(name);
    ok.conversations = {};
    ok.topics = {};
    for (const [name, position] of Object.entries(resume.topics ?? {})) ok.topics[name] = { ...position, recovered: true, replayed: 0 };
    ok.gone = [];
    for (const name of session.joined) {
      const cursor = resume.cursors[name];
      const seq = cursor?.seq ?? cursor ?? cluster.conversation(name).log.length;
      const [part, missed] = this.#replay(name, seq, cursor?.log);
      ok.conversations[name] = part;
      events.push(...missed);
    }
    return [ok, events];
  }

  do_refresh() {
    return [{ expires_at: new Date(this.cluster.now() + this.cluster.tokenLifeMs).toISOString() }];
  }

  do_create(peer, { conversation = "made" }) {
    this.cluster.conversation(conversation);
    return [{ conversation, created: true }];
  }

  do_join(peer, { conversation, after, log }) {
    peer.session.joined.add(conversation);
    const [ok, events] = this.#replay(conversation, after ?? this.cluster.conversation(conversation).log.length, log);
    return [{ ...ok, online: [], reads: {} }, events];
  }

  do_leave(peer, { conversation }) {
    peer.session.joined.delete(conversation);
    return [{}];
  }

  do_send(peer, { conversation, key, content }) {
    const { message, duplicate } = this.cluster.append(conversation, content, { key, sender: peer.session.user });
    return [{ id: message.id, seq: message.seq, at: message.at, duplicate }];
  }

  do_history(peer, { conversation, after, limit = 50 }) {
    const rest = this.cluster.conversation(conversation).log.slice(after);
    return [{ messages: rest.slice(0, limit), more: rest.length > limit }];
  }

  do_subscribe() {
    return [{ epoch: "e1", offset: 7, recovered: false, replayed: 0 }];
  }

  do_publish() {
    return [{ epoch: "e1", offset: 8 }];
  }

  do_ping() {
    return [{}];
  }
}

/** Returns a node's error for a `connect` that names too much. */
function tooLarge({ resume }) {
  const entries = Object.keys(resume?.cursors ?? {}).length + Object.keys(resume?.topics ?? {}).length;
  return entries > RESUME_ENTRIES_MAX ? { error: { code: "too_large", message: "`resume` holds too much" } } : undefined;
}
