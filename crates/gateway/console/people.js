/** The members of the open conversation: who is online, how far each has read, and the actions on members and the conversation. */
import { confirm, openForm } from "./dialogs.js";
import { byId, element } from "./element.js";
import { ago } from "./time.js";

const LAST_SEEN_REDRAW_MS = 30_000;
const NEVER_HERE = "invited, never been here";

export function showPeople(chat, router) {
  const draw = () => drawPeople(chat);
  for (const part of ["people", "reads"]) chat.on(part, (room) => room === chat.open && draw());
  chat.on("open", () => {
    closePanel();
    draw();
  });
  setInterval(draw, LAST_SEEN_REDRAW_MS);

  const toggle = byId("show-people");
  toggle.onclick = () => {
    const shown = document.body.classList.toggle("people-shown");
    toggle.setAttribute("aria-expanded", String(shown));
    if (shown) byId("people").focus({ preventScroll: true });
  };
  byId("invite").onsubmit = (event) => {
    event.preventDefault();
    invite(chat);
  };
  byId("rename-room").onclick = () => rename(chat);
  byId("leave-room").onclick = () => leave(chat, router);
  byId("delete-room").onclick = () => remove(chat, router);
}

/** Returns one or two letters for an avatar. */
export function initials(name) {
  const words = name.split(/[\s_.:@-]+/).filter(Boolean);
  const [first = "?", second = ""] = words;
  return (([...first][0] ?? "?") + ([...second][0] ?? "")).toUpperCase();
}

function closePanel() {
  document.body.classList.remove("people-shown");
  byId("show-people").setAttribute("aria-expanded", "false");
}

function drawPeople(chat) {
  const room = chat.open;
  byId("people").hidden = !room;
  if (!room) return;
  const isOwner = room.owner === chat.me;
  const users = [...new Set([...room.members, ...room.online])];
  const rank = (user) => (room.presenceKnown && room.online.has(user) ? 0 : 1);
  users.sort((one, other) => rank(one) - rank(other) || one.localeCompare(other));
  const focused = document.activeElement?.dataset?.remove;
  byId("people-list").replaceChildren(...users.map((user) => person(chat, room, user, isOwner)));
  if (focused) byId("people-list").querySelector(`[data-remove="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  byId("invite").hidden = byId("rename-room").hidden = byId("delete-room").hidden = !isOwner;
}

function person(chat, room, user, isOwner) {
  const me = user === chat.me;
  const online = room.presenceKnown && room.online.has(user);
  const roles = [me && "you", user === room.owner && "owner"].filter(Boolean).join(", ");
  const notes = [presence(room, user)];
  const behind = room.head - Math.max(room.reads[user] ?? 0, me ? room.ownHead : 0);
  const newcomer = notes[0] === NEVER_HERE;
  if (!me && !newcomer && room.head > 0) notes.push(behind <= 0 ? "read all" : `${behind} unread`);
  const face = `face${online ? " online" : ""}${room.presenceKnown ? "" : " unknown"}`;
  return element("li", { class: "person", "data-user": user },
    element("span", { class: face, "aria-hidden": "true" }, initials(user)),
    element("span", { class: "person-name" }, user, roles && element("span", { class: "hint" }, ` ${roles}`)),
    element("span", { class: "person-note" }, notes.join(" · ")),
    isOwner && !me && element("button", {
      type: "button", class: "quiet icon remove", "data-remove": user, title: `Remove ${user}`, "aria-label": `Remove ${user}`,
      onclick: () => removeMember(chat, room, user),
    }, "×"),
  );
}

function presence(room, user) {
  if (!room.presenceKnown) return "presence unknown";
  if (room.online.has(user)) return "online";
  const seen = room.lastSeen.get(user);
  if (seen) return `seen ${ago(seen)}`;
  // A user who was never here may be a mistyped name.
  return room.reads[user] === undefined ? NEVER_HERE : "offline";
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

function rename(chat) {
  const room = chat.open;
  openForm(byId("rename-dialog"), () => chat.rename(room, byId("rename-title").value.trim()));
  byId("rename-title").value = room.title;
  byId("rename-title").select();
}

function removeMember(chat, room, user) {
  confirm({
    title: `Remove ${user}?`,
    text: `${user} will receive no more messages from “${room.title}” and can no longer read it.`,
    action: "Remove",
    run: () => chat.removeMember(room, user),
  });
}

function leave(chat, router) {
  const room = chat.open;
  const heir = room.owner === chat.me ? " The member who joined first becomes the owner." : "";
  confirm({
    title: "Leave the conversation?",
    text: `You will receive no more messages from “${room.title}”, and can only return if you are invited again.${heir}`,
    action: "Leave",
    run: async () => {
      await chat.leave(room);
      router.roomIsGone();
    },
  });
}

function remove(chat, router) {
  const room = chat.open;
  confirm({
    title: "Delete the conversation?",
    text: `“${room.title}” and all its messages will be deleted for everybody.`,
    action: "Delete",
    run: async () => {
      await chat.delete(room);
      router.roomIsGone();
    },
  });
}
