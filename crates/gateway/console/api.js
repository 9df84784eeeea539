/** HTTP requests of operators, with this page's token. Everything else uses the client. */

/** Long enough for a slow node, short enough to try another one before anybody notices. */
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

  /** `origins` returns the origins of nodes. They are tried one after another until one responds. */
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
        // A node that refuses is working; the other nodes would refuse too.
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
