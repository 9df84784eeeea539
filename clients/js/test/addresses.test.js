/** Which address the client uses, and how `connect()` rejects if none of them is right. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { createServer as createTcpServer } from "node:net";
import { beforeEach, test } from "node:test";
import { ops, scripted } from "./scripted.js";
import { nextEvent, until } from "./waiting.js";

const stage = scripted();
const { newClient, connected } = stage;
let cluster, a, b;
beforeEach(() => ({ cluster, a, b } = stage));

/** Returns an address at which nobody listens. */
async function deadUrl() {
  const server = createTcpServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return `http://127.0.0.1:${port}`;
}

test("a wrong port: connect rejects with the cause after some attempts", async () => {
  const url = await deadUrl();
  const client = newClient({ urls: [url], connectAttempts: 3 });
  const error = nextEvent(client, "error");
  await assert.rejects(client.connect(), (failure) => failure.code === "unreachable" && failure.message.includes(new URL(url).host));
  assert.equal((await error).code, "unreachable");
  assert.equal(client.state, "closed");
  assert.equal(client.states.filter(({ attempt }) => attempt).length, 2);
});

test("nobody has to wait on connect: its rejection is an event as well", async () => {
  const client = newClient({ urls: [await deadUrl()], connectAttempts: 1 });
  client.connect();
  assert.equal((await nextEvent(client, "error")).code, "unreachable");
});

test("connect can be tried again after it was rejected", async () => {
  const client = newClient({ urls: [await deadUrl()], connectAttempts: 1 });
  await assert.rejects(client.connect(), { code: "unreachable" });
  client.urls = [a.url];
  await client.connect();
  assert.equal(client.node, "a");
});

for (const [status, code] of [[404, "not_found"], [403, "forbidden"], [401, "unauthorized"], [400, "unreachable"], [426, "unreachable"]]) {
  test(`an upgrade answered with ${status} is fatal, at once`, async () => {
    a.refuseUpgrade = status;
    const client = newClient({ urls: [a.url], connectAttempts: 1000 });
    await assert.rejects(client.connect(), (error) => error.code === code && error.message.includes(`${new URL(a.url).host}`));
  });
}

test("another web server is no node", async (t) => {
  const server = createServer((_, response) => response.end("<h1>hello</h1>")).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  // Without the platform's error message, as in a browser.
  const client = newClient({ urls: [`http://127.0.0.1:${server.address().port}`], WebSocket: silentSocket(stage), connectAttempts: 1000 });
  await assert.rejects(client.connect(), (error) => error.code === "not_found" && /no node of Starling/.test(error.message));
});

test("a node that answers HTTP and opens no WebSocket: the words name the origin and the proxy", async () => {
  a.refuseUpgrade = 403;
  const client = newClient({ urls: [a.url], WebSocket: silentSocket(stage), connectAttempts: 2 });
  await assert.rejects(client.connect(), (error) => error.code === "unreachable" && /proxy.*allowed_origins/.test(error.message));
});

test("a redirect is named: WebSockets do not follow any", async () => {
  a.http = () => ({ status: 308, headers: { location: b.url } });
  a.refuseUpgrade = 308;
  const client = newClient({ urls: [a.url], WebSocket: silentSocket(stage), connectAttempts: 1000 });
  await assert.rejects(client.connect(), (error) => error.code === "unreachable" || error.code === "not_found");
});

test("an answer that asks to wait is no failure, however often", async () => {
  a.refuseUpgrade = 503;
  const client = newClient({ urls: [a.url], connectAttempts: 2, backoffMaxMs: 10 });
  const opened = client.connect();
  await until(() => client.states.length > 6);
  a.refuseUpgrade = 0;
  await opened;
  assert.equal(client.node, "a");
});

test("a wrong address beside a right one is passed over", async () => {
  a.refuseUpgrade = 404;
  const client = newClient();
  await client.connect();
  assert.equal(client.node, "b");
});

test("a server that takes the socket and never answers ends in a rejection", async () => {
  a.before = b.before = () => "swallow";
  const client = newClient({ dialTimeoutMs: 30, connectAttempts: 2 });
  await assert.rejects(client.connect(), { code: "unreachable" });
});

test("once connected it comes back for as long as it takes", async () => {
  const client = await connected({ connectAttempts: 1 });
  a.refuseUpgrade = b.refuseUpgrade = 404;
  client.cut();
  await until(() => client.states.filter(({ attempt }) => attempt > 4).length > 0);
  a.refuseUpgrade = b.refuseUpgrade = 0;
  await until(() => client.state === "connected");
});

test("a node that dies is left for the next address, and addresses may be learned later", async () => {
  const client = await connected({ urls: [a.url] });
  await client.join("c");
  client.urls = [a.url, b.url];
  assert.equal(client.urls.length, 2);
  a.kill();
  cluster.append("c", "meanwhile");
  await until(() => client.messages.length === 1);
  assert.equal(client.node, "b");
  assert.equal(ops(b, "connect")[0].resume.cursors.c.seq, 0);
});

test("what is no address is refused where it is given", () => {
  for (const urls of [[], [""], ["ftp://host"], ["http://"]]) assert.throws(() => newClient({ urls }), { code: "bad_request" });
  assert.throws(() => (newClient().urls = []), { code: "bad_request" });
});

/** WebSocket that fails without a reason, as in browsers. */
function silentSocket() {
  return class {
    constructor() {
      setTimeout(() => {
        this.onerror?.({});
        this.onclose?.({ code: 1006, reason: "" });
      }, 5);
    }
    close() {}
  };
}
