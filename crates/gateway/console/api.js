/** What operators ask of a node over HTTP, with this page's token. What people do goes through the client. */

/** Long enough for a slow node, short enough to ask another one before somebody wonders. */
const TIMEOUT_MS = 10_000;

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

  /** `origins` returns where nodes are; they are asked in turn until one answers. */
  constructor(token, origins) {
    this.#token = token;
    this.#origins = origins;
  }

  async nodes() {
    return (await this.#get("/v1/nodes?limit=100")).nodes;
  }

  async #get(path) {
    let failure;
    for (const origin of this.#origins()) {
      try {
        return await this.#ask(origin + path);
      } catch (error) {
        // A node that says no is a node: the others would say the same.
        if (error.status && error.status < 500) throw error;
        failure = error;
      }
    }
    throw failure;
  }

  async #ask(url) {
    const headers = { authorization: `Bearer ${this.#token}` };
    const response = await fetch(url, { headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    const text = await response.text();
    const body = text && response.headers.get("content-type")?.includes("json") ? JSON.parse(text) : {};
    if (!response.ok) throw new ApiError(response.status, body.error);
    return body;
  }
}
