/** HTTP requests of operators, with this page's token. Everything else uses the client. */

/** Long enough for a slow node, short enough to try another one before anybody notices. */
const TIMEOUT_MS = 10_000;
/** An action on many jobs goes on in the node, whether or not the page waits for its answer. */
const MANY_TIMEOUT_MS = 120_000;

export class ApiError extends Error {
  constructor(status, { code, message } = {}) {
    super(message ?? `HTTP ${status}`);
    this.status = status;
    this.code = code ?? "unavailable";
  }
}

export class Api {
  #token;
  #origins;

  /** `origins` returns the origins of nodes. They are tried one after another until one responds. */
  constructor(token, origins) {
    this.#token = token;
    this.#origins = origins;
  }

  async nodes() {
    return (await this.#get("/v1/nodes?limit=100")).nodes;
  }

  /** `{ queues, next }`. */
  queues() {
    return this.#get("/v1/queues?limit=200");
  }

  pauseQueue(queue, paused) {
    return this.#post(`/v1/queues/${part(queue)}/${paused ? "pause" : "resume"}`);
  }

  /** `{ jobs, next }`, without payloads. `filter`: `queue`, `state`, `kind`, each optional. */
  jobs(filter, cursor, limit) {
    return this.#get(`/v1/jobs?${query({ ...filter, brief: true, cursor, limit })}`);
  }

  /** `{ count, more }`. */
  countJobs(filter) {
    return this.#get(`/v1/jobs/count?${query(filter)}`);
  }

  job(id) {
    return this.#get(`/v1/jobs/${part(id)}`, ["payload", "result"]);
  }

  /** `action`: `retry`, `cancel` or `discard`. */
  actOnJob(action, id) {
    return this.#post(`/v1/jobs/${part(id)}/${action}`);
  }

  /** Acts on all jobs of a queue in a state, and of a kind if there is one. Returns their number. */
  async actOnJobs(action, { queue, state, kind }) {
    return (await this.#post(`/v1/jobs/${action}`, { queue, state, kind }, MANY_TIMEOUT_MS)).count;
  }

  /** `{ webhooks, next }`. */
  webhooks() {
    return this.#get("/v1/webhooks?limit=200");
  }

  webhook(id) {
    return this.#get(`/v1/webhooks/${part(id)}`);
  }

  pauseWebhook(id, paused) {
    return this.#call("PATCH", `/v1/webhooks/${part(id)}`, { body: { paused } });
  }

  testWebhook(id) {
    return this.#post(`/v1/webhooks/${part(id)}/test`);
  }

  /** `{ deliveries, next }`. */
  deliveries(webhook, cursor, limit) {
    return this.#get(`/v1/webhooks/${part(webhook)}/deliveries?${query({ cursor, limit })}`);
  }

  delivery(webhook, id) {
    return this.#get(`/v1/webhooks/${part(webhook)}/deliveries/${part(id)}`, ["body"]);
  }

  resend(webhook, id) {
    return this.#post(`/v1/webhooks/${part(webhook)}/deliveries/${part(id)}/resend`);
  }

  #get(path, exact) {
    return this.#call("GET", path, { exact });
  }

  #post(path, body = {}, timeoutMs = TIMEOUT_MS) {
    return this.#call("POST", path, { body, timeoutMs });
  }

  /** Every call may be repeated, so another node is asked if one does not respond. */
  async #call(method, path, options) {
    let failure;
    for (const origin of this.#origins()) {
      try {
        return await this.#ask(method, origin + path, options);
      } catch (error) {
        // A node that refuses is working; the other nodes would refuse too.
        if (error.status && error.status < 500) throw error;
        // A node that is slow to answer may still be doing it.
        if (error.name === "TimeoutError" && method !== "GET") throw error;
        failure = error;
      }
    }
    throw failure;
  }

  async #ask(method, url, { body, exact = [], timeoutMs = TIMEOUT_MS }) {
    const headers = { authorization: `Bearer ${this.#token}` };
    const content = body && { body: JSON.stringify(body), headers: { ...headers, "content-type": "application/json" } };
    const response = await fetch(url, { method, headers, ...content, cache: "no-store", signal: AbortSignal.timeout(timeoutMs) });
    const text = await response.text();
    const answer = text && response.headers.get("content-type")?.includes("json") ? JSON.parse(text) : {};
    if (!response.ok) throw new ApiError(response.status, answer.error);
    const present = exact.filter((field) => field in answer);
    if (present.length === 0) return answer;
    const asWritten = JSON.parse(text, keepDigits);
    return { ...answer, ...Object.fromEntries(present.map((field) => [field, asWritten[field]])) };
  }
}

/** Keeps numbers as they are written, such as ids with more digits than a number of JavaScript has. */
function keepDigits(_key, value, context) {
  const differs = typeof value === "number" && context?.source !== undefined && String(value) !== context.source;
  return differs && JSON.rawJSON ? JSON.rawJSON(context.source) : value;
}

const part = encodeURIComponent;

function query(fields) {
  return new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null && value !== ""));
}
