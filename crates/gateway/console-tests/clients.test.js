/**
 * The programs of `docs/clients.md`, as they stand there: the Python ones in an environment of their own, those for browsers
 * in a real one, on a page of another origin. Against scripted nodes for what real ones do only by accident, and
 * against two real nodes. Needs what the console's tests need, and Python with `venv`.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, afterEach, before, test } from "node:test";
import { startNode } from "../../../clients/js/test/starling-process.js";
import { until } from "../../../clients/js/test/waiting.js";
import { startBrowser } from "./browser.js";

const WEBSOCKETS = "websockets==15.0.1";
const PAGE = readFileSync(new URL("../../../docs/clients.md", import.meta.url), "utf8");

// Uses the scripted nodes of the JavaScript client, with its `ws`.
const { MockCluster } = await import("../../../clients/js/test/mock-cluster.js");

let folder, python, browser, pages;
let running = [];
let cluster;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "starling-clients-"));
  execFileSync("python3", ["-m", "venv", join(folder, "venv")], { stdio: ["ignore", "ignore", "inherit"] });
  python = join(folder, "venv/bin/python");
  execFileSync(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", WEBSOCKETS], { stdio: ["ignore", "ignore", "inherit"] });
  for (const name of ["hello", "chat"]) writeFileSync(join(folder, `${name}.py`), program("python", name));
  pages = createServer((request, response) => {
    const name = /^\/(\w+)\.js$/.exec(request.url)?.[1];
    response.setHeader("content-type", name ? "text/javascript" : "text/html");
    response.end(name ? program("js", name) : "<!doctype html><title>a page of another origin</title>");
  }).listen(0, "127.0.0.1");
  await once(pages, "listening");
  browser = await startBrowser();
});

afterEach(async () => {
  for (const one of running) await one.stop();
  running = [];
  cluster?.close();
  cluster = undefined;
});

after(async () => {
  await browser?.close();
  pages?.close();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

/** Returns the fenced block with these two words. */
function program(language, name) {
  const text = PAGE.split(`\`\`\`${language} ${name}\n`)[1]?.split("\n```")[0];
  assert.ok(text, `docs/clients.md has no block ${language} ${name}`);
  return `${text}\n`;
}

/** Starts a Python program from the page. `lines` is its output, `say` types a line. */
function inPython(name, addresses, token, conversation) {
  const child = spawn(python, [join(folder, `${name}.py`), addresses.join(","), token, conversation], { stdio: ["pipe", "pipe", "pipe"] });
  const client = { lines: [], errors: "" };
  createInterface({ input: child.stdout }).on("line", (line) => client.lines.push(line));
  child.stderr.on("data", (data) => (client.errors += data));
  const exited = once(child, "exit");
  client.exited = exited;
  client.say = async (text) => child.stdin.write(`${text}\n`);
  client.stop = async () => {
    child.kill("SIGKILL");
    await exited;
  };
  running.push(client);
  return client;
}

/** Starts a program from the page in a browser. */
async function inBrowser(name, addresses, token, conversation) {
  const context = await browser.newContext();
  const page = await context.newPage();
  const client = { lines: [], errors: "" };
  page.on("pageerror", (error) => (client.errors += error.stack));
  await page.exposeFunction("show", (...what) => void client.lines.push(what.join(" ")));
  await page.goto(`http://127.0.0.1:${pages.address().port}/`);
  await page.evaluate(async ([name, addresses, token, conversation]) => {
    const module = await import(`/${name}.js`);
    if (name === "hello") return module.hello(addresses[0], token, conversation, window.show);
    window.client = new module.Client(addresses, token, window.show);
    window.client.run(conversation);
  }, [name, addresses, token, conversation]);
  client.say = (text) => page.evaluate(([conversation, text]) => window.client.send(conversation, text), [conversation, text]);
  client.stop = () => context.close();
  running.push(client);
  return client;
}

const socketAddress = ({ url }) => `${url.replace("http", "ws")}/v1/ws`;

for (const [where, start] of [["Python", inPython], ["a browser", inBrowser]]) {
  test(`twenty lines in ${where}: it joins, says hello and hears`, async () => {
    const [, node] = await scripted();
    cluster.append("lunch", "what was said before");
    const client = await start("hello", [socketAddress(node)], "t", "lunch");
    await until(() => client.lines.length >= 2, () => `two lines: ${client.lines} ${client.errors}`);
    cluster.append("lunch", "what is said later");
    await until(() => client.lines.length >= 3, "a third line");
    assert.deepEqual(client.lines, ["1 bob what was said before", "2 alice Hello", "3 bob what is said later"]);
  });

  test(`a client that lasts in ${where}: cut again and again, everything once, in order`, async () => {
    const [a, b] = await scripted();
    const client = await start("chat", [a, b].map(socketAddress), "t", "lunch");
    for (let round = 1; round <= 6; round++) {
      await client.say(`mine ${round}`);
      await until(() => texts("lunch").includes(`mine ${round}`), () => `${round} is committed: ${client.errors}`);
      for (const node of [a, b]) node.cut();
      cluster.append("lunch", `meanwhile ${round}`);
      await until(() => client.lines.length >= 2 * round, () => `round ${round} is shown: ${client.lines} ${client.errors}`);
    }
    assert.deepEqual(client.lines, shown("lunch"));
    assert.ok([...a.commands, ...b.commands].filter(({ op, resume }) => op === "connect" && resume).length >= 6);
  });

  test(`a client that lasts in ${where}: an answer that was lost is no second message`, async () => {
    const [a, b] = await scripted();
    let lost = 0;
    for (const node of [a, b]) {
      node.after = ({ op }, peer) => {
        if (op !== "send" || lost >= 3) return undefined;
        lost++;
        peer.socket.terminate();
        return "swallow";
      };
    }
    const client = await start("chat", [a, b].map(socketAddress), "t", "lunch");
    for (const text of ["one", "two", "three"]) await client.say(text);
    await until(() => client.lines.length >= 3, () => `three lines: ${client.errors}`);
    assert.deepEqual(texts("lunch"), ["one", "two", "three"]);
    assert.deepEqual(client.lines, shown("lunch"));
    assert.equal(lost, 3);
  });

  test(`a client that lasts in ${where}: refused for now, it tries again in order`, async () => {
    const [, b] = await scripted();
    let refusals = 0;
    b.before = ({ op }) => {
      if (!["send", "join", "connect"].includes(op) || ++refusals % 3 === 0) return undefined;
      return { error: { code: "rate_limited", message: "later", retry_after_ms: 5 } };
    };
    const client = await start("chat", [socketAddress(b)], "t", "lunch");
    for (const text of ["one", "two", "three"]) await client.say(text);
    await until(() => client.lines.length >= 3, () => `three lines: ${client.lines} ${client.errors}`);
    assert.deepEqual(texts("lunch"), ["one", "two", "three"]);
  });

  test(`a client that lasts in ${where}: a conversation that was made again is shown anew`, async () => {
    const [a, b] = await scripted();
    for (let n = 1; n <= 5; n++) cluster.append("lunch", `old ${n}`);
    const client = await start("chat", [a, b].map(socketAddress), "t", "lunch");
    await until(() => client.lines.length >= 5, () => `five lines: ${client.errors}`);
    cluster.delete("lunch", { silent: true });
    for (let n = 1; n <= 3; n++) cluster.append("lunch", `new ${n}`, { silent: true });
    for (const node of [a, b]) node.cut();
    await until(() => client.lines.length >= 9, () => `nine lines: ${client.lines} ${client.errors}`);
    assert.deepEqual(client.lines.slice(5), ["reset lunch", ...shown("lunch")]);
  });

  test(`a client that lasts in ${where}: it follows a drain, and joins again where the session is lost`, async () => {
    const [a, b] = await scripted();
    const client = await start("chat", [a, b].map(socketAddress), "t", "lunch");
    await until(() => a.commands.some(({ op }) => op === "join"), () => `joined: ${client.errors}`);
    a.drain(5);
    await until(() => b.commands.some(({ op }) => op === "connect"), "it went to the other node");
    cluster.refuseResume = true;
    cluster.append("lunch", "seen");
    await until(() => client.lines.length >= 1, "the message");
    for (const node of [a, b]) node.cut();
    cluster.append("lunch", "missed");
    await until(() => client.lines.length >= 2, () => `the message that was missed: ${client.errors}`);
    assert.deepEqual(client.lines, shown("lunch"));
  });

  test(`a client that lasts in ${where}: a session that is taken over is not fought for`, async () => {
    const [a] = await scripted();
    const client = await start("chat", [socketAddress(a)], "t", "lunch");
    await until(() => a.commands.some(({ op }) => op === "join"), () => `joined: ${client.errors}`);
    for (const peer of a.peers) peer.socket.close(4409);
    if (client.exited) await client.exited;
    else await until(() => client.lines.includes("closed 4409"), "it says so");
    assert.equal(a.commands.filter(({ op }) => op === "connect").length, 1);
  });

  test(`a client that lasts in ${where}: a token that is refused ends it`, async () => {
    const [a] = await scripted();
    a.before = ({ op }) => (op === "connect" ? { error: { code: "unauthorized", message: "the token has expired" }, close: 4401 } : undefined);
    const client = await start("chat", [socketAddress(a)], "t", "lunch");
    await until(() => client.lines.includes("refused the token has expired"), () => `it says so: ${client.errors}`);
    if (client.exited) assert.notEqual((await client.exited)[0], 0);
    else await until(() => client.lines.includes("closed 4401"), "it ends");
    assert.equal(a.commands.length, 1);
  });

  test(`a client that lasts in ${where}, on real nodes: one is killed while it talks`, async () => {
    const { STARLING_BIN: bin, REDIS_URL, DATABASE_URL } = process.env;
    assert.ok(bin && REDIS_URL && DATABASE_URL, "set STARLING_BIN, REDIS_URL and DATABASE_URL");
    const env = { REDIS_URL, DATABASE_URL, STARLING_LIMIT_USER_WRITES_PER_MINUTE: "0", STARLING_ALLOWED_ORIGINS: "*" };
    const nodes = [];
    for (const name of ["one", "two"]) {
      nodes.push(await startNode({ bin, name: `${name}-${process.pid}-${where.length}`, env }));
      running.push(nodes.at(-1));
    }
    const token = nodes[0].token("alice");
    const conversation = `clients-${Date.now()}-${where.length}`;
    const headers = { authorization: `Bearer ${token}` };
    await fetch(`${nodes[0].url}/v1/conversations`, { method: "POST", headers, body: JSON.stringify({ conversation }) });
    const client = await start("chat", nodes.map(socketAddress), token, conversation);
    let said = 0;
    for (; said < 10; said++) await client.say(`before ${said + 1}`);
    await until(() => client.lines.length >= 10, () => `ten lines: ${client.errors}`);
    await nodes[0].kill();
    for (; said < 20; said++) await client.say(`after ${said + 1}`);
    await until(() => client.lines.length >= 20, () => `twenty lines: ${client.lines.length} ${client.errors}`);
    assert.deepEqual(client.lines.map((line) => Number(line.split(" ")[0])), Array.from({ length: 20 }, (_, i) => i + 1));
    const response = await fetch(`${nodes[1].url}/v1/conversations/${conversation}/messages?after=0`, { headers });
    assert.equal((await response.json()).messages.length, 20);
  });
}

test("a client that lasts in Python: a line that is typed while it joins goes out once", async () => {
  // A slow socket, so that the line arrives between two commands.
  const driver = `
import asyncio, itertools, json
from chat import Client

class Socket:
    def __init__(self):
        self.ops = []

    async def send(self, text):
        await asyncio.sleep(0.01)
        self.ops.append(json.loads(text)["op"])

async def main():
    client = Client(["ws://nowhere"], "t", print)
    client.socket, client.asked, client.ids, client.seq = Socket(), {}, itertools.count(1), {"lunch": 0}
    answer = asyncio.create_task(client.on_reply("connect", {}, {"session": "s", "ticket": "t"}, None))
    await asyncio.sleep(0)
    await client.send("lunch", "in between")
    await answer
    print(*client.socket.ops)

asyncio.run(main())
`;
  assert.equal(execFileSync(python, ["-c", driver], { cwd: folder, encoding: "utf8" }).trim(), "join send");
});

async function scripted() {
  cluster = new MockCluster();
  return [await cluster.node("a"), await cluster.node("b")];
}

const texts = (name) => cluster.conversation(name).log.map(({ content }) => content);
const shown = (name) => cluster.conversation(name).log.map(({ seq, sender, content }) => `${seq} ${sender}: ${content}`);
