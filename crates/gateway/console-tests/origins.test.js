/**
 * Pages of other origins in a real browser: one that the operator lists, and one that the operator does not.
 * Needs STARLING_BIN (the program) and a Chromium.
 */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { once } from "node:events";
import { startNode } from "../../../clients/js/test/starling-process.js";
import { startBrowser } from "./browser.js";

const SCOPE = "conversations:create subscribe:* publish:*";

let browser, node;
const sites = [];

/** Serves an empty page on its own port. */
async function startSite() {
  const server = createServer((_, response) => {
    response.setHeader("content-type", "text/html");
    response.end("<!doctype html><title>a page of another origin</title>");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  sites.push(server);
  return `http://127.0.0.1:${server.address().port}`;
}

async function open(url) {
  const page = await (await browser.newContext()).newPage();
  await page.goto(url);
  return page;
}

let listed, unlisted;

before(async () => {
  [listed, unlisted] = [await startSite(), await startSite()];
  const env = { STARLING_ALLOWED_ORIGINS: `https://app.example,${listed}` };
  [browser, node] = await Promise.all([startBrowser(), startNode({ bin: process.env.STARLING_BIN, name: "origins", env })]);
});

after(async () => {
  await browser?.close();
  for (const site of sites) site.close();
  await node?.stop();
});

test("a listed page loads the client, talks, and calls over HTTP", async () => {
  const page = await open(listed);
  const told = await page.evaluate(async ({ url, token }) => {
    const { Starling } = await import(`${url}/starling.js`);
    const starling = new Starling({ url, token });
    await starling.connect();
    await starling.create({ conversation: "tea" });
    const { seq } = await starling.send("tea", "hello");
    const call = async (method, path, body) => {
      const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
      const answer = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
      return { status: answer.status, body: answer.status === 204 ? null : await answer.json() };
    };
    const added = await call("PUT", "/v1/conversations/tea/members/bob");
    const renamed = await call("PATCH", "/v1/conversations/tea", { title: "Tea" });
    const posted = await call("POST", "/v1/conversations/tea/messages", { key: "k", content: "by HTTP" });
    const list = await call("GET", "/v1/conversations");
    const missing = await call("GET", "/v1/conversations/none");
    const removed = await call("DELETE", "/v1/conversations/tea/members/bob");
    const bad = await fetch(`${url}/v1/conversations`, { headers: { authorization: "Bearer nonsense" } });
    const answer = await fetch(`${url}/health`);
    const date = answer.headers.get("date");
    const health = await answer.json();
    starling.close();
    return { seq, added, renamed, posted, list, missing, removed, health, date, bad: { status: bad.status, body: await bad.json() } };
  }, { url: node.url, token: node.token("ann", SCOPE) });
  assert.equal(told.seq, 1);
  assert.deepEqual(told.added.body.members, ["ann", "bob"]);
  assert.equal(told.renamed.body.title, "Tea");
  assert.equal(told.posted.status, 201);
  assert.equal(told.list.body.conversations[0].conversation, "tea");
  assert.deepEqual([told.missing.status, told.missing.body.error.code], [404, "not_found"]);
  assert.equal(told.removed.status, 204);
  assert.deepEqual([told.bad.status, told.bad.body.error.code], [401, "unauthorized"]);
  assert.equal(told.health.status, "ok");
  assert.ok(Math.abs(Date.parse(told.date) - Date.now()) < 60_000, `the node's time: ${told.date}`);
});

test("a page that is not listed can neither connect nor read an answer, and the log says what to do", async () => {
  const page = await open(unlisted);
  const told = await page.evaluate(async ({ url, token }) => {
    const read = (path, headers) => fetch(url + path, { headers }).then(({ status }) => status, () => "refused");
    const socket = new WebSocket(`${url.replace("http", "ws")}/v1/ws`);
    const opened = new Promise((resolve) => {
      socket.onopen = () => resolve("open");
      socket.onerror = () => resolve("refused");
    });
    return {
      simple: await read("/health"),
      call: await read("/v1/conversations", { authorization: `Bearer ${token}` }),
      module: await import(`${url}/starling.js`).then(() => "loaded", () => "refused"),
      socket: await opened,
    };
  }, { url: node.url, token: node.token("ann", SCOPE) });
  assert.deepEqual(told, { simple: "refused", call: "refused", module: "refused", socket: "refused" });
  const lines = node.log().split("\n").filter((line) => line.includes(unlisted) && line.includes("allowed_origins"));
  assert.equal(lines.length, 1, node.log());
});
