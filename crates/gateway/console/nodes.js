/** Live view of the nodes: their load, and the speed of messages as measured by this page. */
import { byId, element } from "./element.js";
import { Sparkline } from "./sparkline.js";
import { ago, duration } from "./time.js";

const POLL_MS = 2000;
/** Most nodes that are shown. */
const NODES_MAX = 100;

export function showNodes(api, chat, client) {
  const view = new Nodes(api, chat, client);
  return { watch: (shown) => view.watch(shown) };
}

class Nodes {
  #api;
  #chat;
  #client;
  #timer = null;
  #before = null; // counters of the previous poll: { at, received, messages }
  #seenLatencies = 0;
  #cards = new Map(); // node -> { node, chart, … }
  #grid = element("ul", { class: "node-grid" });
  #who = element("p", { class: "hint" });
  #notice = element("p", { class: "notice", role: "status" });
  #connections = new Sparkline("Connections", (value) => String(Math.round(value)));
  #rate = new Sparkline("Messages per second", (value) => value.toFixed(value < 10 && !Number.isInteger(value) ? 1 : 0), { unit: " /s" });
  #delivery = new Sparkline("Delivery", duration);
  #trip = new Sparkline("Round trip", duration);

  constructor(api, chat, client) {
    this.#api = api;
    this.#chat = chat;
    this.#client = client;
    byId("view-nodes").replaceChildren(
      element("div", { class: "nodes-head" }, element("h2", {}, "Nodes"), this.#who),
      element("div", { class: "charts" }, this.#connections.node, this.#rate.node, this.#delivery.node, this.#trip.node),
      this.#notice,
      this.#grid,
    );
  }

  /** Starts or stops polling, when the view is shown or hidden. */
  watch(shown) {
    clearInterval(this.#timer);
    this.#timer = null;
    if (!shown) return;
    this.#before = null;
    this.#poll();
    this.#timer = setInterval(() => document.hidden || this.#poll(), POLL_MS);
  }

  async #poll() {
    const { user, node, state } = this.#client;
    this.#who.textContent = `All nodes of this cluster, updated every two seconds. You are ${user ?? "not signed in yet"}${state === "connected" ? `, connected to ${node}` : ""}.`;
    this.#measureTrip();
    let nodes = null;
    try {
      nodes = await this.#api.nodes();
      this.#notice.replaceChildren();
    } catch (error) {
      this.#explain(error);
    }
    this.#drawOwn(nodes);
    if (nodes) this.#drawNodes(nodes.slice(0, NODES_MAX));
  }

  /** Measures the round trip between the page and its node, which is the network's part of a delivery. */
  #measureTrip() {
    if (this.#client.state !== "connected") return;
    this.#client.ping().then((ms) => this.#trip.push(ms, `to ${this.#client.node} and back`), () => {});
  }

  #drawOwn(nodes) {
    const sum = (field) => nodes?.reduce((total, node) => total + (node[field] ?? NaN), 0) ?? NaN;
    const now = { at: performance.now(), received: this.#chat.received, messages: sum("messages") };
    const before = this.#before;
    this.#before = now;
    if (nodes) this.#connections.push(sum("connections"), `on ${nodes.length} ${nodes.length === 1 ? "node" : "nodes"}`);
    if (before) {
      const seconds = (now.at - before.at) / 1000;
      const cluster = Math.max(0, (now.messages - before.messages) / seconds);
      if (Number.isFinite(cluster)) this.#rate.push(cluster, "committed by all nodes");
      else this.#rate.push((now.received - before.received) / seconds, "seen by this page");
    }
    // Only samples of messages sent since the last poll are new.
    const { latencies } = this.#chat;
    const fresh = latencies.filter(({ at }) => at > this.#seenLatencies);
    if (fresh.length) {
      this.#seenLatencies = fresh.at(-1).at;
      for (const { ms } of fresh) this.#delivery.push(ms, "send to own event");
    } else this.#delivery.push(NaN, latencies.length === 0 ? "send a message first" : "from the last message sent here");
  }

  #drawNodes(nodes) {
    const names = new Set(nodes.map(({ node }) => node));
    for (const [name, card] of this.#cards) {
      if (names.has(name)) continue;
      card.root.remove();
      this.#cards.delete(name);
    }
    for (const node of nodes.sort((one, other) => one.node.localeCompare(other.node))) {
      if (!this.#cards.has(node.node)) this.#cards.set(node.node, newCard(node.node));
      const card = this.#cards.get(node.node);
      drawCard(card, node, node.node === this.#client.node);
      this.#grid.append(card.root);
    }
  }

  #explain(error) {
    if (error.status === 403 || error.status === 401) {
      const example = `starling token --user ${this.#client.user ?? "alice"} --scope "admin conversations:create subscribe:* publish:*"`;
      this.#notice.replaceChildren("The list of nodes is for operators: it needs a token with the scope ", element("code", {}, "admin"), ". Make one with ", element("code", {}, example), " and open the page with it.");
    } else this.#notice.replaceChildren("The nodes do not respond right now. Trying again.");
  }
}

function newCard(name) {
  const card = {
    mine: element("span", { class: "tag mine", hidden: true }, "you are here"),
    draining: element("span", { class: "tag", hidden: true }, "draining"),
    about: element("p", { class: "hint" }),
    figures: element("dl"),
    chart: new Sparkline("Connections", (value) => String(Math.round(value))),
  };
  card.root = element("li", { class: "card node" }, element("h3", {}, name, card.mine, card.draining), card.about, card.chart.node, card.figures);
  return card;
}

function drawCard(card, node, mine) {
  card.mine.hidden = !mine;
  card.draining.hidden = !node.draining;
  const role = node.roles?.length === 1 ? `only ${node.roles[0]}` : undefined;
  card.about.textContent = [`version ${node.version}`, role, node.address, `started ${ago(node.started_at)}`].filter(Boolean).join(" · ");
  card.chart.push(node.connections);
  const figures = [
    ["Sessions", node.sessions],
    ["Messages", node.messages],
    ["Deliveries", node.deliveries],
    ["Delivery p50", latency(node.delivery_p50_us)],
    ["Delivery p99", latency(node.delivery_p99_us)],
  ].filter(([, value]) => value !== undefined && value !== null);
  card.figures.replaceChildren(
    ...figures.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, typeof value === "number" ? value.toLocaleString("en") : value))),
  );
}

/** Formats a latency. A node that has delivered nothing in the last seconds reports 0, which is not a time. */
function latency(us) {
  if (!Number.isFinite(us)) return undefined;
  return us > 0 ? duration(us / 1000) : "–";
}
