/** Formatting of times for people. */

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });

export const clockTime = (at) => clock.format(new Date(at));

export const isSameDay = (one, other) => new Date(one).toDateString() === new Date(other).toDateString();

export function dayName(at) {
  const now = new Date();
  if (isSameDay(at, now)) return "Today";
  if (isSameDay(at, now.getTime() - 86_400_000)) return "Yesterday";
  return day.format(new Date(at));
}

/** "2 min. ago". */
export function ago(at, now = Date.now()) {
  const seconds = Math.round((Date.parse(at) - now) / 1000);
  if (seconds > -10) return "just now";
  for (const [unit, size] of [["day", 86_400], ["hour", 3600], ["minute", 60]]) {
    if (-seconds >= size) return relative.format(Math.trunc(seconds / size), unit);
  }
  return relative.format(seconds, "second");
}

/** "3.1 s" or "240 ms". */
export function duration(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return ms >= 10 ? `${Math.round(ms)} ms` : `${ms.toFixed(1)} ms`;
}
