/** `setTimeout` overflows above this many milliseconds. */
export const TIMER_MS_MAX = 2 ** 31 - 1;

export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export function deferred() {
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
}
