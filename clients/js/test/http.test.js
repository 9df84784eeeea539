/** Calls over HTTP. */
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { deferred, pause } from "../starling/waiting.js";
import { scripted } from "./scripted.js";
import { until } from "./waiting.js";

const stage = scripted();
const { connected, newClient, saw } = stage;
let a, b, asked;
beforeEach(() => {
  ({ a, b } = stage);
  asked = [];
  a.http = answering("a", () => ({ status: 204 }));
  b.http = answering("b", () => ({ status: 204 }));
});

/** Records requests and responds with the result of `answer`. */
function answering(node, answer) {
  return (request) => {
    asked.push({ node, method: request.method, url: request.url, text: request.text, token: request.headers.authorization });
    return answer(request);
  };
}

const calls = () => asked.map(({ method, url }) => `${method} ${url}`);

test("each method makes its call", async () => {
  const client = await connected();
  await client.list({ limit: 20, cursor: "x y" });
  await client.describe("a:b@c");
  await client.update("c", { title: "New", metadata: null });
  await client.rename("c", "Newer");
  await client.addMember("c", "bob");
  await client.removeMember("c", "bob");
  await client.delete("c");
  assert.deepEqual(calls(), [
    "GET /v1/conversations?limit=20&cursor=x+y".replace("limit=20&cursor=x+y", "cursor=x+y&limit=20"),
    "GET /v1/conversations/a%3Ab%40c",
    "PATCH /v1/conversations/c",
    "PATCH /v1/conversations/c",
    "PUT /v1/conversations/c/members/bob",
    "DELETE /v1/conversations/c/members/bob",
    "DELETE /v1/conversations/c",
  ]);
  assert.deepEqual(asked.slice(2, 4).map(({ text }) => JSON.parse(text)), [{ title: "New", metadata: null }, { title: "Newer" }]);
  assert.ok(asked.every(({ token }) => token === "Bearer t"));
});

test("create takes members", async () => {
  const client = await connected();
  await client.create({ conversation: "c", title: "T", members: ["bob", "carol"] });
  assert.deepEqual(a.commands.at(-1).members, ["bob", "carol"]);
});

test("leaving for good ends the membership too", async () => {
  const client = await connected();
  await client.join("c");
  await client.leave("c", { forGood: true });
  assert.deepEqual([calls(), client.joined], [["DELETE /v1/conversations/c/members/alice"], []]);
});

test("an error of the node's rejects with its code, at once", async () => {
  const client = await connected();
  a.http = answering("a", () => ({ status: 403, body: { error: { code: "forbidden", message: "only the owner" } } }));
  await assert.rejects(client.rename("c", "x"), { code: "forbidden", message: "only the owner" });
  assert.equal(asked.length, 1);
});

test("a node that is gone is passed over, and a refusal for the moment is waited out", async () => {
  const client = newClient();
  let refusals = 0;
  b.http = answering("b", () => {
    if (refusals++ < 2) return { status: 503, body: { error: { code: "unavailable", message: "later", retry_after_ms: 1 } } };
    return { status: 200, body: { conversations: [], next: null } };
  });
  a.kill();
  assert.deepEqual(await client.list(), { conversations: [], next: null });
  assert.equal(refusals, 3);
});

test("a removal that was carried out and lost its answer is a removal", async () => {
  const client = newClient({ urls: [b.url] });
  let first = true;
  b.http = answering("b", () => {
    if (!first) return { status: 404, body: { error: { code: "not_found", message: "no such member" } } };
    first = false;
    return { status: 502 };
  });
  await client.removeMember("c", "bob");
  assert.equal(asked.length, 2);
  await assert.rejects(client.removeMember("c", "bob"), { code: "not_found" });
});

test("a refused token is renewed once", async () => {
  let n = 0;
  const client = newClient({ urls: [a.url], token: () => `token${++n}` });
  a.http = answering("a", ({ headers }) =>
    headers.authorization === "Bearer token2" ? { status: 204 } : { status: 401, body: { error: { code: "unauthorized", message: "expired" } } });
  await client.addMember("c", "bob");
  assert.deepEqual(asked.map(({ token }) => token), ["Bearer token1", "Bearer token2"]);
});

test("what answers without being a node is named", async () => {
  const client = newClient({ urls: [a.url] });
  a.http = answering("a", () => ({ status: 418 }));
  await assert.rejects(client.list(), (error) => error.code === "internal" && /HTTP 418/.test(error.message));
});

test("a call ends when its time is up, and when the client is closed", async () => {
  const dead = newClient({ urls: [a.url], requestTimeoutMs: 300 });
  a.http = answering("a", () => ({ status: 502 }));
  await assert.rejects(dead.list(), { code: "unreachable" });
  const closed = newClient({ urls: [a.url] });
  asked = [];
  const call = closed.list();
  await until(() => asked.length > 0);
  const before = asked.length;
  closed.close();
  await assert.rejects(call, { code: "closed" });
  assert.equal(asked.length, before);
});

test("a call that pauses, or waits for a token, when the client is closed is not made again", async () => {
  let requests = 0;
  const fetch = async () => {
    requests++;
    return new Response(null, { status: 502 });
  };
  const pausing = newClient({ urls: [a.url], fetch });
  const call = pausing.list();
  await until(() => requests > 0);
  await pause(20); // the response has been read by now, and the pause is at least 100 ms
  const before = requests;
  pausing.close();
  await assert.rejects(call, { code: "closed" });
  assert.equal(requests, before);
  const token = deferred();
  const waiting = newClient({ urls: [a.url], fetch, token: () => token.promise });
  const another = waiting.list();
  await pause(20);
  waiting.close();
  token.resolve("t");
  await assert.rejects(another, { code: "closed" });
  assert.equal(requests, before);
});

test("a refusal for the moment is told with the message's key and the time", async () => {
  const client = await connected();
  let refusals = 0;
  a.before = ({ op }) => (op === "send" && refusals++ < 1 ? { error: { code: "rate_limited", message: "slower", retry_after_ms: 50 } } : undefined);
  const before = Date.now();
  const { key } = await client.send("c", "x");
  const [retry] = saw(client, "retry");
  assert.deepEqual([retry.op, retry.code, retry.message, retry.conversation, retry.key], ["send", "rate_limited", "slower", "c", key]);
  assert.ok(retry.pauseMs >= 50 && retry.at >= before + 50);
});

test("a node that names a short time for ever is asked less and less often", async () => {
  const client = await connected();
  a.before = ({ op }) => (op === "join" ? { error: { code: "rate_limited", message: "slower", retry_after_ms: 1 } } : undefined);
  const join = client.join("c");
  join.catch(() => {});
  await until(() => saw(client, "retry").length >= 5);
  const pauses = saw(client, "retry").map(({ pauseMs }) => pauseMs);
  assert.ok(pauses[4] > 8 * pauses[0] && pauses[4] >= 400, `${pauses}`);
});
