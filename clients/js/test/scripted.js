/** Setup of tests against scripted nodes: two nodes, and clients that record what they saw. */
import { afterEach, beforeEach } from "node:test";
import WebSocket from "ws";
import { Starling } from "../starling.js";
import { MockCluster } from "./mock-cluster.js";

const EVENTS = ["reset", "deleted", "updated", "member", "truncated", "gone", "retry", "error", "gap"];

/** Creates two nodes for each test. `cluster`, `a` and `b` of the result belong to the running test. */
export function scripted() {
  const stage = {
    /** Creates a client that records every message, state and event. */
    newClient(options = {}) {
      const defaults = { urls: [stage.a.url, stage.b.url], token: "t", WebSocket, backoffBaseMs: 5, backoffMaxMs: 40, tokenIntervalMs: 20 };
      const client = new Starling({ ...defaults, ...options });
      Object.assign(client, { messages: [], states: [], seen: [] });
      client.on("message", ({ seq }) => {
        client.messages.push(seq);
        client.seen.push(["message", seq]);
      });
      client.on("state", (state) => client.states.push(state));
      for (const event of EVENTS) client.on(event, (detail) => client.seen.push([event, detail]));
      stage.clients.push(client);
      return client;
    },
    async connected(options) {
      const client = stage.newClient(options);
      await client.connect();
      return client;
    },
    /** Returns the events of this name that a client saw. */
    saw: (client, event) => client.seen.filter(([name]) => name === event).map(([, detail]) => detail),
  };
  beforeEach(async () => {
    stage.cluster = new MockCluster();
    stage.a = await stage.cluster.node("a");
    stage.b = await stage.cluster.node("b");
    stage.clients = [];
  });
  afterEach(() => {
    for (const client of stage.clients) client.close();
    stage.cluster.close();
  });
  return stage;
}

export const numbers = (to, from = 1) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** Returns the commands of this name that a node received. */
export const ops = (node, op) => node.commands.filter((command) => command.op === op);
