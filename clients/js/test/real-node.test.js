/**
 * Tests of the client against a real node. Either STARLING_BIN names the program, and the tests start a node with SQLite in a
 * temporary folder, or STARLING_URL and STARLING_TOKEN name a running node.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import WebSocket from "ws";
import { Starling } from "../starling.js";
import { startNode } from "./starling-process.js";
import { nextEvent, until } from "./waiting.js";

let url, token, tokenOf, node;
const clients = [];
const name = `client-test-${Date.now()}`;

before(async () => {
  const { STARLING_BIN, STARLING_URL, STARLING_TOKEN } = process.env;
  if (STARLING_BIN) {
    node = await startNode({ bin: STARLING_BIN, name: "js-client-test", env: { STARLING_LIMIT_USER_WRITES_PER_MINUTE: "0" } });
    url = node.url;
    tokenOf = (user) => node.token(user);
    token = tokenOf("alice");
  } else {
    assert.ok(STARLING_URL && STARLING_TOKEN, "set STARLING_BIN, or STARLING_URL and STARLING_TOKEN");
    url = STARLING_URL;
    token = STARLING_TOKEN;
    tokenOf = () => assert.fail("a second user's token needs STARLING_BIN");
  }
});

after(async () => {
  for (const client of clients) client.close();
  await node?.stop();
});

async function connected(options = {}) {
  const client = new Starling({ url, token, WebSocket, backoffBaseMs: 20, ...options });
  clients.push(client);
  client.messages = [];
  client.on("message", (message) => client.messages.push(message));
  await client.connect();
  return client;
}

const numbers = (to) => Array.from({ length: to }, (_, i) => i + 1);

test("what is sent comes back in order, to the sender and to another device", async () => {
  const [one, two] = [await connected(), await connected()];
  assert.equal((await one.create({ conversation: name, title: "client test" })).created, true);
  assert.equal((await one.create({ conversation: name })).created, false);
  await Promise.all([one.join(name), two.join(name)]);
  const sent = await Promise.all(numbers(20).map((n) => one.send(name, `message ${n}`, { metadata: { n } })));
  assert.deepEqual(sent.map(({ seq }) => seq), numbers(20));
  await until(() => one.messages.length === 20 && two.messages.length === 20, "all messages at both devices");
  for (const { messages } of [one, two]) {
    assert.deepEqual(messages.map(({ seq, metadata }) => [seq, metadata.n]), numbers(20).map((n) => [n, n]));
  }
  const page = await two.history(name, { limit: 5 });
  assert.deepEqual([page.messages.map(({ seq }) => seq), page.more], [[16, 17, 18, 19, 20], true]);
});

test("a key gives back its message", async () => {
  const client = await connected();
  const first = await client.send(name, "once", { key: "k1" });
  const again = await client.send(name, "once", { key: "k1" });
  assert.deepEqual([again.seq, first.duplicate, again.duplicate], [first.seq, false, true]);
});

test("cut and resumed under load: everything once, in order", async () => {
  const [reader, writer] = [await connected(), await connected()];
  const { head } = await reader.join(name, { after: 0 });
  let sent = 0;
  for (let round = 0; round < 10; round++) {
    const sends = numbers(20).map((n) => writer.send(name, `${round}/${n}`));
    const back = nextEvent(reader, "state", ({ state }) => state === "connected");
    reader.cut();
    if (round % 2) writer.cut();
    assert.equal((await back).resumed, true);
    sent += (await Promise.all(sends)).length;
  }
  await until(() => reader.messages.length >= head + sent, "all messages after ten cuts");
  assert.deepEqual(reader.messages.map(({ seq }) => seq), numbers(head + sent));
});

test("read marks and topics", async () => {
  const [one, two] = [await connected(), await connected()];
  await Promise.all([one.join(name), two.join(name)]);
  const read = nextEvent(two, "read");
  await one.read(name, 3);
  assert.deepEqual([(await read).seq, (await read).user], [3, one.user]);
  await two.subscribe("news");
  const publication = nextEvent(two, "publication");
  await one.publish("news", { hello: "world" });
  assert.deepEqual((await publication).data, { hello: "world" });
});

test("conversations are listed, changed, left and deleted, and those concerned are told", async () => {
  const owner = await connected();
  const other = await connected({ token: tokenOf("bob") });
  const room = `${name}-changed`;
  await owner.create({ conversation: room, title: "Before", members: [other.user] });
  await Promise.all([owner.join(room), other.join(room)]);
  const { conversations } = await other.list({ limit: 200 });
  assert.equal(conversations.find(({ conversation }) => conversation === room).title, "Before");

  const updated = nextEvent(other, "updated");
  assert.equal((await owner.rename(room, "After")).title, "After");
  assert.deepEqual([(await updated).conversation, (await updated).title], [room, "After"]);

  const added = nextEvent(other, "member", ({ user }) => user === "carol");
  assert.deepEqual((await owner.addMember(room, "carol")).members.sort(), ["carol", owner.user, other.user].sort());
  assert.equal((await added).member, true);
  await owner.removeMember(room, "carol");
  await assert.rejects(other.rename(room, "no"), { code: "forbidden" });

  await other.leave(room, { forGood: true });
  assert.deepEqual([other.joined, (await owner.describe(room)).members], [[], [owner.user]]);
  await assert.rejects(other.describe(room), { code: "not_found" });

  await owner.addMember(room, other.user);
  await other.join(room);
  const seen = [];
  other.on("deleted", ({ conversation }) => seen.push(["deleted", conversation]));
  other.on("member", ({ conversation, member }) => seen.push(["member", conversation, member]));
  await owner.delete(room);
  await until(() => seen.length >= 2);
  assert.deepEqual(seen, [["deleted", room], ["member", room, false]]);
  assert.deepEqual(other.joined, []);
});

for (const [what, again] of [["longer", 30], ["shorter", 4]]) {
  test(`a conversation made again while away, ${what} than before: reset, then all of it, once`, async () => {
    const owner = await connected();
    const reader = await connected({ backoffBaseMs: 500 });
    const room = `${name}-again-${what}`;
    await owner.create({ conversation: room });
    await reader.join(room);
    for (const n of numbers(10)) await owner.send(room, `old ${n}`);
    await until(() => reader.messages.length === 10);
    reader.messages.length = 0;
    const resets = [];
    reader.on("reset", (reset) => resets.push([reset.conversation, reader.messages.length]));
    reader.cut(1500);
    await owner.delete(room);
    await owner.create({ conversation: room });
    for (const n of numbers(again)) await owner.send(room, `new ${n}`);
    await until(() => reader.messages.length >= again, `all ${again} messages of the new log`);
    await owner.send(room, "live");
    await until(() => reader.messages.length >= again + 1);
    assert.deepEqual(reader.messages.map(({ seq, content }) => [seq, content]), [...numbers(again).map((n) => [n, `new ${n}`]), [again + 1, "live"]]);
    assert.deepEqual(resets, [[room, 0]]);
  });

  test(`a snapshot of a conversation that was made again, ${what} than before, is reset too`, async () => {
    const owner = await connected();
    const room = `${name}-snapshot-${what}`;
    await owner.create({ conversation: room });
    const first = await connected();
    await first.join(room);
    for (const n of numbers(10)) await owner.send(room, `old ${n}`);
    await until(() => first.messages.length === 10);
    const { cursors } = JSON.parse(JSON.stringify(first.snapshot()));
    first.close();
    await owner.delete(room);
    await owner.create({ conversation: room });
    for (const n of numbers(again)) await owner.send(room, `new ${n}`);
    // The session is lost as well, as after a long absence; only the cursors remain.
    const second = await connected({ resume: { session: "none", ticket: "none", cursors, topics: {} } });
    await until(() => second.messages.length >= again);
    assert.deepEqual(second.messages.map(({ content }) => content), numbers(again).map((n) => `new ${n}`));
  });
}

test("a wrong path and a wrong port are told as what they are", async () => {
  const client = (options) => connected({ connectAttempts: 2, ...options });
  await assert.rejects(client({ url: `${url}/somewhere/else` }), { code: "not_found" });
  await assert.rejects(client({ url: "http://127.0.0.1:1" }), { code: "unreachable" });
  // A page of another origin, with the header that a browser would send.
  class Foreign extends WebSocket {
    constructor(address, protocol) {
      super(address, protocol, { origin: "https://elsewhere.example" });
    }
  }
  await assert.rejects(client({ WebSocket: Foreign, connectAttempts: 1000 }), (error) => error.code === "forbidden" && /allowed_origins/.test(error.message));
});

test("refusals have their codes", async () => {
  const client = await connected();
  await assert.rejects(client.join("nobody-made-this"), { code: "not_found" });
  await assert.rejects(client.join("not a name"), { code: "bad_request" });
  await assert.rejects(connected({ token: "not.a.token" }), { code: "unauthorized" });
  assert.ok((await client.ping()) > 0);
});
