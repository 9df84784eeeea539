/** Who is in the open conversation, who is there right now, how far each has read; and inviting. */
import { byId, element } from "./element.js";
import { initials } from "./rooms.js";
import { ago } from "./time.js";

const LAST_SEEN_REDRAW_MS = 30_000;

export function showPeople(chat) {
  const draw = () => drawPeople(chat);
  for (const part of ["people", "reads"]) chat.on(part, (room) => room === chat.open && draw());
  chat.on("open", draw);
  setInterval(draw, LAST_SEEN_REDRAW_MS);

  const toggle = byId("show-people");
  toggle.onclick = () => {
    const shown = document.body.classList.toggle("people-shown");
    toggle.setAttribute("aria-expanded", String(shown));
    if (shown) byId("invite-user").focus({ preventScroll: true });
  };
  byId("invite").onsubmit = (event) => {
    event.preventDefault();
    invite(chat);
  };
}

function drawPeople(chat) {
  const room = chat.open;
  byId("people").hidden = !room;
  if (!room) return;
  const users = [...new Set([...room.members, ...room.online])];
  const rank = (user) => (room.online.has(user) ? 0 : 1);
  users.sort((one, other) => rank(one) - rank(other) || one.localeCompare(other));
  byId("people-list").replaceChildren(...users.map((user) => person(chat, room, user)));
  byId("invite").hidden = room.owner !== chat.me;
}

function person(chat, room, user) {
  const online = room.online.has(user);
  const seen = room.lastSeen.get(user);
  const notes = [online ? "online" : seen ? `seen ${ago(seen)}` : "offline"];
  const behind = room.head - Math.max(room.reads[user] ?? 0, user === chat.me ? room.ownHead : 0);
  if (user !== chat.me && room.head > 0) notes.push(behind <= 0 ? "read all" : `${behind} unread`);
  return element("li", { class: "person", "data-user": user },
    element("span", { class: online ? "face online" : "face", "aria-hidden": "true" }, initials(user)),
    element("span", { class: "person-name" }, user, user === chat.me && element("span", { class: "hint" }, " you"), user === room.owner && element("span", { class: "hint" }, " owner")),
    element("span", { class: "person-note" }, notes.join(" · ")),
  );
}

async function invite(chat) {
  const field = byId("invite-user");
  const error = byId("invite-error");
  error.textContent = "";
  try {
    await chat.invite(chat.open, field.value.trim());
    field.value = "";
  } catch (failure) {
    error.textContent = failure.message;
  }
}
