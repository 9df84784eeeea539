// Starling's load scenarios for k6.
//
//   k6 run -e SCENARIO=baseline -e STARLING_JWT_SECRET=… -e STARLING_URLS=ws://127.0.0.1:8080/v1/ws starling.js
//
// Each virtual user is one session. `starling_delivery_ms`, `starling_acknowledge_ms` and `starling_resume_ms` are what clients see, counted from
// when a message was due; `starling_missing` and `starling_doubled` count what must not happen.

import { b64encode } from 'k6/encoding';
import { createHMAC } from 'k6/crypto';
import exec from 'k6/execution';
import { Counter, Rate, Trend } from 'k6/metrics';
import { setTimeout } from 'k6/timers';
import { WebSocket } from 'k6/websockets';

/**
 * What a scenario does.
 * @typedef {object} Scenario
 * @property {number} users how many sessions there are
 * @property {number} rampSeconds how long they take to come
 * @property {number} staySeconds how long each stays
 * @property {number} everySeconds how often each sends; 0: never
 * @property {number} perRoom how many share a conversation
 * @property {number} [breakAfterSeconds] when each loses its connection
 * @property {Record<string, string[]>} thresholds what has to be reached
 */

const FAST = { starling_delivery_ms: ['p(95)<200'], starling_errors: ['rate<0.01'] };

/** @type {Record<string, Scenario>} */
const SCENARIOS = {
  baseline: { users: 100, rampSeconds: 5, staySeconds: 305, everySeconds: 10, perRoom: 5, thresholds: FAST },
  spike: { users: 500, rampSeconds: 60, staySeconds: 180, everySeconds: 10, perRoom: 5, thresholds: FAST },
  sustained: { users: 500, rampSeconds: 10, staySeconds: 1810, everySeconds: 10, perRoom: 5, thresholds: FAST },
  stress: { users: 2000, rampSeconds: 200, staySeconds: 220, everySeconds: 2, perRoom: 5, thresholds: { starling_delivery_ms: ['p(95)<500'], starling_errors: ['rate<0.05'] } },
  soak: { users: 2000, rampSeconds: 60, staySeconds: 28_860, everySeconds: 20, perRoom: 10, thresholds: { starling_delivery_ms: ['med<200'], starling_errors: ['rate<0.01'] } },
  chat: { users: 10_000, rampSeconds: 60, staySeconds: 180, everySeconds: 10, perRoom: 5, thresholds: { starling_delivery_ms: ['p(95)<100'], starling_errors: ['rate<0.01'] } },
  idle: { users: 10_000, rampSeconds: 60, staySeconds: 180, everySeconds: 0, perRoom: 10, thresholds: { starling_errors: ['rate<0.01'] } },
  storm: { users: 2000, rampSeconds: 10, staySeconds: 90, everySeconds: 10, perRoom: 5, breakAfterSeconds: 30, thresholds: { starling_resume_ms: ['p(99)<10000'], starling_errors: ['rate<0.05'] } },
  'hot-room': { users: 1000, rampSeconds: 10, staySeconds: 70, everySeconds: 50, perRoom: 1000, thresholds: FAST },
};

const name = __ENV.SCENARIO || 'baseline';
const scenario = SCENARIOS[name];
if (!scenario) throw new Error(`SCENARIO=${name}: there are ${Object.keys(SCENARIOS).join(', ')}`);
const SECRET = __ENV.STARLING_JWT_SECRET;
if (!SECRET) throw new Error('set STARLING_JWT_SECRET to the secret of the nodes');
const URLS = (__ENV.STARLING_URLS || 'ws://127.0.0.1:8080/v1/ws').split(',');
const PAYLOAD_BYTES = Number(__ENV.PAYLOAD_BYTES || 128);

/** @type {import('k6/options').Options} */
export const options = {
  scenarios: {
    [name]: {
      executor: 'per-vu-iterations',
      vus: scenario.users,
      iterations: 1,
      maxDuration: `${scenario.rampSeconds + scenario.staySeconds + 60}s`,
    },
  },
  thresholds: { ...scenario.thresholds, starling_missing: ['count==0'], starling_doubled: ['count==0'] },
};

const delivery = new Trend('starling_delivery_ms', true);
const acknowledge = new Trend('starling_acknowledge_ms', true);
const resumed = new Trend('starling_resume_ms', true);
const errors = new Rate('starling_errors');
const missing = new Counter('starling_missing');
const doubled = new Counter('starling_doubled');

/** The users of a run share a prefix that no other run has. */
export function setup() {
  return { run: Math.random().toString(16).slice(2, 10) };
}

/** @param {{ run: string }} data */
export default function live(data) {
  const index = exec.vu.idInTest - 1;
  // Users come one after the other.
  setTimeout(() => new User(data.run, index).connect(), (index / scenario.users) * scenario.rampSeconds * 1000);
}

class User {
  /**
   * @param {string} run
   * @param {number} index
   */
  constructor(run, index) {
    const room = Math.floor(index / scenario.perRoom);
    this.run = run;
    this.index = index;
    this.name = `lt-${run}-${index}`;
    this.conversation = `lt-${run}-room-${room}`;
    this.members = Array.from({ length: scenario.perRoom }, (_, member) => `lt-${run}-${room * scenario.perRoom + member}`);
    this.until = Date.now() + scenario.staySeconds * 1000;
    this.id = 0;
    this.sent = 0;
    this.attempts = 0;
    this.ended = false;
    /** @type {Map<number, (reply: any) => void>} */
    this.waiting = new Map();
    /** @type {Map<string, { due: number, content: string }>} */
    this.unanswered = new Map();
    /** @type {number | null} */
    this.position = null;
    /** @type {{ session: string, ticket: string } | null} */
    this.session = null;
    this.log = '';
    this.brokenAt = 0;
    /** @type {WebSocket | null} */
    this.ws = null;
  }

  connect() {
    this.waiting.clear();
    const url = URLS[(this.index + this.attempts) % URLS.length];
    const ws = new WebSocket(url, null, { headers: { 'Sec-WebSocket-Protocol': 'starling.v1.json' } });
    this.ws = ws;
    ws.onopen = () => this.attach();
    ws.onmessage = (event) => this.receive(JSON.parse(String(event?.data)));
    ws.onclose = () => this.reconnect();
    ws.onerror = () => errors.add(true);
  }

  reconnect() {
    if (this.ended) return;
    this.brokenAt = this.brokenAt || Date.now();
    this.attempts += 1;
    const longest = Math.min(100 * 2 ** this.attempts, 5000);
    setTimeout(() => this.connect(), Math.random() * longest);
  }

  attach() {
    const cursors = this.position === null ? {} : { [this.conversation]: { seq: this.position, log: this.log } };
    const resume = this.session && { ...this.session, cursors };
    this.request({ op: 'connect', token: token(this.name), ...(resume && { resume }) }, (ok) => {
      this.session = { session: ok.session, ticket: ok.ticket };
      this.attempts = 0;
      if (!resume) return this.enter();
      resumed.add(Date.now() - this.brokenAt);
      this.brokenAt = 0;
      // A repeated key makes no second message.
      this.unanswered.forEach((message, key) => this.deliver(key, message));
      return undefined;
    });
  }

  enter() {
    if (this.index % scenario.perRoom !== 0) return this.join();
    return this.request({ op: 'create', conversation: this.conversation, members: this.members }, () => this.join());
  }

  join() {
    const joined = (/** @type {any} */ ok) => {
      this.position = ok.head;
      this.log = ok.log;
      this.talk();
    };
    // The first user of the room may not have created the conversation yet.
    this.request({ op: 'join', conversation: this.conversation }, joined, (error) =>
      error.code === 'not_found' ? void setTimeout(() => this.join(), 100) : void errors.add(true),
    );
  }

  talk() {
    setTimeout(() => this.leave(), this.until - Date.now());
    if (scenario.breakAfterSeconds) setTimeout(() => this.ws?.close(), scenario.breakAfterSeconds * 1000);
    if (scenario.everySeconds === 0) return;
    const interval = scenario.everySeconds * 1000;
    let due = Date.now() + Math.random() * interval;
    const next = () => {
      if (this.ended || due >= this.until) return;
      this.send(due);
      due += interval;
      setTimeout(next, due - Date.now());
    };
    setTimeout(next, due - Date.now());
  }

  leave() {
    this.ended = true;
    this.ws?.close(1000);
  }

  /** @param {number} due */
  send(due) {
    this.sent += 1;
    const key = `${this.name}-${this.sent}`;
    const message = { due, content: `~LT${due}~`.padEnd(PAYLOAD_BYTES, 'x') };
    this.unanswered.set(key, message);
    this.deliver(key, message);
  }

  /**
   * @param {string} key
   * @param {{ due: number, content: string }} message
   */
  deliver(key, { due, content }) {
    // While there is no connection the message waits for the resume.
    if (this.ws?.readyState !== WebSocket.OPEN) return;
    const answered = (/** @type {boolean} */ failed) => {
      this.unanswered.delete(key);
      errors.add(failed);
    };
    this.request({ op: 'send', conversation: this.conversation, key, content }, () => {
      answered(false);
      acknowledge.add(Date.now() - due);
    }, () => answered(true));
  }

  /**
   * @param {object} command
   * @param {(ok: any) => void} done
   * @param {(error: { code: string }) => void} [failed]
   */
  request(command, done, failed = () => errors.add(true)) {
    this.id += 1;
    this.waiting.set(this.id, (reply) => (reply.ok ? done(reply.ok) : failed(reply.error)));
    this.ws?.send(JSON.stringify({ id: this.id, ...command }));
  }

  /** @param {any} frame */
  receive(frame) {
    if (frame.ev === 'message') return this.take(frame);
    const waiting = this.waiting.get(frame.id);
    this.waiting.delete(frame.id);
    return waiting?.(frame);
  }

  /** @param {{ seq: number, content: string }} message */
  take({ seq, content }) {
    if (this.position !== null) {
      if (seq <= this.position) doubled.add(1);
      if (seq > this.position + 1) missing.add(seq - this.position - 1);
    }
    this.position = Math.max(seq, this.position ?? 0);
    const due = /^~LT([\d.]+)~/.exec(content);
    if (due) delivery.add(Date.now() - Number(due[1]));
  }
}

/** @param {string} user */
function token(user) {
  const part = (/** @type {object} */ value) => b64encode(JSON.stringify(value), 'rawurl');
  const claims = { sub: user, exp: Math.floor(Date.now() / 1000) + 86_400, scope: 'conversations:create' };
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  const mac = createHMAC('sha256', SECRET);
  mac.update(signed);
  return `${signed}.${mac.digest('base64rawurl')}`;
}
