/** Every rejection of this client: `code` is stable (the README lists them), `message` is for people. */
export class StarlingError extends Error {
  constructor(code, message, retryAfterMs) {
    super(message || code);
    this.name = "StarlingError";
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Whether the node accepted nothing and asks for patience. */
export function isRefusedForNow({ code }) {
  return code === "unavailable" || code === "rate_limited";
}

/** Swallows what only means that the moment has passed. */
export function ignoreTransient(error) {
  if (!["disconnected", "rate_limited", "unavailable", "timeout", "closed"].includes(error.code)) throw error;
}
