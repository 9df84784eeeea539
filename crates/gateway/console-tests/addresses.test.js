/** To which addresses, besides its own node, the console may send its token. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { usableOrigin, usableOrigins } from "../console/addresses.js";

const page = (origin) => ({ ...parts(new URL(origin)), origin });
const parts = ({ protocol, hostname }) => ({ protocol, hostname });

for (const [from, address, expected] of [
  ["http://127.0.0.1:8080", "127.0.0.1:8081", "http://127.0.0.1:8081"],
  ["http://127.0.0.1:8080", "http://localhost:8081/", "http://localhost:8081"],
  ["http://chat.example:8080", "chat.example:8081", "http://chat.example:8081"],
  ["http://chat.example:8080", "https://node-2.example", "https://node-2.example"],
  ["https://chat.example", "node-2.example:443", "https://node-2.example"],
  ["https://chat.example", "https://node-2.example:8443/x?y#z", "https://node-2.example:8443"],
  // Another machine in other networks, or plain HTTP from an encrypted page.
  ["http://chat.example:8080", "http://10.0.0.5:8080", null],
  ["http://192.168.1.4:8080", "192.168.1.5:8080", null],
  ["http://chat.example:8080", "127.0.0.1:8080", null],
  ["https://chat.example", "http://chat.example:8080", null],
  ["http://127.0.0.1:8080", "http://127.0.0.1.evil.example", null],
  ["http://127.0.0.1:8080", "http://evil.example/127.0.0.1", null],
  ["http://127.0.0.1:8080", "javascript://127.0.0.1/%0aalert(1)", null],
  ["http://127.0.0.1:8080", "ftp://127.0.0.1", null],
  ["http://127.0.0.1:8080", "no address", null],
  ["http://127.0.0.1:8080", "", null],
]) {
  test(`from ${from}: ${address || "nothing"} is ${expected ?? "not used"}`, () => {
    assert.equal(usableOrigin(address, page(from)), expected);
  });
}

test("the page's own node is first, each is named once, and there are not too many", () => {
  const many = Array.from({ length: 100 }, (_, n) => `127.0.0.1:${9000 + n}`);
  const origins = usableOrigins(["127.0.0.1:8080", "10.0.0.1:8080", ...many, ...many], page("http://127.0.0.1:8080"));
  assert.deepEqual(origins.slice(0, 2), ["http://127.0.0.1:8080", "http://127.0.0.1:9000"]);
  assert.equal(origins.length, 32);
});
