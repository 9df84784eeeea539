/** Tokens are renewed in time, whatever this machine's clock says, and never requested in a storm. */
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { ops, scripted } from "./scripted.js";
import { until } from "./waiting.js";

const stage = scripted();
const { connected, newClient } = stage;
let cluster, a, b;
beforeEach(() => ({ cluster, a, b } = stage));

const HOUR_MS = 3_600_000;
const realNow = Date.now;

/** Returns a JWT with the claims that the client reads: valid for `lifeMs` from now, by the issuer's clock. */
let made = 0;
function jwt(lifeMs, { iat = true } = {}) {
  const now = realNow() / 1000;
  const claims = { sub: "alice", n: ++made, exp: now + lifeMs / 1000, ...(iat && { iat: now }) };
  return `e30.${btoa(JSON.stringify(claims))}.x`;
}

/** Sets this machine's clock wrong for the rest of the test. The nodes' clock stays right. */
function clockIsWrong(t, byMs) {
  const sources = { date: globalThis.Date };
  globalThis.Date = class extends sources.date {
    constructor(...all) {
      super(...(all.length ? all : [realNow() + byMs]));
    }
    static now() {
      return realNow() + byMs;
    }
  };
  t.after(() => (globalThis.Date = sources.date));
  cluster.now = () => realNow();
}

/** Returns a token function that counts its calls. */
function counted(make) {
  const ask = () => {
    ask.count++;
    return make();
  };
  ask.count = 0;
  return ask;
}

const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

test("a new token is shown before the old one ends", async () => {
  cluster.tokenLifeMs = 400;
  const token = counted(() => jwt(400));
  const client = await connected({ token });
  await until(() => ops(a, "refresh").length >= 1);
  assert.notEqual(ops(a, "refresh")[0].token, ops(a, "connect")[0].token);
  assert.equal(client.states.length, 2);
});

for (const [what, byMs] of [["fast by a day", 24 * HOUR_MS], ["fast by more than a token's life", 1.1 * HOUR_MS], ["slow by a day", -24 * HOUR_MS]]) {
  for (const iat of [true, false]) {
    test(`a clock that is ${what} makes no storm of token requests (${iat ? "with" : "without"} iat)`, async (t) => {
      clockIsWrong(t, byMs);
      cluster.tokenLifeMs = HOUR_MS;
      const token = counted(() => jwt(HOUR_MS, { iat }));
      const begun = performance.now();
      const client = await connected({ token, tokenIntervalMs: 100 });
      await rest(800);
      // Without any information on the time: at 100, 300 and 700 ms; the pauses double.
      const doubled = 1 + Math.log2((performance.now() - begun) / 100 + 1);
      assert.ok(token.count <= (iat || byMs < 0 ? 1 : doubled), `${token.count} requests`);
      assert.equal(client.state, "connected");
    });
  }
}

test("what a node says of the time counts more than the machine's clock", async (t) => {
  clockIsWrong(t, 24 * HOUR_MS);
  cluster.tokenLifeMs = 600;
  const token = counted(() => jwt(600, { iat: false }));
  const client = await connected({ token, tokenIntervalMs: 50 });
  await client.join("c");
  const first = token.count;
  await client.send("c", "the reply has the time");
  await client.refresh();
  const refreshes = ops(a, "refresh").length;
  await until(() => ops(a, "refresh").length > refreshes);
  assert.ok(token.count >= first + 2);
  assert.equal(client.states.length, 2, "the connection was never lost");
});

test("a token whose end was missed since the clock is slow teaches the time", async (t) => {
  clockIsWrong(t, -24 * HOUR_MS);
  cluster.tokenLifeMs = 500;
  const token = counted(() => jwt(500, { iat: false }));
  const client = await connected({ token, tokenIntervalMs: 20 });
  for (const peer of a.peers) setTimeout(() => peer.socket.close(4401), 500);
  await until(() => client.node === "b");
  await until(() => ops(b, "refresh").length >= 2);
  assert.equal(client.node, "b");
});

test("coming back again and again uses the token that still holds", async () => {
  cluster.tokenLifeMs = HOUR_MS;
  const token = counted(() => jwt(HOUR_MS));
  const client = await connected({ token });
  for (let round = 0; round < 10; round++) {
    client.cut();
    await until(() => client.state === "connected");
  }
  assert.equal(token.count, 1);
});

test("a refused token is asked for once more, then it ends", async () => {
  const token = counted(() => jwt(HOUR_MS));
  a.before = b.before = ({ op }) => (op === "connect" ? { error: { code: "unauthorized", message: "expired" }, close: 4401 } : undefined);
  await assert.rejects(newClient({ token }).connect(), { code: "unauthorized" });
  assert.equal(token.count, 2);
});

test("however often a token is refused, the requests keep their distance", async () => {
  cluster.tokenLifeMs = HOUR_MS;
  const token = counted(() => jwt(HOUR_MS));
  const client = await connected({ token, tokenIntervalMs: 200 });
  const end = performance.now() + 1000;
  const refusals = (async () => {
    while (performance.now() < end) {
      // Only connected clients: two refusals in a row would end the client.
      if (client.state === "connected") for (const node of [a, b]) for (const peer of node.peers) peer.socket.close(4401);
      await rest(5);
    }
  })();
  await refusals;
  const elapsed = performance.now() - end + 1000;
  assert.ok(token.count <= 3 + elapsed / 200 + 1, `${token.count} requests`);
  await until(() => client.state === "connected");
});

test("a token function that fails while connected is asked again, later each time", async () => {
  cluster.tokenLifeMs = 300;
  let fail = false;
  const token = counted(() => {
    if (fail) throw new Error("the backend is away");
    return jwt(300);
  });
  const client = await connected({ token, tokenIntervalMs: 30 });
  fail = true;
  await until(() => client.seen.some(([event, error]) => event === "error" && /backend is away/.test(error.message)));
  fail = false;
  await until(() => ops(a, "refresh").length >= 1);
  assert.equal(client.state, "connected");
});

test("a token function that never answers ends as a failure, not in silence", async () => {
  const client = newClient({ token: () => new Promise(() => {}), requestTimeoutMs: 20, connectAttempts: 2 });
  await assert.rejects(client.connect(), (error) => error.code === "unauthorized" && /20 ms/.test(error.message));
});
