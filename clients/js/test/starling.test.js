import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { StarlingError } from "../starling.js";
import { numbers, ops, scripted } from "./scripted.js";
import { nextEvent, until } from "./waiting.js";

const stage = scripted();
const { newClient, connected } = stage;
let cluster, a, b;
beforeEach(() => ({ cluster, a, b } = stage));

test("repeats are dropped, swaps are put in order", async () => {
  const client = await connected();
  await client.join("c");
  for (let i = 0; i < 4; i++) cluster.append("c", `${i}`, { silent: true });
  const [one, two, three, four] = cluster.conversation("c").log;
  const [peer] = a.peers;
  a.before = ({ op }) => (op === "history" ? "swallow" : undefined);
  for (const message of [one, one, three, two, one, two, four, three, four]) peer.say({ ev: "message", ...message });
  await until(() => client.messages.length >= 4);
  await client.ping(); // everything sent before has arrived before this reply
  assert.deepEqual(client.messages, [1, 2, 3, 4]);
});

test("a page of history that costs the link is asked for shorter and shorter", async () => {
  for (const [limit, limits] of [[200, [200, 100, 50, 25]], [undefined, [undefined, 25, 12]], [3, [3, 1, 1]]]) {
    const commands = [];
    for (const node of [a, b]) {
      node.before = (frame, peer) => {
        if (frame.op !== "history" || commands.push(frame) === limits.length) return undefined;
        peer.socket.terminate();
        return "swallow";
      };
    }
    const client = await connected();
    await client.history("c", { after: 0, limit });
    assert.deepEqual(commands.map(({ limit }) => limit), limits);
    assert.ok(commands.every(({ conversation, after }) => conversation === "c" && after === 0));
    client.close();
  }
});

test("a hole is filled by shorter pages where long ones do not come in time", async () => {
  const client = await connected({ requestTimeoutMs: 100, holeRetryMs: 1 });
  await client.join("c");
  a.before = ({ op, limit }) => (op === "history" && limit > 50 ? "swallow" : undefined);
  for (let i = 0; i < 120; i++) cluster.append("c", `${i}`, { silent: true });
  cluster.append("c", "the one that is seen");
  await until(() => client.messages.length >= 121);
  assert.deepEqual(client.messages, numbers(121));
  assert.deepEqual(ops(a, "history").map(({ limit }) => limit), [200, 100, 50, 100, 50, 100, 50]);
});

test("a hole is filled from history before what follows is delivered", async () => {
  const client = await connected();
  await client.join("c");
  for (let i = 0; i < 450; i++) cluster.append("c", `${i}`, { silent: true });
  cluster.append("c", "the one that is seen");
  await until(() => client.messages.length >= 451);
  assert.deepEqual(client.messages, numbers(451));
  assert.deepEqual(ops(a, "history").map(({ after }) => after), [0, 200, 400]);
});

test("a hole that nobody can fill is told, and the flow goes on", async () => {
  const client = await connected({ holeRetryMs: 1 });
  await client.join("c");
  a.before = ({ op, id }, peer) => {
    if (op !== "history") return undefined;
    peer.say({ id, ok: { messages: [], more: false } });
    return "swallow";
  };
  const told = nextEvent(client, "error", ({ code }) => code === "gap");
  cluster.append("c", "lost", { silent: true });
  cluster.append("c", "seen");
  assert.match((await told).message, /c: 1 to 1/);
  assert.deepEqual(client.messages, [2]);
});

test("a send whose reply was lost is repeated with its key and is one message", async () => {
  const client = await connected();
  await client.join("c");
  a.after = ({ op }, peer) => {
    if (op !== "send") return undefined;
    peer.socket.terminate();
    return "swallow";
  };
  const ok = await client.send("c", "hello");
  assert.equal(ok.duplicate, true);
  assert.equal(ok.seq, 1);
  assert.equal(ops(a, "send")[0].key, ops(b, "send")[0].key);
  await until(() => client.messages.length > 0);
  assert.deepEqual(client.messages, [1]);
  assert.equal(cluster.conversation("c").log.length, 1);
});

test("refused sends are tried again and keep their order", async () => {
  const client = await connected();
  let refusals = 0;
  a.before = ({ op }) => {
    if (op !== "send" || refusals >= 5) return undefined;
    const code = refusals++ % 2 ? "unavailable" : "rate_limited";
    return { error: { code, message: "later", retry_after_ms: 5 } };
  };
  const results = await Promise.all(numbers(20).map((n) => client.send("c", `${n}`)));
  assert.deepEqual(results.map(({ seq }) => seq), numbers(20));
  assert.deepEqual(cluster.conversation("c").log.map(({ content }) => content), numbers(20).map(String));
  assert.equal(refusals, 5);
});

test("a send that is refused for good says why, and the next one goes out", async () => {
  const client = await connected();
  a.before = ({ op, content }) => (content === "bad" ? { error: { code: "forbidden", message: "no" } } : undefined);
  const bad = client.send("c", "bad");
  const good = client.send("c", "good");
  await assert.rejects(bad, (error) => error instanceof StarlingError && error.code === "forbidden");
  assert.equal((await good).seq, 1);
});

test("after a cut it resumes elsewhere with its cursors and misses nothing", async () => {
  const client = await connected();
  await client.join("c");
  cluster.append("c", "before");
  await until(() => client.messages.length === 1);
  client.cut(20);
  for (let i = 0; i < 5; i++) cluster.append("c", `meanwhile ${i}`);
  const state = await nextEvent(client, "state", ({ state }) => state === "connected");
  assert.deepEqual([state.node, state.resumed, state.replayed, state.handover], ["b", true, 5, false]);
  await until(() => client.messages.length === 6);
  assert.deepEqual(client.messages, numbers(6));
  assert.deepEqual(ops(b, "connect")[0].resume.cursors, { c: { seq: 1, log: "log1" } });
  assert.deepEqual(client.states.map(({ state }) => state), ["connecting", "connected", "reconnecting", "connected"]);
});

test("where the session is lost it joins again at its cursor and subscribes again", async () => {
  const client = await connected();
  await client.join("c");
  await client.subscribe("t");
  cluster.append("c", "before");
  await until(() => client.messages.length === 1);
  cluster.refuseResume = true;
  const gap = nextEvent(client, "gap");
  a.kill();
  for (let i = 0; i < 3; i++) cluster.append("c", `meanwhile ${i}`);
  await until(() => client.messages.length === 4);
  cluster.append("c", "live");
  await until(() => client.messages.length === 5);
  assert.deepEqual(client.messages, numbers(5));
  assert.equal(ops(b, "join")[0].after, 1);
  assert.deepEqual(ops(b, "subscribe")[0].since, { epoch: "e1", offset: 7 });
  assert.deepEqual(await gap, { topic: "t" });
});

for (const [what, conversations, topics] of [
  ["more than a resume may name", 1200, 10],
  ["names too long for one frame", 300, 700],
]) {
  test(`a session with ${what} goes on whole`, async () => {
    const client = await connected({ outboxLimit: 5000 });
    const long = (name) => name.padEnd(100, "x");
    const rooms = numbers(conversations).map((n) => long(`c${n}-`));
    const subjects = numbers(topics).map((n) => long(`t${n}-`));
    // Nodes return positions of this length.
    a.before = ({ op, id }, peer) => {
      if (op !== "subscribe") return undefined;
      peer.say({ id, ok: { epoch: "17a9c3f04be2", offset: 1234567, recovered: false, replayed: 0 } });
      return "swallow";
    };
    await Promise.all([...rooms.map((name) => client.join(name)), ...subjects.map((name) => client.subscribe(name))]);
    client.cut(20);
    for (const name of rooms) cluster.append(name, "meanwhile");
    await until(() => client.messages.length >= conversations);
    for (const name of rooms) cluster.append(name, "live");
    await until(() => client.messages.length >= 2 * conversations);
    assert.equal(client.messages.length, 2 * conversations);
    const { cursors, topics: named } = ops(b, "connect")[0].resume;
    const again = [...ops(b, "join"), ...ops(b, "subscribe")].length;
    assert.equal(Object.keys(cursors).length + Object.keys(named).length + again, conversations + topics);
    assert.ok(again < conversations, "only what did not fit is asked for again");
    assert.deepEqual([client.joined.length, Object.keys(client.snapshot().topics).length], [conversations, topics]);
  });
}

test("what is left while it waits to be joined again stays left", async () => {
  const client = await connected({ outboxLimit: 5000 });
  const rooms = numbers(1100).map((n) => `c${n}`);
  await Promise.all(rooms.map((name) => client.join(name)));
  const session = cluster.sessions.get(client.session);
  cluster.refuseResume = true;
  client.cut();
  await nextEvent(client, "state", ({ state }) => state === "connected");
  await client.leave("c1100");
  await until(() => ops(b, "join").length === 1100 && ops(b, "leave").length >= 2);
  await client.ping();
  const again = cluster.sessions.get(client.session);
  assert.notEqual(again, session);
  assert.deepEqual([again.joined.size, client.joined.length, client.joined.includes("c1100")], [1099, 1099, false]);
});

test("what is truncated is paged from the log, oldest first", async () => {
  cluster.replayLimit = 10;
  for (let i = 0; i < 500; i++) cluster.append("c", `${i}`);
  const client = await connected();
  const truncated = nextEvent(client, "truncated");
  await client.join("c", { after: 3 });
  assert.deepEqual(await truncated, { conversation: "c", from: 4, to: 490, skipped: false });
  await until(() => client.messages.length >= 497);
  assert.deepEqual(client.messages, numbers(500, 4));
});

test("what is truncated is skipped if so wished", async () => {
  cluster.replayLimit = 10;
  for (let i = 0; i < 500; i++) cluster.append("c", `${i}`);
  const client = await connected({ catchUp: "skip" });
  await client.join("c", { after: 3 });
  await until(() => client.messages.length >= 10);
  assert.deepEqual(client.messages, numbers(500, 491));
  assert.equal(ops(a, "history").length, 0);
});

test("a drain hands over to another node: nobody notices, nothing is lost or doubled", async () => {
  const client = await connected();
  await client.join("c");
  const sent = [];
  let going = true;
  const flood = (async () => {
    while (going) sent.push((await client.send("c", "x")).seq);
  })();
  await until(() => client.messages.length > 20);
  a.drain(5);
  await until(() => client.node === "b");
  const before = client.messages.length;
  await until(() => client.messages.length > before + 20);
  going = false;
  await flood;
  await until(() => client.messages.length === sent.length && a.peers.size === 0);
  assert.deepEqual(sent, numbers(sent.length));
  assert.deepEqual(client.messages, numbers(sent.length));
  assert.deepEqual(client.states.map(({ state }) => state), ["connecting", "connected", "connected"]);
  assert.equal(client.states.at(-1).handover, true);
});

test("during a drain a reply on the old socket counts, an event there does not", async () => {
  const client = await connected();
  await client.join("c");
  const [old] = a.peers;
  let held;
  a.before = (frame) => (frame.op === "history" ? ((held = frame), "swallow") : undefined);
  const history = client.history("c");
  await until(() => held);
  b.before = (frame, peer) => {
    if (frame.op !== "connect") return undefined;
    // The new node is slow; meanwhile the old one still delivers events and replies.
    cluster.append("c", "on the old socket");
    old.say({ id: held.id, ok: { messages: [], more: false, from: "the old socket" } });
    return undefined;
  };
  a.drain();
  assert.equal((await history).from, "the old socket");
  await until(() => client.node === "b" && client.messages.length === 1);
  assert.deepEqual(client.messages, [1]);
  assert.equal(ops(b, "connect")[0].resume.cursors.c.seq, 0);
});

test("a drain whose other nodes are not there is served by the old socket until they are", async () => {
  const late = new URL(b.url).port;
  b.kill();
  const client = await connected({ urls: [a.url, `http://127.0.0.1:${late}`] });
  await client.join("c");
  a.drain();
  cluster.append("c", "still served");
  await until(() => client.messages.length === 1);
  assert.equal(client.state, "connected");
  // The client tries its addresses one after another, so it ends up at the only node.
  await until(() => ops(a, "connect").length === 2);
  await until(() => client.states.at(-1).handover === true);
  assert.deepEqual(client.states.map(({ state }) => state), ["connecting", "connected", "connected"]);
});

for (const [code, name] of [[4409, "replaced"], [4410, "ended"], [4400, "protocol"]]) {
  test(`close ${code} is final`, async () => {
    const client = await connected();
    const error = nextEvent(client, "error");
    for (const peer of a.peers) peer.socket.close(code);
    assert.equal((await error).code, name);
    assert.equal(client.state, "closed");
    await assert.rejects(client.send("c", "x"), { code: "closed" });
    assert.equal(a.commands.length + b.commands.length, 1);
  });
}

test("a refused token is asked for once more, then it ends", async () => {
  let asked = 0;
  const refuse = ({ op }) => (op === "connect" ? { error: { code: "unauthorized", message: "expired" }, close: 4401 } : undefined);
  a.before = b.before = refuse;
  await assert.rejects(newClient({ token: async () => `token ${++asked}` }).connect(), { code: "unauthorized" });
  assert.equal(asked, 2);
  await assert.rejects(newClient({ token: "fixed" }).connect(), { code: "unauthorized" });
  assert.equal(ops(a, "connect").length + ops(b, "connect").length, 3);
});

test("a node that refuses for now is asked again after the time it names", async () => {
  let refusals = 0;
  a.before = b.before = ({ op }) => {
    if (op !== "connect" || refusals++ >= 2) return undefined;
    return { error: { code: "unavailable", message: "later", retry_after_ms: 20 } };
  };
  await connected();
  assert.equal(refusals, 3);
});

test("a socket that fell silent is found dead and replaced", async () => {
  cluster.heartbeatMs = 40;
  const client = await connected();
  a.before = () => "swallow";
  await until(() => client.node === "b");
  assert.equal(ops(a, "ping").length, 1);
  assert.equal(client.states.at(-1).resumed, true);
});

test("a quiet but living socket is kept", async () => {
  // Long enough for a machine that stalls for a moment between a ping and its pong.
  cluster.heartbeatMs = 400;
  const client = await connected();
  await until(() => ops(a, "ping").length >= 3);
  assert.equal(client.states.length, 2);
});

test("nodes that are down are passed over", async () => {
  a.kill();
  const client = await connected();
  assert.equal(client.node, "b");
});

test("the outbox is bounded, and a deadline ends the waiting", async () => {
  const client = newClient({ outboxLimit: 3, sendTimeoutMs: 30 });
  const sends = [1, 2, 3].map((n) => client.send("c", `${n}`));
  await assert.rejects(client.send("c", "4"), { code: "overflow" });
  for (const send of sends) await assert.rejects(send, { code: "timeout" });
});

test("close rejects what is unsettled; connect starts afresh and goes on at the cursors", async () => {
  const client = await connected();
  await client.join("c");
  a.before = ({ op }) => (op === "send" ? "swallow" : undefined);
  const send = client.send("c", "x");
  client.close();
  await assert.rejects(send, { code: "closed" });
  cluster.append("c", "meanwhile");
  await client.connect();
  await until(() => client.messages.length === 1);
  assert.deepEqual(client.messages, [1]);
});

test("a frame that the node would hang up on is refused here", async () => {
  const client = await connected();
  await assert.rejects(client.send("c", "\u0001".repeat(30_000)), { code: "too_large" });
  assert.equal(ops(a, "send").length, 0);
});

test("a publication is not repeated once it may have arrived", async () => {
  const client = await connected();
  a.before = (frame, peer) => (frame.op === "publish" ? (peer.socket.terminate(), "swallow") : undefined);
  await assert.rejects(client.publish("t", 1), { code: "disconnected" });
  await until(() => client.node === "b");
  assert.equal(ops(b, "publish").length, 0);
  assert.equal((await client.publish("t", 2)).offset, 8);
});

test("a snapshot lets another client go on, as after a page reload", async () => {
  const first = await connected();
  await first.join("c");
  cluster.append("c", "seen");
  await until(() => first.messages.length === 1);
  const snapshot = JSON.parse(JSON.stringify(first.snapshot()));
  first.close();
  cluster.append("c", "not seen");
  const second = await connected({ resume: snapshot });
  assert.equal(second.states.at(-1).resumed, true);
  await until(() => second.messages.length === 1);
  assert.deepEqual(second.messages, [2]);
  assert.deepEqual(second.joined, ["c"]);
});

test("what was left while away is left on the node too", async () => {
  const client = await connected();
  await client.join("c");
  client.cut(10);
  const left = client.leave("c");
  await left;
  cluster.append("c", "not for us");
  await client.ping();
  assert.deepEqual(client.messages, []);
  assert.equal([...cluster.sessions.values()][0].joined.size, 0);
});

test("a join that was under way when left does not come back", async () => {
  const client = await connected();
  const join = client.join("c");
  await client.leave("c");
  await join;
  assert.deepEqual(client.joined, []);
});

test("a listener that throws stops nobody else", async (t) => {
  t.mock.method(console, "error", () => {});
  const client = newClient();
  const seen = [];
  client.on("message", () => {
    throw new Error("a mistake of the program");
  });
  client.on("message", ({ seq }) => seen.push(seq));
  await client.connect();
  await client.join("c");
  cluster.append("c", "1");
  cluster.append("c", "2");
  await until(() => seen.length === 2);
  assert.equal(console.error.mock.callCount(), 2);
});
