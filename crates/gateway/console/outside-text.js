/** Text from outside: payloads, errors, answers. It is shown as text only, and nothing in it may hide or reorder what stands around it. */
import { element } from "./element.js";

/** Characters that are shown before the rest is asked for. */
const SHOWN_CHARS = 20_000;
/** JSON longer than this is not indented: deep nesting would make it many times as long. */
const INDENT_CHARS_MAX = 16_384;
/** Control characters, and characters that nobody sees or that change the direction of writing. Tabs and line breaks are neither. */
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;

/** Replaces what would not be seen by its number, such as `⟨U+202E⟩`. */
export function visible(text) {
  return text.replaceAll("\r\n", "\n").replace(UNSEEN, (char) => `⟨U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

/** Returns the first characters of a text on one line. */
export function oneLine(text, charsMax = 200) {
  const line = visible(text.slice(0, charsMax * 4)).replace(/\s+/g, " ").trim();
  const chars = [...line];
  return chars.length > charsMax || text.length > charsMax * 4 ? `${chars.slice(0, charsMax).join("")}…` : line;
}

/** Returns a JSON value as text for people. */
export function jsonText(value) {
  const compact = JSON.stringify(value) ?? "";
  return compact.length > INDENT_CHARS_MAX ? compact : JSON.stringify(value, null, 2);
}

/** Returns a JSON text indented, and any other text as it is. */
export function perhapsJson(text) {
  if (!/^\s*[{[]/.test(text) || text.length > INDENT_CHARS_MAX) return text;
  try {
    return jsonText(JSON.parse(text));
  } catch {
    return text;
  }
}

/** A block of text from outside, with a button for the rest if it is long. */
export function textBlock(text, label) {
  const code = element("code", {}, visible(text.slice(0, SHOWN_CHARS)));
  const block = element("pre", { class: "outside", tabindex: "0", role: "region", "aria-label": label, dir: "ltr" }, code);
  if (text.length <= SHOWN_CHARS) return block;
  const more = element("button", { type: "button", class: "quiet", onclick: () => {
    code.textContent = visible(text);
    more.remove();
    block.focus();
  } }, `Show all ${text.length.toLocaleString("en")} characters`);
  return element("div", {}, block, more);
}
