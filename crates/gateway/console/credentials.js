/**
 * Storage of the token. It arrives in the fragment of a link, which browsers do not send to servers, and is removed from the address bar at once, so
 * that it is neither bookmarked nor visible on a shared screen. It stays in this tab's storage, so another tab can be another user.
 * The link may also name further nodes (`node=…`). They belong to its token and are forgotten with it.
 */

const TOKEN = "starling.token";
const NODES = "starling.nodes";

export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1));
  const token = given.get("token");
  if (token) {
    history.replaceState(null, "", location.pathname + location.search);
    keepToken(token, given.getAll("node"));
  }
  return token ?? sessionStorage.getItem(TOKEN);
}

export function keepToken(token, nodes = []) {
  sessionStorage.setItem(TOKEN, token);
  sessionStorage.setItem(NODES, JSON.stringify(nodes));
}

export function forgetToken() {
  sessionStorage.removeItem(TOKEN);
  sessionStorage.removeItem(NODES);
}

/** Returns the addresses that arrived with the token. */
export function keptNodes() {
  try {
    const nodes = JSON.parse(sessionStorage.getItem(NODES) ?? "[]");
    return Array.isArray(nodes) ? nodes.filter((node) => typeof node === "string") : [];
  } catch {
    return [];
  }
}

/** Returns the unverified claims for display; null if the text is not a token. */
export function readClaims(token) {
  try {
    const bytes = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (char) => char.charCodeAt(0))));
  } catch {
    return null;
  }
}

/** Returns a link that opens this page with the given token and the further nodes that arrived with it, but never with those of this tab. */
export function linkFor(token, nodes = []) {
  return `${location.origin}/#${new URLSearchParams([["token", token], ...nodes.map((node) => ["node", node])])}`;
}
