/** Helpers that wait for conditions instead of times. Missing the deadline is a failure. */

const DEADLINE_MS = 20_000;

export async function until(condition, what = condition.toString(), deadlineMs = DEADLINE_MS) {
  const end = performance.now() + deadlineMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > end) throw new Error(`not within ${deadlineMs} ms: ${typeof what === "function" ? what() : what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Resolves with the next `event` of the client that satisfies `wanted`. */
export function nextEvent(client, event, wanted = () => true) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no such event: ${event}`)), DEADLINE_MS);
    const off = client.on(event, (detail) => {
      if (!wanted(detail)) return;
      clearTimeout(timer);
      off();
      resolve(detail);
    });
  });
}
