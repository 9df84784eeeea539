/**
 * Which other nodes this page may turn to when its own is gone. The page's token goes there, so an address counts only
 * where no stranger can be behind it: the same machine as the page's own, under another port, or one that proves its name
 * by https. An address such as `http://10.0.0.5` is another machine in every other network.
 *
 * They come from two places: the link that also brought the token, whose maker has the token anyway, and the page's own
 * node, which lists the others to operators.
 */

/** More are not worth trying one after the other. */
const ADDRESSES_MAX = 32;

/** The origin behind an address as operators write it (`node-2:8080`, `https://node-2`); null if it may not be used. */
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

/** The page's own origin first, then the others that may be used, each once. */
export function usableOrigins(addresses, page = location) {
  const others = addresses.map((address) => usableOrigin(address, page)).filter(Boolean);
  return [...new Set([page.origin, ...others])].slice(0, ADDRESSES_MAX);
}

function isLoopback(host) {
  return host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
