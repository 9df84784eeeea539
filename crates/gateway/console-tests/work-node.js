/** A node of its own for the pages of queues, jobs and webhooks, with the calls of backends and workers. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { startNode } from "../../../clients/js/test/starling-process.js";
import { Person, startBrowser } from "./browser.js";

export const ADMIN = "admin conversations:create subscribe:* publish:*";

export class Work {
  #node;
  #browser;
  #token;
  #people = [];

  static async start() {
    const work = new Work();
    const env = { STARLING_WEBHOOK_ALLOWED_NETWORKS: "127.0.0.0/8", STARLING_LIMIT_USER_WRITES_PER_MINUTE: "0" };
    [work.#node, work.#browser] = await Promise.all([startNode({ bin: process.env.STARLING_BIN, name: "worker", env }), startBrowser()]);
    work.#token = work.#node.token("backend", ADMIN);
    return work;
  }

  async stop() {
    await this.#browser?.close();
    await this.#node?.stop();
  }

  /** Kills the node at once. */
  kill() {
    return this.#node.kill();
  }

  /** Opens the page at a view, such as `#/queues`. */
  async open(view, { scope = ADMIN, user = "ops", ...options } = {}) {
    const person = await Person.open(this.#browser, this.#node.url, this.#node.token(user, scope), options);
    this.#people.push(person);
    await person.connected();
    await person.page.evaluate((hash) => (location.hash = hash), view);
    return person;
  }

  /** Closes all pages. Nothing may have gone wrong in them. */
  async closePages() {
    const faults = this.#people.flatMap((person) => person.faults);
    await Promise.all(this.#people.map((person) => person.close()));
    this.#people = [];
    assert.deepEqual(faults, []);
  }

  async call(method, path, body) {
    const response = await fetch(this.#node.url + path, {
      method,
      headers: { authorization: `Bearer ${this.#token}`, ...(body && { "content-type": "application/json" }) },
      body: body && (typeof body === "string" ? body : JSON.stringify(body)),
    });
    assert.ok(response.ok, `${method} ${path}: ${response.status}`);
    const text = await response.text();
    return text ? JSON.parse(text) : undefined;
  }

  /** Sets the limits of a queue. */
  async limit(queue, limits) {
    const headers = { authorization: `Bearer ${this.#node.token("operator", "operate")}`, "content-type": "application/json" };
    const response = await fetch(`${this.#node.url}/v1/queues/${queue}/limits`, { method: "PUT", headers, body: JSON.stringify(limits) });
    assert.ok(response.ok, `${response.status}`);
  }

  /** Adds a job with further fields, and returns its id. */
  async add(queue, fields = {}) {
    return (await this.call("POST", "/v1/jobs", { queue, payload: { n: 1 }, ...fields })).job;
  }

  /** Takes one job, which may have to become ready first. */
  async take(queue) {
    const { jobs } = await this.call("POST", `/v1/queues/${queue}/take`, { wait_seconds: 30, worker: "a-worker" });
    assert.equal(jobs.length, 1, queue);
    return jobs[0];
  }

  async done(taken, result) {
    await this.call("POST", `/v1/jobs/${taken.job}/done`, { lease: taken.lease, result });
  }

  async fail(taken, error, retry = true) {
    await this.call("POST", `/v1/jobs/${taken.job}/fail`, { lease: taken.lease, error, retry });
  }

  /** Adds jobs that have failed for good. */
  async addFailed(queue, count, fields = {}) {
    for (let number = 0; number < count; number++) {
      await this.add(queue, fields);
      await this.fail(await this.take(queue), "it does not work", false);
    }
  }
}

/** A backend with the answer that `answer` says at the time. `received` has the bodies of its requests. */
export async function startBackend() {
  const backend = { answer: { status: 204, body: "" }, received: [] };
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const part of request) text += part;
    backend.received.push(JSON.parse(text));
    response.writeHead(backend.answer.status, { "content-type": "text/html" });
    response.end(backend.answer.body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  backend.url = `http://127.0.0.1:${server.address().port}`;
  backend.stop = () => (server.closeAllConnections(), server.close());
  return backend;
}
