/** Cursors belong to a log: how the client handles conversations that were created again under the same name, or changed. */
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { numbers, ops, scripted } from "./scripted.js";
import { nextEvent, until } from "./waiting.js";

const stage = scripted();
const { newClient, connected, saw } = stage;
let cluster, a, b;
beforeEach(() => ({ cluster, a, b } = stage));

const say = (count, from = 1) => numbers(from + count - 1, from).forEach((n) => cluster.append("c", `${n}`));

/** Returns a client that has seen `count` messages of the conversation `c`. */
async function reader(count, options) {
  const client = await connected(options);
  await client.join("c");
  say(count);
  await until(() => client.messages.length === count);
  client.seen.length = client.messages.length = 0;
  return client;
}

test("a resume and a join name the log that their number is of", async () => {
  const client = await reader(3);
  const { id } = cluster.conversation("c");
  client.cut();
  await nextEvent(client, "state", ({ state }) => state === "connected");
  assert.deepEqual(ops(b, "connect")[0].resume.cursors, { c: { seq: 3, log: id } });
  await client.join("c");
  const { after, log } = ops(b, "join")[0];
  assert.deepEqual([after, log], [3, id]);
});

test("a conversation made again while away: reset is told first, then all of the new log", async () => {
  const client = await reader(100);
  client.cut(20);
  cluster.delete("c", { silent: true });
  say(60);
  await until(() => client.messages.length >= 60);
  say(5, 61);
  await until(() => client.messages.length >= 65);
  const { id } = cluster.conversation("c");
  assert.deepEqual(client.seen[0], ["reset", { conversation: "c", log: id }]);
  assert.deepEqual(client.messages, numbers(65));
  assert.equal(saw(client, "reset").length, 1);
  assert.deepEqual(client.snapshot().cursors, { c: { seq: 65, log: id } });
});

test("a new log that is longer than the old one is noticed too", async () => {
  const client = await reader(3);
  client.cut(20);
  cluster.delete("c", { silent: true });
  say(50);
  await until(() => client.messages.length >= 50);
  assert.deepEqual(client.messages, numbers(50));
  assert.equal(client.seen[0][0], "reset");
});

test("where the session is lost as well, the join notices it", async () => {
  const client = await reader(100);
  cluster.refuseResume = true;
  client.cut(20);
  cluster.delete("c", { silent: true });
  say(60);
  await until(() => client.messages.length >= 60);
  assert.deepEqual(client.messages, numbers(60));
  assert.equal(client.seen[0][0], "reset");
  assert.deepEqual(ops(b, "join").map(({ after }) => after), [100]);
});

test("a join with a number and log of before is reset", async () => {
  say(10);
  const { id } = cluster.conversation("c");
  cluster.delete("c");
  say(4);
  const client = await connected();
  const ok = await client.join("c", { after: 10, log: id });
  assert.equal(ok.reset, true);
  await until(() => client.messages.length >= 4);
  assert.deepEqual(client.messages, numbers(4));
});

test("a new log longer than a replay is paged from its beginning", async () => {
  cluster.replayLimit = 10;
  const client = await reader(100);
  client.cut(20);
  cluster.delete("c", { silent: true });
  say(500);
  await until(() => client.messages.length >= 500);
  assert.deepEqual(client.messages, numbers(500));
  assert.deepEqual(saw(client, "truncated"), [{ conversation: "c", from: 1, to: 490, skipped: false }]);
});

test("a page of the old log that arrives after the reset shows nothing", async () => {
  const client = await connected();
  await client.join("c");
  const [peer] = a.peers;
  let held;
  a.before = (frame) => (frame.op === "history" ? ((held ??= frame), "swallow") : undefined);
  const old = numbers(4).map((n) => cluster.append("c", `old ${n}`, { silent: true }).message);
  peer.say({ ev: "message", ...old[3] });
  await until(() => held);
  cluster.delete("c", { silent: true });
  cluster.append("c", "new", { silent: true });
  await client.join("c");
  peer.say({ id: held.id, ok: { messages: old, more: false } });
  await client.ping();
  assert.deepEqual(client.messages, [1]);
  assert.deepEqual(saw(client, "reset").length, 1);
});

test("deleted is told before member, and the conversation is left by it", async () => {
  const client = await reader(2);
  const { id } = cluster.conversation("c");
  cluster.delete("c");
  await until(() => saw(client, "member").length === 1);
  assert.deepEqual(client.seen.map(([event]) => event), ["deleted", "member"]);
  assert.deepEqual(saw(client, "deleted"), [{ ev: "deleted", conversation: "c", log: id }]);
  assert.deepEqual(client.joined, []);
});

test("a late word of the old one's deletion does not touch the new one", async () => {
  const client = await reader(2);
  const [peer] = a.peers;
  peer.say({ ev: "deleted", conversation: "c", log: "another" });
  await client.ping();
  assert.deepEqual([client.joined, saw(client, "deleted")], [["c"], []]);
});

test("a change of the title is told", async () => {
  const client = await reader(1);
  const [peer] = a.peers;
  peer.say({ ev: "updated", conversation: "c", title: "New", metadata: { colour: "red" } });
  await until(() => saw(client, "updated").length === 1);
  assert.equal(saw(client, "updated")[0].title, "New");
});

test("a node's event with the name of one of the client's own is ignored", async () => {
  const client = await reader(1);
  const [peer] = a.peers;
  const states = client.states.length;
  for (const ev of ["state", "error", "reset", "gone", "retry", "truncated", "gap"]) peer.say({ ev, conversation: "c", state: "closed" });
  await client.ping();
  assert.deepEqual([client.states.length, client.seen, client.state], [states, [], "connected"]);
});

test("a snapshot keeps the log; one of before, with a plain number, still works", async () => {
  const first = await reader(3);
  const snapshot = JSON.parse(JSON.stringify(first.snapshot()));
  first.close();
  cluster.delete("c", { silent: true });
  say(2);
  const second = await connected({ resume: snapshot });
  await until(() => second.messages.length >= 2);
  assert.deepEqual([second.messages, second.seen[0][0]], [[1, 2], "reset"]);
  second.close();
  const third = await connected({ resume: { ...second.snapshot(), cursors: { c: 1 } } });
  await until(() => third.messages.length >= 1);
  assert.deepEqual([third.messages, saw(third, "reset")], [[2], []]);
});

test("a node of the version before, which takes numbers only, is resumed at with numbers", async () => {
  const client = await reader(3);
  const old = ({ op, resume }) => {
    if (op !== "connect" || Object.values(resume?.cursors ?? {}).every((cursor) => typeof cursor === "number")) return undefined;
    return { error: { code: "bad_request", message: "`cursors` must hold integers" } };
  };
  a.before = b.before = old;
  client.cut(10);
  say(2, 4);
  await until(() => client.messages.length === 2);
  assert.deepEqual(client.messages, [4, 5]);
  assert.equal(client.states.at(-1).resumed, true);
});

test("once a second socket has said connect, events on the first are ignored, also of the log", async () => {
  const client = await reader(2);
  const [old] = a.peers;
  const { id } = cluster.conversation("c");
  b.before = (frame) => {
    if (frame.op !== "connect") return undefined;
    old.say({ ev: "deleted", conversation: "c", log: id });
    old.say({ ev: "member", conversation: "c", user: "alice", member: false });
    return undefined;
  };
  a.drain();
  await until(() => client.node === "b");
  await client.ping();
  assert.deepEqual([client.joined, saw(client, "deleted")], [["c"], []]);
});
