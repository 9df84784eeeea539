import { StarlingError } from "./errors.js";

const PATH = "/v1/ws";

/** The addresses of the nodes, used one after another: after each loss the client tries the next one. */
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

  /** The address that was used last. */
  get current() {
    return this.#current ?? this.#urls[0];
  }

  /** Replaces the list. Throws if it is empty or contains something that is not an address. */
  replace(urls) {
    if (!Array.isArray(urls) || urls.length === 0 || urls.some((url) => !url)) {
      throw new StarlingError("bad_request", "an address is needed: `url` or `urls`");
    }
    this.#urls = [...new Set(urls.map(webSocketUrl))];
    this.#next = Math.max(0, this.#urls.indexOf(this.#current) + 1);
  }

  /** Returns the address for the next attempt. */
  take() {
    this.#current = this.#urls[this.#next++ % this.#urls.length];
    return this.#current;
  }
}

/** Converts an address to the URL of the WebSocket. `http://host`, `ws://host` and the full path all mean the same node. */
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

/** Returns the base URL of the HTTP API that belongs to a WebSocket address, without a trailing slash. */
export function httpBase(webSocketAddress) {
  const url = new URL(webSocketAddress);
  const prefix = url.pathname.endsWith(PATH) ? url.pathname.slice(0, -PATH.length) : "";
  return `${url.protocol.replace(/^ws/, "http")}//${url.host}${prefix}`;
}
