/**
 * The token comes in the fragment of a link, which no browser sends to a server, and leaves the address bar at once, so
 * that it is neither bookmarked nor shown on a shared screen. It stays in this tab's storage: another tab is another person.
 * The link may also name further nodes (`node=…`); they belong to its token and are forgotten with it.
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

/** The addresses that came with the token. */
export function keptNodes() {
  try {
    const nodes = JSON.parse(sessionStorage.getItem(NODES) ?? "[]");
    return Array.isArray(nodes) ? nodes.filter((node) => typeof node === "string") : [];
  } catch {
    return [];
  }
}

/** The claims, unverified, for showing; null for what is no token. */
export function readClaims(token) {
  try {
    const bytes = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (char) => char.charCodeAt(0))));
  } catch {
    return null;
  }
}

/** A link that opens this page with that token, and with the further nodes that came with it: never with this tab's own. */
export function linkFor(token, nodes = []) {
  return `${location.origin}/#${new URLSearchParams([["token", token], ...nodes.map((node) => ["node", node])])}`;
}
