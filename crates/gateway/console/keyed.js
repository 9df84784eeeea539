/** Lists that change while somebody reads them: entries that stay keep their elements, and so the focus and the selection. */

const entries = new WeakMap(); // list -> Map of key -> { node, draw }

/**
 * Draws the items of a list in their order. `make` is called once for each new item, and returns `{ node, draw }`; `draw` is called with each
 * newer state of the item.
 */
export function drawList(list, items, keyOf, make) {
  const known = entries.get(list) ?? new Map();
  const next = new Map();
  for (const item of items) {
    const key = keyOf(item);
    const entry = known.get(key) ?? make(item);
    entry.draw(item);
    next.set(key, entry);
  }
  for (const [key, { node }] of known) if (!next.has(key)) node.remove();
  let place = list.firstChild;
  for (const { node } of next.values()) {
    if (node === place) place = place.nextSibling;
    else list.insertBefore(node, place);
  }
  entries.set(list, next);
}

/** Replaces a text, unless it is there already. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Moves the focus between the entries of a list by the arrow keys, Home and End. `selector` finds what takes the focus. */
export function moveByArrows(list, selector) {
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    const stops = [...list.querySelectorAll(selector)];
    const from = stops.indexOf(document.activeElement);
    if (!step || from < 0) return;
    event.preventDefault();
    stops[Math.min(stops.length - 1, Math.max(0, from + step))].focus();
  });
}
