/** The node's HTTP side, with this page's token. */

export class ApiError extends Error {
  constructor(status, { code, message } = {}) {
    super(message ?? `HTTP ${status}`);
    this.status = status;
    this.code = code ?? "unavailable";
  }
}

export class Api {
  #token;

  constructor(token) {
    this.#token = token;
  }

  /** Newest activity first; `next` is the cursor of the following page, or null. */
  conversations(cursor) {
    const query = new URLSearchParams({ limit: "30", ...(cursor && { cursor }) });
    return this.#call("GET", `/v1/conversations?${query}`);
  }

  conversation(name) {
    return this.#call("GET", `/v1/conversations/${encodeURIComponent(name)}`);
  }

  invite(name, user) {
    return this.#call("PUT", `/v1/conversations/${encodeURIComponent(name)}/members/${encodeURIComponent(user)}`);
  }

  async nodes() {
    return (await this.#call("GET", "/v1/nodes?limit=100")).nodes;
  }

  async #call(method, path) {
    const response = await fetch(path, { method, headers: { authorization: `Bearer ${this.#token}` }, cache: "no-store" });
    const text = await response.text();
    const body = text && response.headers.get("content-type")?.includes("json") ? JSON.parse(text) : {};
    if (!response.ok) throw new ApiError(response.status, body.error);
    return body;
  }
}
