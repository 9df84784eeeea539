/** The console page: signs in, connects, and hands the parts of the page to those who look after them. */
import { Starling } from "/starling.js";
import { Api } from "./api.js";
import { Chat } from "./chat.js";
import { showConnection } from "./connection.js";
import { forgetToken, keepToken, linkFor, readClaims, takeToken } from "./credentials.js";
import { byId, openDialog } from "./element.js";
import { showNodes } from "./nodes.js";
import { showPeople } from "./people.js";
import { showRooms } from "./rooms.js";
import { showThread } from "./thread.js";

const VIEWS = ["chat", "nodes", "sign-in"];

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
  const client = new Starling({ url: location.origin, token });
  const api = new Api(token);
  const chat = new Chat(client, api);
  showConnection(client, chat);
  showRooms(chat);
  showThread(chat, client);
  showPeople(chat);
  const nodes = showNodes(api, chat, client);
  const show = (view) => {
    showView(view);
    nodes.watch(view === "nodes");
  };
  byId("tab-chat").onclick = () => show("chat");
  byId("tab-nodes").onclick = () => show("nodes");
  show("chat");

  client.on("error", (error) => {
    if (error.code !== "unauthorized") return;
    forgetToken();
    askForToken(`The token was not accepted: ${error.message}.`);
  });
  client.connect().then(
    () => {
      document.title = `${client.user} · Starling`;
      return chat.loadRooms();
    },
    () => {}, // told by the event above, and by the pill
  );
  addEventListener("pagehide", () => client.close());
  // Back from the browser's cache of pages: the connection is gone, so begin again.
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}

function showView(name) {
  for (const view of VIEWS) byId(`view-${view}`).hidden = view !== name;
  for (const tab of ["chat", "nodes"]) byId(`tab-${tab}`).setAttribute("aria-pressed", String(tab === name));
  document.body.dataset.view = name;
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
    byId("sign-in-why").textContent = "That is not a token: it has three parts with dots in between.";
    return;
  }
  keepToken(token);
  location.reload();
}

function openOtherPerson(event) {
  event.preventDefault();
  const given = byId("person-token").value.trim();
  // The whole link is welcome too.
  const token = new URLSearchParams(given.split("#")[1] ?? "").get("token") ?? given;
  if (!readClaims(token)) {
    byId("person-error").textContent = "That is neither a token nor a link with one.";
    return;
  }
  // `noopener`: the new tab gets a storage of its own, and so its own person.
  window.open(linkFor(token), "_blank", "noopener");
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
    // It holds for this visit then.
  }
}

start();
