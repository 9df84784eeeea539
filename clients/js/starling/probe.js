import { StarlingError } from "./errors.js";

/** Timeout of the HTTP request. */
const TIMEOUT_MS = 5000;

/**
 * Finds out why a WebSocket did not open. Browsers do not tell, so this requests the same address over HTTP, without a
 * token. A node responds with 426; any other response shows what is wrong.
 *
 * Returns `error`, with a code for programs and a message for people; `final`: trying again cannot help; `patient`: the node
 * asked the client to wait, which is not a failure.
 */
export async function explain(url, trouble, fetch) {
  const host = new URL(url).host;
  // Outside of browsers the platform reports the status of the response.
  const status = Number(/\b(?:response|code)\D{0,3}(\d{3})\b/.exec(trouble)?.[1]);
  if (status) return ofUpgrade(host, status);
  if (!fetch) return because("unreachable", `${host} can't be reached${trouble && `: ${trouble}`}`);
  const address = url.replace(/^ws/, "http");
  try {
    const response = await ask(fetch, address, {});
    if (response.type === "opaqueredirect") {
      return because("unreachable", `${host} redirects to another address: use that one`, { final: true });
    }
    return ofQuestion(host, response);
  } catch (error) {
    if (await isThere(fetch, address)) {
      const origin = globalThis.location.origin;
      return because("forbidden", `${host} responds, but not to this page: if it is a node, add ${origin} to its setting \`allowed_origins\``);
    }
    const reason = trouble || error.cause?.message || "";
    return because("unreachable", `nothing responds at ${host}${reason && `: ${reason}`}`);
  }
}

/** Explains the status of a refused upgrade. */
function ofUpgrade(host, status) {
  if (status === 403) return because("forbidden", `${host} does not allow this origin: add it to the setting \`allowed_origins\` of the nodes`, { final: true });
  if (status === 426) return because("unreachable", `a proxy in front of ${host} does not pass WebSockets on (HTTP 426)`, { final: true });
  return ofStatus(host, status);
}

/** Explains the response of the same address to a plain HTTP request. */
function ofQuestion(host, response) {
  const { status } = response;
  if (status === 426) {
    return because("unreachable", `${host} responds, but opens no WebSocket: a proxy does not pass it on, or the origin is not allowed (\`allowed_origins\`)`);
  }
  if (status < 400) return because("not_found", `the server at ${host} is no node of Starling (HTTP ${status})`, { final: true });
  const seconds = Number(response.headers.get("retry-after"));
  return ofStatus(host, status, seconds > 0 ? seconds * 1000 : undefined);
}

function ofStatus(host, status, retryAfterMs) {
  switch (status) {
    case 401:
      return because("unauthorized", `${host} requires other credentials first (HTTP 401)`, { final: true });
    case 403:
      return because("forbidden", `${host} refuses the request (HTTP 403)`, { final: true });
    case 404:
      return because("not_found", `there is no node of Starling at this path of ${host} (HTTP 404)`, { final: true });
    case 429:
    case 503:
      return because(status === 429 ? "rate_limited" : "unavailable", `${host} asks the client to wait (HTTP ${status})`, { patient: true, retryAfterMs });
    default:
      return because("unreachable", `${host} responds with HTTP ${status}`, { final: status >= 400 && status < 500 });
  }
}

function because(code, message, { final = false, patient = false, retryAfterMs } = {}) {
  return { error: new StarlingError(code, message, retryAfterMs), final, patient };
}

/** Whether a server responds but does not let this page read the response. Outside of browsers every response can be read. */
async function isThere(fetch, address) {
  if (!globalThis.location?.origin || new URL(address).origin === globalThis.location.origin) return false;
  return ask(fetch, address, { mode: "no-cors" }).then(() => true, () => false);
}

async function ask(fetch, address, options) {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), TIMEOUT_MS);
  try {
    const redirect = options.mode === "no-cors" ? "follow" : "manual";
    return await fetch(address, { cache: "no-store", credentials: "omit", redirect, signal: limit.signal, ...options });
  } finally {
    clearTimeout(timer);
  }
}
