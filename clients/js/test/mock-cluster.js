/**
 * A few lines of Starling, in memory, whose every reply a test can hold back or replace: enough to show what the
 * client does when a node misbehaves in ways that a real one does only by accident.
 */
import { once } from "node:events";
import { WebSocketServer } from "ws";

const FRAME_BYTES_MAX = 128 * 1024;
const RESUME_ENTRIES_MAX = 1000;

export class MockCluster {
  conversations = new Map(); // name -> { log: [message], keys: Map(key -> message) }
  sessions = new Map(); // id -> { user, joined: Set, peer }
  nodes = [];
  replayLimit = 1000;
  heartbeatMs = 25_000;
  tokenLifeMs = 3_600_000;
  refuseResume = false;
  #lastSession = 0;

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
    if (!this.conversations.has(name)) this.conversations.set(name, { log: [], keys: new Map() });
    return this.conversations.get(name);
  }

  /** Commits a message and, unless `silent`, hands it to everybody who joined. */
  append(name, content, { sender = "bob", key = null, silent = false } = {}) {
    const { log, keys } = this.conversation(name);
    const known = keys.get(key);
    if (known) return { message: known, duplicate: true };
    const seq = log.length + 1;
    const message = { conversation: name, seq, id: `m${seq}`, sender, role: "user", content, at: new Date().toISOString() };
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
  /** (frame, peer) => "swallow" | { error } | undefined: looked at before a command is carried out. */
  before = () => undefined;
  /** (frame, peer) => "swallow" | undefined: looked at after it was carried out, before the reply. */
  after = () => undefined;

  constructor(cluster, name) {
    Object.assign(this, { cluster, name });
  }

  async listen() {
    this.server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
    this.server.on("connection", (socket) => this.#accept(socket));
    await once(this.server, "listening");
    this.url = `http://127.0.0.1:${this.server.address().port}`;
  }

  /** Every socket gone at once and nobody listens any more, as after kill -9. */
  kill() {
    this.server.close();
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

  #replay(name, after) {
    const { log } = this.cluster.conversation(name);
    const missed = log.slice(after);
    const events = missed.slice(-this.cluster.replayLimit);
    return [{ head: log.length, replayed: events.length, truncated: events.length < missed.length }, events];
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
      expires_at: new Date(Date.now() + cluster.tokenLifeMs).toISOString(),
    };
    if (!known) return [ok];
    const events = [];
    for (const name of Object.keys(resume.cursors)) session.joined.add(name);
    ok.conversations = {};
    ok.topics = {};
    for (const [name, position] of Object.entries(resume.topics ?? {})) ok.topics[name] = { ...position, recovered: true, replayed: 0 };
    ok.gone = [];
    for (const name of session.joined) {
      const [part, missed] = this.#replay(name, resume.cursors[name] ?? cluster.conversation(name).log.length);
      ok.conversations[name] = part;
      events.push(...missed);
    }
    return [ok, events];
  }

  do_refresh() {
    return [{ expires_at: new Date(Date.now() + 3_600_000).toISOString() }];
  }

  do_create(peer, { conversation = "made" }) {
    this.cluster.conversation(conversation);
    return [{ conversation, created: true }];
  }

  do_join(peer, { conversation, after }) {
    peer.session.joined.add(conversation);
    const [ok, events] = this.#replay(conversation, after ?? this.cluster.conversation(conversation).log.length);
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

/** What a node says to a `connect` that names too much. */
function tooLarge({ resume }) {
  const entries = Object.keys(resume?.cursors ?? {}).length + Object.keys(resume?.topics ?? {}).length;
  return entries > RESUME_ENTRIES_MAX ? { error: { code: "too_large", message: "`resume` holds too much" } } : undefined;
}
