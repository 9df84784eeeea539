/** The list of conversations: selection, creation, unread counts. Arrow keys move the focus. */
import { announce, byId, element, openDialog } from "./element.js";
import { initials } from "./people.js";
import { clockTime, dayName, isSameDay } from "./time.js";

export function showRooms(chat, router) {
  const list = byId("room-list");
  let scheduled = false;

  // Draws once for any number of events before the next frame.
  const draw = () => {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => {
      scheduled = false;
      drawRooms(chat, list, router);
    });
  };
  chat.on("rooms", draw);
  chat.on("open", draw);

  list.addEventListener("keydown", (event) => moveFocus(list, event));
  byId("new-room").onclick = byId("first-room").onclick = () => openDialog(byId("room-dialog"));
  byId("rooms-more").onclick = () => chat.loadRooms().catch((error) => announce(error.message));
  byId("room-form").onsubmit = (event) => {
    event.preventDefault();
    create(chat, router).catch((error) => (byId("room-error").textContent = error.message));
  };
}

function drawRooms(chat, list, router) {
  const rooms = chat.list();
  const focused = document.activeElement?.dataset?.room;
  list.replaceChildren(...rooms.map((room) => roomItem(chat, room, router)));
  const buttons = [...list.querySelectorAll("button")];
  const tabStop = buttons.find(({ dataset }) => dataset.room === (focused ?? chat.open?.name)) ?? buttons[0];
  if (tabStop) tabStop.tabIndex = 0;
  if (focused) tabStop?.focus({ preventScroll: true });
  byId("rooms-none").hidden = rooms.length > 0 || !byId("rooms-failed").hidden;
  byId("rooms-more").hidden = !chat.nextPage;
}

function roomItem(chat, room, router) {
  const unread = chat.open === room ? 0 : chat.unread(room);
  const others = [...room.online].filter((user) => user !== chat.me).length;
  const { last } = room;
  const preview = last ? `${last.sender === chat.me ? "You" : last.sender}: ${last.content}` : room.head > 0 ? "…" : "No messages yet";
  return element("li", {},
    element("button", {
      type: "button",
      class: unread ? "room unread" : "room",
      "data-room": room.name,
      "aria-current": chat.open === room ? "true" : null,
      tabindex: "-1",
      onclick: () => router.openRoom(room.name),
    },
      element("span", { class: others && room.presenceKnown ? "face online" : "face", "aria-hidden": "true" }, initials(room.title)),
      element("span", { class: "room-title" }, room.title),
      last && element("time", { class: "room-time", datetime: last.at }, isSameDay(last.at, Date.now()) ? clockTime(last.at) : dayName(last.at).split(",")[0]),
      element("span", { class: "room-preview" }, preview.slice(0, 120)),
      unread > 0 && element("span", { class: "badge" }, unread > 99 ? "99+" : String(unread), element("span", { class: "hidden" }, " unread")),
    ),
  );
}

function moveFocus(list, event) {
  const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
  if (!step) return;
  event.preventDefault();
  const buttons = [...list.querySelectorAll("button")];
  const index = buttons.indexOf(document.activeElement) + step;
  const next = buttons[Math.min(buttons.length - 1, Math.max(0, index))];
  for (const button of buttons) button.tabIndex = button === next ? 0 : -1;
  next?.focus();
}

async function create(chat, router) {
  const members = byId("room-members").value.split(/[\s,]+/).filter(Boolean);
  const name = await chat.createRoom(byId("room-title").value.trim(), members);
  byId("room-dialog").close();
  router.openRoom(name);
  byId("draft").focus();
}
