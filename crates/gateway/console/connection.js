/**
 * The connection on the page: its state, and the steps after a cut: cut → reconnecting → resumed, with the number of replayed and lost
 * messages. Losses are measured: a message is lost if the node has its number and this page does not.
 */
import { byId, element } from "./element.js";
import { duration } from "./time.js";

const CUT_MS = 3000;
const JOURNEY_SHOWN_MS = 15_000;
/** A replay that takes longer than this has failed. */
const SETTLE_MS = 8000;

const WORDS = { idle: "offline", connecting: "connecting", connected: "connected", reconnecting: "reconnecting", closed: "disconnected" };

export function showConnection(client, chat) {
  const journey = byId("journey");
  let lostAt = null; // when the connection was lost; null while connected
  let cause = "";
  let hideTimer = null;
  let repeatsBefore = 0;

  const tell = (steps, tone) => {
    clearTimeout(hideTimer);
    journey.hidden = false;
    journey.dataset.tone = tone;
    journey.replaceChildren(...steps.map((step) => element("span", { class: "step" }, step)));
  };

  client.on("state", (event) => {
    drawPill(client, event);
    if (event.state === "reconnecting") {
      if (lostAt === null) {
        repeatsBefore = chat.repeats;
        cause = event.reason === "cut" ? "cut" : "connection lost";
      }
      lostAt ??= performance.now();
      tell([cause, `reconnecting${event.attempt > 1 ? `, attempt ${event.attempt}` : ""} …`], "away");
    } else if (event.state === "connected" && lostAt !== null) {
      const awayMs = performance.now() - lostAt;
      lostAt = null;
      settle(client, chat, event, repeatsBefore, (verdict, tone) => {
        tell([cause, `away ${duration(awayMs)}`, ...verdict], tone);
        if (tone === "good") hideTimer = setTimeout(() => (journey.hidden = true), JOURNEY_SHOWN_MS);
      });
    } else if (event.state === "connected" && event.handover) {
      tell([`moved to ${event.node}`, "its node was draining", "nothing interrupted"], "good");
      hideTimer = setTimeout(() => (journey.hidden = true), JOURNEY_SHOWN_MS);
    } else if (event.state === "connecting" && event.attempt > 1) {
      tell(["no connection yet", `${event.reason || "no node responds"}, attempt ${event.attempt} …`], "away");
    } else if (event.state === "connected") {
      journey.hidden = true;
    } else if (event.state === "closed" && event.error.code !== "closed") {
      tell([event.error.message, "reload the page to connect again"], "bad");
    }
  });

  chat.on("removed", (room, why) => {
    tell([`“${room.title}” ${why}`], "away");
    hideTimer = setTimeout(() => (journey.hidden = true), JOURNEY_SHOWN_MS);
  });
  byId("cut").onclick = () => client.cut(CUT_MS);
}

/** Waits until each resumed conversation has reached its head, and reports what is missing if one does not. */
function settle(client, chat, event, repeatsBefore, done) {
  const where = event.resumed ? `resumed on ${event.node}` : `new session on ${event.node}, joined again`;
  const goals = Object.entries(event.conversations).map(([name, { head }]) => [name, head]);
  const missing = () => goals.reduce((sum, [name, head]) => sum + Math.max(0, head - (chat.rooms.get(name)?.newest ?? head)), 0);
  const deadline = performance.now() + SETTLE_MS;
  const look = () => {
    const lost = missing();
    const repeated = chat.repeats - repeatsBefore;
    if (lost > 0 && performance.now() < deadline && client.state === "connected") {
      done([where, `${event.replayed} replayed`, "catching up …"], "away");
      return setTimeout(look, 50);
    }
    done([where, `${event.replayed} replayed · ${lost} lost · ${repeated} repeated`], lost + repeated === 0 ? "good" : "bad");
  };
  look();
}

function drawPill(client, { state }) {
  byId("pill").dataset.state = document.body.dataset.connection = state;
  byId("pill-state").textContent = WORDS[state];
  byId("pill-node").textContent = state === "connected" ? client.node : "";
  const rows = [["User", client.user], ["Tenant", client.tenant], ["Node", client.node], ["Session", client.session]];
  const shown = rows.filter(([, value]) => value);
  byId("pill-more").replaceChildren(
    element("dl", {}, ...shown.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
  );
}
