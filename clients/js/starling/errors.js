/** Error of every rejection of this client. `code` is stable (the README lists the codes); `message` is for people. */
export class StarlingError extends Error {
  constructor(code, message, retryAfterMs) {
    super(message || code);
    this.name = "StarlingError";
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Whether the node accepted nothing and the command can be retried later. */
export function isRefusedForNow({ code }) {
  return code === "unavailable" || code === "rate_limited";
}

/** Ignores errors that only mean that the moment has passed. */
export function ignoreTransient(error) {
  if (!["disconnected", "rate_limited", "unavailable", "timeout", "closed"].includes(error.code)) throw error;
}
