// What a simulated user does, for Artillery. Each scenario file beside this one says how many users there are, how long they stay and how often
// they send.
//
// Artillery's own WebSocket metrics count frames. This file adds: `starling.delivery_ms`, `starling.acknowledge_ms` and `starling.resume_ms`
// (histograms), `starling.delivered`, `starling.sent`, `starling.acknowledged`, `starling.missing`, `starling.doubled` and
// `starling.errors.CODE` (counters).

const { createHmac, randomUUID } = require('node:crypto');

const SECRET = process.env.STARLING_JWT_SECRET;
const RUN = randomUUID().slice(0, 8);
const RETRY_MS = 100;
// The protocol's errors; what else a request fails with comes from the connection.
const CODES = Object.fromEntries(
  ['bad_request', 'unauthorized', 'forbidden', 'not_found', 'conflict', 'too_large', 'rate_limited', 'unavailable', 'internal'].map((code) => [code, true]),
);

let arrived = 0;

/** Prepares the address of the connection: `STARLING_URLS` may list several, with commas between. */
function address(parameters, context, next) {
  const urls = (process.env.STARLING_URLS || parameters.target || context.vars.target).split(',');
  context.vars.index = arrived;
  parameters.target = urls[arrived % urls.length];
  parameters.subprotocols = ['starling.v1.json'];
  arrived += 1;
  next();
}

/** Lives one user's life: connect, join, talk, and leave when the time is over. */
function live(context, events, done) {
  if (!SECRET) return done(new Error('set STARLING_JWT_SECRET to the secret of the nodes'));
  new User(context, events).live().then(() => done(), (error) => done(error));
}

class User {
  constructor(context, events) {
    const { index, perRoom = 5 } = context.vars;
    this.vars = context.vars;
    this.ws = context.ws;
    this.events = events;
    this.name = userName(index);
    this.room = Math.floor(index / perRoom);
    this.conversation = `lt-${RUN}-room-${this.room}`;
    this.first = index % perRoom === 0;
    this.members = Array.from({ length: perRoom }, (_, member) => userName(this.room * perRoom + member));
    // Requests without a reply, by their id; messages without one, by their key.
    this.waiting = new Map();
    this.unanswered = new Map();
    this.id = 0;
    this.sent = 0;
    this.position = null;
  }

  async live() {
    const until = Date.now() + this.vars.staySeconds * 1000;
    await this.attach();
    await this.join();
    if (this.vars.breakAfterSeconds) setTimeout(() => this.break(), this.vars.breakAfterSeconds * 1000);
    const interval = this.vars.everySeconds * 1000;
    // Users don't send at the same moment.
    let due = Date.now() + Math.random() * interval;
    while (interval > 0 && due < until) {
      await sleep(due - Date.now());
      this.send(due);
      due += interval;
    }
    await sleep(until - Date.now());
    this.ended = true;
    this.ws.close();
  }

  /** Takes over the connection and opens a session on it, or resumes the one there was. */
  async attach() {
    this.ws.onmessage = (event) => this.receive(JSON.parse(event.data));
    this.ws.onclose = () => !this.ended && this.reconnect();
    const resume = this.session && {
      session: this.session,
      ticket: this.ticket,
      cursors: this.position === null ? {} : { [this.conversation]: { seq: this.position, log: this.log } },
    };
    const ok = await this.request({ op: 'connect', token: token(this.name), ...(resume && { resume }) });
    this.session = ok.session;
    this.ticket = ok.ticket;
  }

  async join() {
    if (this.first) await this.request({ op: 'create', conversation: this.conversation, members: this.members });
    for (;;) {
      try {
        const ok = await this.request({ op: 'join', conversation: this.conversation });
        this.position = ok.head;
        this.log = ok.log;
        return;
      } catch (error) {
        // The first user of the room may not have created the conversation yet.
        if (error.code !== 'not_found') throw error;
        await sleep(RETRY_MS);
      }
    }
  }

  /** Loses the connection, as when a network goes away. */
  break() {
    this.broken = Date.now();
    this.ws.terminate();
  }

  async reconnect() {
    const broken = this.broken || Date.now();
    for (let attempt = 0; !this.ended; attempt += 1) {
      await sleep(Math.random() * Math.min(100 * 2 ** attempt, 5000));
      try {
        this.waiting.clear();
        const { url, protocol } = this.ws;
        this.ws = new this.ws.constructor(url, [protocol || 'starling.v1.json']);
        await new Promise((resolve, reject) => {
          this.ws.onopen = resolve;
          this.ws.onerror = reject;
        });
        await this.attach();
        this.events.emit('histogram', 'starling.resume_ms', Date.now() - broken);
        // A repeated key makes no second message.
        for (const [key, message] of this.unanswered) this.deliverUntilAnswered(key, message);
        return;
      } catch (error) {
        this.count(`errors.${error.code || 'connect'}`);
      }
    }
  }

  send(due) {
    this.sent += 1;
    this.count('sent');
    const content = `~LT${due}~`.padEnd(this.vars.payloadBytes || 128, 'x');
    const key = `${this.name}-${this.sent}`;
    const message = { due, content };
    this.unanswered.set(key, message);
    this.deliverUntilAnswered(key, message);
  }

  deliverUntilAnswered(key, { due, content }) {
    const answered = (count) => {
      this.unanswered.delete(key);
      this.count(count);
    };
    this.request({ op: 'send', conversation: this.conversation, key, content }).then(
      () => {
        answered('acknowledged');
        this.events.emit('histogram', 'starling.acknowledge_ms', Date.now() - due);
      },
      // Without a code the connection has gone, and the message is sent again after the resume.
      (error) => error.code in CODES && answered(`errors.${error.code}`),
    );
  }

  request(command) {
    this.id += 1;
    const id = this.id;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.ws.send(JSON.stringify({ id, ...command }), (error) => error && reject(error));
    });
  }

  receive(frame) {
    if (frame.ev === 'message') return this.deliver(frame);
    const waiting = this.waiting.get(frame.id);
    if (!waiting) return undefined;
    this.waiting.delete(frame.id);
    return frame.ok ? waiting.resolve(frame.ok) : waiting.reject(Object.assign(new Error(frame.error.message), frame.error));
  }

  deliver({ seq, content }) {
    if (this.position !== null && seq <= this.position) this.count('doubled');
    if (this.position !== null && seq > this.position + 1) this.count('missing', seq - this.position - 1);
    this.position = Math.max(seq, this.position ?? 0);
    const due = /^~LT([\d.]+)~/.exec(content);
    if (due) this.events.emit('histogram', 'starling.delivery_ms', Date.now() - Number(due[1]));
    this.count('delivered');
  }

  count(name, by = 1) {
    this.events.emit('counter', `starling.${name}`, by);
  }
}

function userName(index) {
  return `lt-${RUN}-${index}`;
}

function token(user) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = { sub: user, exp: Math.floor(Date.now() / 1000) + 86_400, scope: 'conversations:create' };
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, milliseconds)));
}

module.exports = { address, live };
