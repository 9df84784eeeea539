import { StarlingError } from "./errors.js";

const PATH = "/v1/ws";

/** The addresses of the nodes, used one after the other: whoever comes back after a loss tries the next one. */
export class Addresses {
  #urls;
  #next = 0;
  #current;

  constructor(urls) {
    this.replace(urls);
  }

  get all() {
    return [...this.#urls];
  }

  /** The address that was dialled last. */
  get current() {
    return this.#current ?? this.#urls[0];
  }

  /** Takes a new list. Throws when there is none, or when one is not an address. */
  replace(urls) {
    if (!Array.isArray(urls) || urls.length === 0 || urls.some((url) => !url)) {
      throw new StarlingError("bad_request", "an address is needed: `url` or `urls`");
    }
    this.#urls = [...new Set(urls.map(webSocketUrl))];
    this.#next = Math.max(0, this.#urls.indexOf(this.#current) + 1);
  }

  /** The address to dial now. */
  take() {
    this.#current = this.#urls[this.#next++ % this.#urls.length];
    return this.#current;
  }
}

/** `http://host`, `ws://host` and the full path all mean the same node. */
export function webSocketUrl(address) {
  let url;
  try {
    url = new URL(address, globalThis.location?.href);
  } catch {
    throw new StarlingError("bad_request", `not an address: ${address}`);
  }
  url.protocol = url.protocol.replace(/^http/, "ws");
  if (!/^wss?:$/.test(url.protocol)) throw new StarlingError("bad_request", `not an address of a node: ${address}`);
  if (url.pathname === "/") url.pathname = PATH;
  url.hash = "";
  return url.href;
}

/** Where the HTTP API of the node behind a WebSocket address begins, without a slash at the end. */
export function httpBase(webSocketAddress) {
  const url = new URL(webSocketAddress);
  const prefix = url.pathname.endsWith(PATH) ? url.pathname.slice(0, -PATH.length) : "";
  return `${url.protocol.replace(/^ws/, "http")}//${url.host}${prefix}`;
}
