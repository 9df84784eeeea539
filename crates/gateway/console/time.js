/** Formatting of times for people. */

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
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

/** "in 5 min."; "now" for what is past. */
export function ahead(at, now = Date.now()) {
  const seconds = Math.round((Date.parse(at) - now) / 1000);
  if (seconds < 1) return "now";
  for (const [unit, size] of [["day", 86_400], ["hour", 3600], ["minute", 60]]) {
    if (seconds >= size) return relative.format(Math.trunc(seconds / size), unit);
  }
  return relative.format(seconds, "second");
}

/** How long something lasted or lasts: "240 ms", "3.1 s", "50 s", "4 min 20 s", "2 h 5 min", "3 d 4 h". */
export function lasting(ms) {
  if (ms <= 0) return "0 s";
  if (ms < 10_000) return duration(ms);
  if (ms < 60_000) return `${Math.floor(ms / 1000)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${Math.floor((ms % 60_000) / 1000)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** The same in one unit, where there is little room: "840 ms", "4.3 min", "1.2 h". */
export function briefly(ms) {
  for (const [unit, size] of [["d", 86_400_000], ["h", 3_600_000], ["min", 60_000]]) {
    if (ms >= size) return `${ms < 10 * size ? (ms / size).toFixed(1) : Math.round(ms / size)} ${unit}`;
  }
  return lasting(ms);
}

/** Day and time to the second, for details. */
export const exactTime = (at) => exact.format(new Date(at));
