import { httpBase } from "./addresses.js";
import { StarlingError, isRefusedForNow } from "./errors.js";
import { TIMER_MS_MAX, pause } from "./waiting.js";

/** First pause after a failure. It doubles with each further failure. */
const PAUSE_MS = 200;
const PAUSE_MS_MAX = 5000;
/** Statuses of proxies that cannot reach a node for the moment. */
const NO_NODE = new Set([502, 503, 504]);

/**
 * Calls that nodes only accept over HTTP. All of them can be repeated without harm. A call that reached no node or
 * was refused for the moment is repeated at the next address until it times out.
 */
export class Http {
  #addresses;
  #tokens;
  #fetch;
  #clock;
  #timeoutMs;
  #stopped = new AbortController();

  constructor({ addresses, tokens, fetch, clock, timeoutMs }) {
    this.#addresses = addresses;
    this.#tokens = tokens;
    this.#fetch = fetch;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Resolves with the object in the response. `parts` are the unescaped segments of the path, `query` the parameters;
   * undefined and null parameters are left out. `removes`: if a repeat does not find the thing, an earlier try has removed it.
   */
  async call(method, parts, { query = {}, body, removes = false } = {}) {
    if (!this.#fetch) throw new StarlingError("bad_request", "this platform has no fetch: pass one as the option `fetch`");
    const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
    const search = given.length ? `?${new URLSearchParams(given)}` : "";
    const path = `/v1/${parts.map(encodeURIComponent).join("/")}${search}`;
    const bases = [this.#addresses.current, ...this.#addresses.all].map(httpBase);
    const candidates = [...new Set(bases)];
    const deadline = performance.now() + this.#timeoutMs;
    const stopped = this.#stopped.signal;
    const stopIfClosed = () => {
      if (stopped.aborted) throw new StarlingError("closed", "the client was closed");
    };
    let askedTokenAgain = false;
    let uncertain = false; // an earlier try may have been carried out
    for (let attempt = 0; ; attempt++) {
      stopIfClosed();
      let error;
      const token = await this.#tokens.get();
      stopIfClosed();
      try {
        return await this.#once(method, candidates[attempt % candidates.length] + path, token, body, deadline);
      } catch (failure) {
        error = failure;
      }
      stopIfClosed();
      if (error.code === "not_found" && removes && uncertain) return {};
      if (error.code === "unauthorized" && this.#tokens.renewable && !askedTokenAgain) {
        askedTokenAgain = true;
        this.#tokens.refused(token);
        continue;
      }
      const unreached = error.code === "unreachable";
      if (!unreached && !isRefusedForNow(error)) throw error;
      uncertain ||= unreached || error.code === "unavailable";
      // Tries the other addresses at once, and pauses after each round.
      const roundOver = (attempt + 1) % candidates.length === 0;
      const round = Math.floor(attempt / candidates.length);
      const backoffMs = Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** round) * (0.5 + Math.random() / 2);
      const pauseMs = unreached && !roundOver ? 0 : Math.max(error.retryAfterMs ?? 0, backoffMs);
      if (performance.now() + pauseMs >= deadline) throw error;
      await pause(pauseMs);
    }
  }

  /** Ends all calls in progress. */
  stop() {
    this.#stopped.abort();
    this.#stopped = new AbortController();
  }

  async #once(method, url, token, body, deadline) {
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(), Math.min(TIMER_MS_MAX, Math.max(1, deadline - performance.now())));
    const abort = () => timeout.abort();
    this.#stopped.signal.addEventListener("abort", abort, { once: true });
    let response, text;
    try {
      response = await this.#fetch(url, {
        method,
        headers: { authorization: `Bearer ${token}`, ...(body && { "content-type": "application/json" }) },
        body: body && JSON.stringify(body),
        cache: "no-store",
        credentials: "omit",
        signal: timeout.signal,
      });
      text = await response.text();
    } catch (error) {
      throw new StarlingError("unreachable", `${new URL(url).host} could not be reached: ${error.cause?.message || error.message}`);
    } finally {
      clearTimeout(timer);
      this.#stopped.signal.removeEventListener("abort", abort);
    }
    this.#clock.isAtLeast(response.headers.get("date"));
    const answer = parsed(text);
    if (response.ok && answer) return answer;
    if (answer?.error?.code) throw new StarlingError(answer.error.code, answer.error.message, answer.error.retry_after_ms);
    // Not the response of a node, but of a proxy that has lost its node, or of something else.
    const code = NO_NODE.has(response.status) ? "unreachable" : "internal";
    throw new StarlingError(code, `${new URL(url).host} responded with HTTP ${response.status}, which is not the response of a node`);
  }
}

/** Parses a body: an empty object for an empty body, undefined for anything that is not an object. */
function parsed(text) {
  if (text === "") return {};
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}
