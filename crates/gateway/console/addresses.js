/**
 * Addresses of other nodes that this page may use when its own node is gone. The page sends its token there, so an address is only
 * accepted if no stranger can be behind it: the page's own machine on another port, or a server that proves its name
 * with https. An address such as `http://10.0.0.5` is a different machine in every network.
 *
 * The addresses have two sources: the link that also contained the token, whose author has the token anyway, and the page's own
 * node, which lists the other nodes to operators.
 */

/** Most addresses that are tried. */
const ADDRESSES_MAX = 32;

/** Returns the origin for an address as operators write it (`node-2:8080`, `https://node-2`); null if the page may not use it. */
export function usableOrigin(address, page = location) {
  let url;
  try {
    url = new URL(/^[a-z]+:\/\//i.test(address) ? address : `${page.protocol}//${address}`);
  } catch {
    return null;
  }
  if (url.protocol === "https:") return url.origin;
  const sameMachine = url.hostname === page.hostname || (isLoopback(url.hostname) && isLoopback(page.hostname));
  return url.protocol === "http:" && page.protocol === "http:" && sameMachine ? url.origin : null;
}

/** Returns the page's own origin, then the other usable ones, each once. */
export function usableOrigins(addresses, page = location) {
  const others = addresses.map((address) => usableOrigin(address, page)).filter(Boolean);
  return [...new Set([page.origin, ...others])].slice(0, ADDRESSES_MAX);
}

function isLoopback(host) {
  return host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
