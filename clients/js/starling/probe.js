import { StarlingError } from "./errors.js";

/** How long the question may take. */
const TIMEOUT_MS = 5000;

/**
 * Says why a WebSocket did not open. Browsers keep that to themselves, so the same address is asked by HTTP, without a
 * token: a node answers 426 there, and anything else tells what is wrong.
 *
 * The answer: `error`, with a code to go by and words for people; `final`: trying again can't help; `patient`: the node
 * asked to wait, which is no failure.
 */
export async function explain(url, trouble, fetch) {
  const host = new URL(url).host;
  // Outside of browsers the platform says what the upgrade was answered with.
  const status = Number(/\b(?:response|code)\D{0,3}(\d{3})\b/.exec(trouble)?.[1]);
  if (status) return ofUpgrade(host, status);
  if (!fetch) return because("unreachable", `${host} can't be reached${trouble && `: ${trouble}`}`);
  const address = url.replace(/^ws/, "http");
  try {
    const response = await ask(fetch, address, {});
    if (response.type === "opaqueredirect") {
      return because("unreachable", `${host} leads to another address: use that one`, { final: true });
    }
    return ofQuestion(host, response);
  } catch (error) {
    if (await isThere(fetch, address)) {
      const origin = globalThis.location.origin;
      return because("forbidden", `${host} answers, but not to this page: add ${origin} to \`allowed_origins\` of the nodes, unless it is no node`);
    }
    const reason = trouble || error.cause?.message || "";
    return because("unreachable", `nothing answers at ${host}${reason && `: ${reason}`}`);
  }
}

/** What an upgrade was answered with. */
function ofUpgrade(host, status) {
  if (status === 403) return because("forbidden", `${host} does not allow this origin: add it to \`allowed_origins\` of the nodes`, { final: true });
  if (status === 426) return because("unreachable", `what stands before ${host} does not pass WebSockets on (HTTP 426)`, { final: true });
  return ofStatus(host, status);
}

/** What the same address answers to a plain question. */
function ofQuestion(host, response) {
  const { status } = response;
  if (status === 426) {
    return because("unreachable", `${host} answers, but opens no WebSocket: a proxy does not pass it on, or the origin is not allowed (\`allowed_origins\`)`);
  }
  if (status < 400) return because("not_found", `what answers at ${host} is no node of Starling (HTTP ${status})`, { final: true });
  const seconds = Number(response.headers.get("retry-after"));
  return ofStatus(host, status, seconds > 0 ? seconds * 1000 : undefined);
}

function ofStatus(host, status, retryAfterMs) {
  switch (status) {
    case 401:
      return because("unauthorized", `${host} wants other credentials first (HTTP 401)`, { final: true });
    case 403:
      return because("forbidden", `${host} refuses (HTTP 403)`, { final: true });
    case 404:
      return because("not_found", `there is no node of Starling at this path of ${host} (HTTP 404)`, { final: true });
    case 429:
    case 503:
      return because(status === 429 ? "rate_limited" : "unavailable", `${host} asks to wait (HTTP ${status})`, { patient: true, retryAfterMs });
    default:
      return because("unreachable", `${host} answers with HTTP ${status}`, { final: status >= 400 && status < 500 });
  }
}

function because(code, message, { final = false, patient = false, retryAfterMs } = {}) {
  return { error: new StarlingError(code, message, retryAfterMs), final, patient };
}

/** Whether anything answers that only does not want to be read by this page. Outside of browsers everything can be read. */
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
