/**
 * The client against the real thing. Either STARLING_BIN names the program, and a node with SQLite is started in a
 * temporary folder, or STARLING_URL and STARLING_TOKEN name a node that runs.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import WebSocket from "ws";
import { Starling } from "../starling.js";
import { startNode } from "./starling-process.js";
import { nextEvent, until } from "./waiting.js";

let url, token, node;
const clients = [];
const name = `client-test-${Date.now()}`;

before(async () => {
  const { STARLING_BIN, STARLING_URL, STARLING_TOKEN } = process.env;
  if (STARLING_BIN) {
    node = await startNode({ bin: STARLING_BIN, name: "js-client-test", env: { STARLING_LIMIT_USER_WRITES_PER_MINUTE: "0" } });
    url = node.url;
    token = node.token("alice");
  } else {
    assert.ok(STARLING_URL && STARLING_TOKEN, "set STARLING_BIN, or STARLING_URL and STARLING_TOKEN");
    url = STARLING_URL;
    token = STARLING_TOKEN;
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

test("refusals have their codes", async () => {
  const client = await connected();
  await assert.rejects(client.join("nobody-made-this"), { code: "not_found" });
  await assert.rejects(client.join("not a name"), { code: "bad_request" });
  await assert.rejects(connected({ token: "not.a.token" }), { code: "unauthorized" });
  assert.ok((await client.ping()) > 0);
});
