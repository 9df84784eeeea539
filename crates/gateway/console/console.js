/** Start of the console page: signs in, connects, and sets up the parts of the page. */
import { Starling } from "/starling.js";
import { usableOrigins } from "./addresses.js";
import { Api } from "./api.js";
import { Chat } from "./chat.js";
import { showConnection } from "./connection.js";
import { forgetToken, keepToken, keptNodes, linkFor, readClaims, takeToken } from "./credentials.js";
import { announce, byId, openDialog } from "./element.js";
import { showJob } from "./job.js";
import { showJobs } from "./jobs.js";
import { showNodes } from "./nodes.js";
import { initials, showPeople } from "./people.js";
import { showQueues } from "./queues.js";
import { showRooms } from "./rooms.js";
import { Router } from "./router.js";
import { showThread } from "./thread.js";
import { showWebhook } from "./webhook.js";
import { showWebhooks } from "./webhooks.js";

const VIEWS = ["chat", "nodes", "queues", "jobs", "job", "webhooks", "webhook", "sign-in"];
/** The tabs, and the views that belong to each. */
const TABS = { chat: ["chat"], nodes: ["nodes"], queues: ["queues"], jobs: ["jobs", "job"], webhooks: ["webhooks", "webhook"] };

function start() {
  byId("theme").onclick = switchTheme;
  byId("person-form").onsubmit = openOtherPerson;
  byId("other-person").onclick = () => openDialog(byId("person-dialog"));
  byId("sign-in").onsubmit = signIn;
  // A second link opened in this tab only changes the fragment.
  addEventListener("hashchange", () => location.hash.includes("token=") && location.reload());
  const token = takeToken();
  if (token) run(token);
  else askForToken("");
}

function run(token) {
  // The page was served by a node, so keep trying to connect.
  const client = new Starling({ urls: usableOrigins(keptNodes()), token, connectAttempts: Infinity });
  const api = new Api(token, () => client.urls.map((url) => new URL(url.replace(/^ws/, "http")).origin));
  const chat = new Chat(client);
  const router = new Router((route) => show(route));
  const nodes = showNodes(api, chat, client);
  const queues = showQueues(api, client);
  const jobs = showJobs(api, client, router);
  const job = showJob(api, client, router);
  const webhooks = showWebhooks(api, client);
  const webhook = showWebhook(api, client, router);
  showConnection(client, chat);
  showRooms(chat, router);
  showThread(chat, client, router);
  showPeople(chat, router);
  showMe(readClaims(token)?.sub);

  let ready = false; // the conversations are known
  let shown = {}; // the route before
  const show = ({ view, room, id, filter }) => {
    const { id: closed } = shown;
    shown = { view, id };
    showView(view);
    nodes.watch(view === "nodes");
    queues.watch(view === "queues");
    jobs.watch(view === "jobs" ? filter : null);
    job.watch(view === "job" ? id : null);
    webhooks.watch(view === "webhooks");
    webhook.watch(view === "webhook" ? id : null);
    if (closed && (view === "jobs" || view === "webhooks")) focusEntry(closed);
    if (view !== "chat" || !ready) return;
    if (room === null) chat.closeRoom();
    else if (chat.open?.name !== room) openRoom(room);
  };
  const openRoom = (name) =>
    chat.openRoom(name).catch((error) => {
      announce(error.message);
      if (error.code === "not_found") router.roomIsGone();
    });
  chat.on("open", () => chat.open === null && ready && router.roomIsGone());
  byId("tab-chat").onclick = () => router.openChat();
  byId("tab-jobs").onclick = () => router.openJobs();
  for (const view of ["nodes", "queues", "webhooks"]) byId(`tab-${view}`).onclick = () => router.openView(view);
  document.addEventListener("keydown", (event) => {
    const { view } = document.body.dataset;
    if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (view === "job" || view === "webhook") router.closeDetails();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#/"]');
    if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    router.follow(link.getAttribute("href"));
  });
  router.apply();

  client.on("error", (error) => {
    if (error.code !== "unauthorized") return;
    forgetToken();
    askForToken(`The token was not accepted: ${error.message}.`);
  });
  const loadRooms = async () => {
    byId("rooms-failed").hidden = true;
    try {
      await chat.loadRooms();
    } catch (error) {
      byId("rooms-failed").hidden = false;
      byId("rooms-why").textContent = error.message;
    }
    ready = true;
    router.apply();
  };
  byId("rooms-again").onclick = loadRooms;
  client.connect().then(
    () => {
      document.title = `${client.user} · Starling`;
      showMe(client.user);
      if (isOperator(readClaims(token))) learnAddresses(client, api);
      return loadRooms();
    },
    () => {}, // reported by the event above and by the connection state
  );
  addEventListener("pagehide", () => client.close());
  // A page from the browser's back-forward cache has no connection, so load it again.
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}

/** Whether the token has the scope `admin`. The node makes the actual decision. */
function isOperator(claims) {
  const words = [claims?.scope, claims?.scp].flat().flatMap((scope) => (typeof scope === "string" ? scope.split(" ") : []));
  return words.includes("admin");
}

/** Learns the addresses of the other nodes, which only operators may list. */
async function learnAddresses(client, api) {
  const nodes = await api.nodes().catch(() => []);
  const addresses = nodes.map(({ address }) => address).filter(Boolean);
  client.urls = usableOrigins([...keptNodes(), ...addresses]);
}

function showMe(user) {
  if (!user) return;
  byId("me").hidden = false;
  byId("me").title = `You are ${user}`;
  byId("me-face").textContent = initials(user);
  for (const place of document.querySelectorAll("[data-me]")) place.textContent = user;
}

function showView(name) {
  for (const view of VIEWS) byId(`view-${view}`).hidden = view !== name;
  for (const [tab, views] of Object.entries(TABS)) byId(`tab-${tab}`).setAttribute("aria-pressed", String(views.includes(name)));
  document.body.dataset.view = name;
}

/** Returns the focus to the entry of a list that was open. */
function focusEntry(id) {
  const name = CSS.escape(id);
  document.querySelector(`[data-job="${name}"] a, [data-webhook="${name}"] h3 a`)?.focus({ preventScroll: true });
}

function askForToken(why) {
  byId("sign-in-why").textContent = why;
  showView("sign-in");
  byId("token").focus();
}

function signIn(event) {
  event.preventDefault();
  const token = byId("token").value.trim();
  if (!readClaims(token)) {
    byId("sign-in-why").textContent = "That is not a token. A token has three parts, separated by dots.";
    return;
  }
  keepToken(token);
  location.reload();
}

function openOtherPerson(event) {
  event.preventDefault();
  const given = byId("person-token").value.trim();
  // The user may paste the whole link.
  const parts = new URLSearchParams(given.split("#")[1] ?? "");
  const token = parts.get("token") ?? given;
  if (!readClaims(token)) {
    byId("person-error").textContent = "That is neither a token nor a link that contains one.";
    return;
  }
  // `noopener` gives the new tab its own storage, and so its own user.
  window.open(linkFor(token, parts.getAll("node")), "_blank", "noopener");
  byId("person-dialog").close();
}

function switchTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const shown = document.documentElement.dataset.theme ?? system;
  const next = shown === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("starling.theme", next);
  } catch {
    // Without storage, the choice only lasts for this visit.
  }
}

start();
