/**
 * The console in a real browser, on three real nodes that share Redis and PostgreSQL.
 * Needs STARLING_BIN (the program), REDIS_URL and DATABASE_URL, and a Chromium.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { freePort, startNode } from "../../../clients/js/test/starling-process.js";
import { until } from "../../../clients/js/test/waiting.js";
import { startBalancer } from "./balancer.js";
import { Person, startBrowser } from "./browser.js";

const ADMIN = "admin conversations:create subscribe:* publish:*";
const run = Date.now().toString(36);

let browser, env;
let nodes = {};
const balancers = [];
let people = [];

before(async () => {
  const { STARLING_BIN, REDIS_URL, DATABASE_URL } = process.env;
  assert.ok(STARLING_BIN && REDIS_URL && DATABASE_URL, "set STARLING_BIN, REDIS_URL and DATABASE_URL");
  env = { REDIS_URL, DATABASE_URL, STARLING_LIMIT_USER_WRITES_PER_MINUTE: "0", STARLING_DRAIN_SECONDS: "5", STARLING_ALLOWED_ORIGINS: "*" };
  browser = await startBrowser();
  await Promise.all(["a", "b", "c"].map((name) => addNode(name)));
});

after(async () => {
  await browser?.close();
  for (const balancer of balancers) balancer.close();
  await Promise.all(Object.values(nodes).map((node) => node.stop()));
});

afterEach(async () => {
  const faults = people.flatMap((person) => person.faults);
  await Promise.all(people.map((person) => person.close()));
  people = [];
  assert.deepEqual(faults, []);
});

async function addNode(name, more = {}, port = undefined) {
  nodes[name] = await startNode({ bin: process.env.STARLING_BIN, name: `${name}-${run}`, env: { ...env, ...more }, port });
  return nodes[name];
}

/** Opens a page for a user behind a load balancer that prefers the nodes in this order. */
async function person(user, order, { scope, ...options } = {}) {
  const balancer = await startBalancer([...order].map((name) => nodes[name].url));
  balancers.push(balancer);
  const opened = await Person.open(browser, balancer.url, nodes[order[0]].token(`${user}-${run}`, scope), options);
  opened.user = `${user}-${run}`;
  opened.balancer = balancer;
  people.push(opened);
  opened.node = await opened.connected();
  return opened;
}

/** Cuts the connection of a page, which finds no node until `reconnect`. */
async function cutOff(someone) {
  someone.balancer.pause();
  await someone.page.click("#cut");
  await someone.page.locator('#pill[data-state="reconnecting"]').waitFor();
}

async function reconnect(someone) {
  someone.balancer.resume();
  return someone.connected();
}

/** Opens Alice and Bob on two nodes, in a new conversation. */
async function twoInARoom(title, orders = ["abc", "bca"]) {
  const bob = await person("bob", orders[1]);
  const alice = await person("alice", orders[0]);
  assert.notEqual(alice.node, bob.node);
  await alice.create(title, bob.user);
  await bob.openRoom(title);
  return [alice, bob];
}

/** Types until this is seen: a page shows that somebody types for some seconds, and a busy machine may take longer to look. */
async function typesUntil(someone, seen) {
  let isOver = false;
  const over = seen.finally(() => (isOver = true));
  while (!isOver) {
    await someone.page.locator("#draft").pressSequentially("I am wri");
    await Promise.race([over, new Promise((resolve) => setTimeout(resolve, 500))]);
  }
  await over;
}

async function journey(someone, pattern) {
  const line = someone.page.locator("#journey");
  await until(async () => pattern.test(await line.textContent()), `the page says ${pattern}`);
}

test("two people on two nodes talk, see each other typing, and see what was read", async () => {
  const [alice, bob] = await twoInARoom("Two nodes");
  await alice.say("hello from a");
  await bob.sees("hello from a");
  await typesUntil(bob, alice.page.locator("#typing", { hasText: `${bob.user} is typing` }).waitFor());
  await bob.say("hello from b");
  await alice.sees("hello from b");
  await until(async () => (await alice.page.locator("#typing").textContent()) === "", "typing ends with the message");
  await alice.page.locator(".own .receipt", { hasText: `read by ${bob.user}` }).waitFor();
  await bob.page.locator(".own .receipt", { hasText: `read by ${alice.user}` }).waitFor();
  await alice.page.locator(`.person[data-user="${bob.user}"] .face.online`).waitFor();
  const expected = [[1, "hello from a"], [2, "hello from b"]];
  assert.deepEqual(await alice.messages(), expected);
  assert.deepEqual(await bob.messages(), expected);
});

test("a cut connection resumes: what was written meanwhile on both sides is there once", async () => {
  const [alice, bob] = await twoInARoom("Cut");
  await alice.say("before");
  await bob.sees("before");
  await cutOff(alice);
  await alice.say("written while cut");
  await alice.page.locator(".pending", { hasText: "written while cut" }).waitFor();
  for (const text of ["one", "two", "three"]) await bob.say(text);
  await bob.sees("three");
  await reconnect(alice);
  await journey(alice, /cut.*resumed on .*3 replayed · 0 lost · 0 repeated/);
  await bob.sees("written while cut");
  const texts = ["before", "one", "two", "three", "written while cut"];
  assert.deepEqual(await bob.messages(), texts.map((text, index) => [index + 1, text]));
  assert.deepEqual(await alice.messages(), await bob.messages());
});

test("a node is killed and the talk goes on", async () => {
  await addNode("k");
  const [alice, bob] = await twoInARoom("Kill", ["kbc", "bca"]);
  await alice.say("before the kill");
  await bob.sees("before the kill");
  await nodes.k.kill();
  await bob.say("are you there?");
  await alice.sees("are you there?");
  await alice.say("yes, elsewhere");
  await bob.sees("yes, elsewhere");
  await journey(alice, /connection lost.*resumed on .* 0 lost · 0 repeated/);
  assert.equal(await alice.connected(), bob.node);
  assert.deepEqual(await alice.messages(), await bob.messages());
  assert.equal((await bob.messages()).length, 3);
});

test("a node drains and nobody is interrupted", async () => {
  const drained = await addNode("d");
  const [alice, bob] = await twoInARoom("Drain", ["dbc", "bca"]);
  const states = await alice.page.evaluateHandle(() => {
    const seen = [];
    new MutationObserver(() => seen.push(document.getElementById("pill").dataset.state)).observe(document.getElementById("pill"), { attributes: true });
    return seen;
  });
  drained.signal("SIGTERM");
  let count = 0;
  await until(async () => {
    await alice.say(`message ${++count}.`);
    await bob.sees(`message ${count}.`);
    return (await alice.connected()) !== alice.node;
  }, "the page has moved to another node");
  await journey(alice, /moved to .*nothing interrupted/);
  await bob.say("still here");
  await alice.sees("still here");
  assert.deepEqual((await states.jsonValue()).filter((state) => state !== "connected"), []);
  assert.deepEqual(await alice.messages(), await bob.messages());
});

test("history comes as one scrolls up, and unread messages are counted", async () => {
  const [alice, bob] = await twoInARoom("History");
  const { conversations } = await get(alice, "/v1/conversations?limit=1");
  const name = conversations[0].conversation;
  await bob.page.press("#draft", "Escape"); // closes it, so that later messages are unread
  for (let i = 1; i <= 130; i++) await post(alice, `/v1/conversations/${name}/messages`, { key: `k${i}`, content: `message ${i}` });
  const badge = bob.page.locator(".room", { hasText: "History" }).locator(".badge");
  await badge.filter({ hasText: "99+" }).waitFor();
  const carol = await person("bob", "cab"); // another device of the same user, which has seen no message live
  await carol.openRoom("History");
  await carol.sees("message 130");
  await until(async () => {
    await carol.page.locator("#log").evaluate((log) => (log.scrollTop = 0));
    return (await carol.messages()).length === 130;
  }, "all 130 messages are on the page");
  assert.deepEqual((await carol.messages()).map(([seq]) => seq), Array.from({ length: 130 }, (_, i) => i + 1));
  await carol.page.locator("#older", { hasText: "The beginning" }).waitFor();
  await until(async () => (await badge.count()) === 0, "read on one device is read on the other");
});

test("somebody is invited, and is told at once", async () => {
  const carol = await person("carol", "cab");
  const alice = await person("alice", "abc");
  await alice.create("Invitation");
  await alice.page.fill("#invite-user", carol.user);
  await alice.page.press("#invite-user", "Enter");
  await carol.openRoom("Invitation");
  await carol.say("thank you");
  await alice.sees("thank you");
});

test("a mistyped invitation is taken back; who is removed is told", async () => {
  const [alice, bob] = await twoInARoom("Removal");
  await alice.page.fill("#invite-user", `${bob.user}b`);
  await alice.page.press("#invite-user", "Enter");
  const typo = alice.page.locator(`.person[data-user="${bob.user}b"]`);
  await typo.locator(".person-note", { hasText: "invited, never been here" }).waitFor();
  await alice.confirmed(`[data-remove="${bob.user}b"]`);
  await typo.waitFor({ state: "detached" });
  await alice.confirmed(`[data-remove="${bob.user}"]`);
  await journey(bob, /“Removal” is closed to you/);
  await bob.page.locator("#nothing").waitFor();
  assert.equal((await bob.rooms()).includes("Removal"), false);
  assert.equal(await bob.page.locator(".remove").count(), 0);
});

test("a conversation is renamed, left and deleted", async () => {
  const [alice, bob] = await twoInARoom("Old name");
  await alice.page.click("#rename-room");
  await alice.page.fill("#rename-title", "New name");
  await alice.page.press("#rename-title", "Enter");
  for (const someone of [alice, bob]) await someone.page.locator("#thread-name", { hasText: "New name" }).waitFor();
  await bob.page.locator(".room-title", { hasText: "New name" }).waitFor();
  assert.equal(await bob.page.locator("#rename-room").isVisible(), false, "not the owner");
  assert.equal(await bob.page.locator("#delete-room").isVisible(), false, "not the owner");

  await bob.confirmed("#leave-room");
  await bob.page.locator("#nothing").waitFor();
  assert.equal((await bob.rooms()).includes("New name"), false);
  await alice.page.locator(`.person[data-user="${bob.user}"]`).waitFor({ state: "detached" });
  await bob.page.reload();
  await bob.connected();
  await bob.page.locator(".room, #rooms-none").first().waitFor();
  assert.equal((await bob.rooms()).includes("New name"), false, "it was for good");

  await alice.page.fill("#invite-user", bob.user);
  await alice.page.press("#invite-user", "Enter");
  await bob.openRoom("New name");
  await alice.confirmed("#delete-room");
  await journey(bob, /“New name” was deleted/);
  for (const someone of [alice, bob]) {
    await someone.page.locator("#nothing").waitFor();
    assert.equal((await someone.rooms()).includes("New name"), false);
    assert.equal(new URL(someone.page.url()).hash, "");
  }
});

test("an owner leaves, and whoever has been there for longest owns the conversation", async () => {
  const [alice, bob] = await twoInARoom("Heir");
  assert.equal(await bob.page.locator("#delete-room").isVisible(), false);
  await alice.confirmed("#leave-room");
  await bob.page.locator("#delete-room").waitFor();
  await bob.page.locator(`.person[data-user="${bob.user}"] .person-name`, { hasText: "you, owner" }).waitFor();
});

test("a conversation that was made again while the page was cut off is shown anew", async () => {
  const [alice, bob] = await twoInARoom("Again");
  await alice.say("of the old log");
  await bob.sees("of the old log");
  const { conversations } = await get(alice, "/v1/conversations?limit=1");
  const path = `/v1/conversations/${conversations[0].conversation}`;
  await cutOff(alice);
  await call(bob, "DELETE", path, undefined, alice.user);
  await post(bob, "/v1/conversations", { conversation: conversations[0].conversation, title: "Again", members: [alice.user] });
  await post(bob, `${path}/messages`, { key: "k", content: "of the new log" });
  await reconnect(alice);
  await alice.sees("of the new log");
  assert.deepEqual(await alice.messages(), [[1, "of the new log"]]);
  await alice.page.locator("#older", { hasText: "created again" }).waitFor();
});

test("Back closes a conversation on a phone, and a reload opens it again", async () => {
  const phone = await person("phone", "abc", { viewport: { width: 360, height: 640 }, isMobile: true, hasTouch: true });
  const list = phone.page.locator("#room-list");
  await phone.create("By the browser");
  await phone.say("still here after a reload");
  await phone.sees("still here");
  assert.equal(await list.isVisible(), false);
  await phone.page.reload();
  await phone.connected();
  await phone.sees("still here");
  await phone.page.goBack();
  await list.waitFor();
  assert.equal(await phone.page.locator("#open").isVisible(), false);
  await phone.page.goForward();
  await phone.sees("still here");
  await phone.page.click("#back");
  await list.waitFor();
  await phone.page.goForward();
  await phone.sees("still here");
  await phone.page.click("#tab-nodes");
  await phone.page.locator("#view-nodes").waitFor();
  await phone.page.reload();
  await phone.connected();
  await phone.page.locator("#view-nodes").waitFor();
  await phone.page.goBack();
  await phone.sees("still here");
  await phone.page.goto(`${new URL(phone.page.url()).origin}/#/c/nobody-made-this`);
  await list.waitFor();
});

test("while the connection is cut nobody is shown as being there", async () => {
  const [alice, bob] = await twoInARoom("Presence");
  const face = alice.page.locator(`.person[data-user="${bob.user}"] .face.online`);
  await face.waitFor();
  await cutOff(alice);
  await alice.page.locator(`.person[data-user="${bob.user}"] .person-note`, { hasText: "presence unknown" }).waitFor();
  assert.equal(await alice.page.locator(".face.online").count(), 0);
  await alice.page.locator("#thread-sub", { hasText: "presence is unknown" }).waitFor();
  await reconnect(alice);
  await face.waitFor();
});

test("a message that the node does not take yet says why, and until when", async () => {
  await addNode("r", { STARLING_LIMIT_USER_WRITES_PER_MINUTE: "6" });
  const carol = await person("carol", "r");
  await carol.create("Too fast");
  for (let i = 1; i <= 9; i++) await carol.say(`quick ${i}`);
  await carol.page.locator(".pending .words", { hasText: /waiting: too many messages at once, next try in \d+ s/ }).first().waitFor();
});

test("each page says who one is, and has one heading of the first rank", async () => {
  for (const options of [{}, { viewport: { width: 360, height: 640 }, isMobile: true }]) {
    const alice = await person("alice", "abc", { scope: ADMIN, ...options });
    for (const [tab, view] of [["#tab-chat", "#view-chat"], ["#tab-nodes", "#view-nodes"]]) {
      await alice.page.click(tab);
      await alice.page.locator(view).getByText(alice.user).or(alice.page.locator("#me").getByText(alice.user)).first().waitFor();
      assert.equal(await alice.page.getByRole("heading", { level: 1 }).count(), 1, tab);
    }
  }
});

test("text stands out from what is behind it, in both themes", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const alice = await person("alice", "abc", { colorScheme, scope: ADMIN });
    await alice.create(`Contrast ${colorScheme}`, "bob", "carol");
    await alice.say("words");
    await alice.sees("words");
    assert.deepEqual(await alice.pale(), [], `${colorScheme}: chat`);
    await cutOff(alice);
    assert.deepEqual(await alice.pale(), [], `${colorScheme}: cut`);
    await reconnect(alice);
    await alice.page.click("#delete-room");
    assert.deepEqual((await alice.pale()).filter((line) => /Delete|Cancel/.test(line)), [], `${colorScheme}: dialog`);
    await alice.page.click("#confirm-dialog [data-close]");
    await alice.page.click("#tab-nodes");
    await alice.page.locator(".node").first().waitFor();
    assert.deepEqual(await alice.pale(), [], `${colorScheme}: nodes`);
  }
});

test("the link of one node, which dies: the page goes on at the others that the link names", async () => {
  const lone = await addNode("l");
  const others = [nodes.b.url, nodes.c.url];
  const alice = await Person.open(browser, lone.url, lone.token(`alice-${run}`), { nodes: others });
  people.push(alice);
  assert.equal(await alice.connected(), lone.name);
  await alice.create("Without a balancer");
  await alice.say("before");
  await alice.sees("before");
  await lone.kill();
  await alice.say("after");
  await alice.sees("after");
  await journey(alice, /resumed on .* 0 lost · 0 repeated/);
  assert.notEqual(await alice.connected(), lone.name);
});

test("who is opened as another person goes to the nodes of their own link, and to none of this tab's", async () => {
  // A link from somebody else: this token and this node are theirs.
  const foreign = `http://127.0.0.1:${await freePort()}`;
  const alice = await Person.open(browser, nodes.a.url, nodes.a.token(`alice-${run}`), { nodes: [foreign] });
  people.push(alice);
  await alice.connected();
  const token = nodes.a.token(`bob-${run}`);
  const link = `${nodes.a.url}/#${new URLSearchParams([["token", token], ["node", nodes.b.url], ["node", nodes.c.url]])}`;
  for (const [pasted, expected] of [[token, []], [`${nodes.a.url}/#token=${token}`, []], [link, [nodes.b.url, nodes.c.url]]]) {
    const opening = alice.page.context().waitForEvent("page");
    await alice.page.click("#other-person");
    await alice.page.fill("#person-token", pasted);
    await alice.page.click('#person-form [type="submit"]');
    const bob = await opening;
    await bob.locator('#pill[data-state="connected"]').waitFor();
    assert.equal(await bob.locator("[data-me]").first().textContent(), `bob-${run}`);
    assert.deepEqual(JSON.parse(await bob.evaluate(() => sessionStorage.getItem("starling.nodes"))), expected);
  }
});

test("an operator's page learns from its node where the others are", async () => {
  const [x, y] = [await freePort(), await freePort()];
  const lone = await addNode("x", { STARLING_ADDRESS: `127.0.0.1:${x}` }, x);
  await addNode("y", { STARLING_ADDRESS: `http://127.0.0.1:${y}` }, y);
  const admin = await Person.open(browser, lone.url, lone.token(`admin-${run}`, ADMIN));
  people.push(admin);
  assert.equal(await admin.connected(), lone.name);
  await admin.page.click("#tab-nodes");
  await admin.page.locator(".node h3", { hasText: nodes.y.name }).waitFor();
  await lone.kill();
  await until(async () => (await admin.connected()) !== lone.name, "the page is at another node");
});

test("what people write is text, never markup", async () => {
  const [alice, bob] = await twoInARoom(`<img src=x onerror="document.title='owned'">`);
  const nasty = `<script>document.title = "owned"</script><b>bold</b>`;
  await alice.say(nasty);
  await bob.sees("<b>bold</b>");
  assert.deepEqual(await bob.messages(), [[1, nasty]]);
  assert.equal(await bob.page.locator("#messages b, #messages script, .room img").count(), 0);
  assert.equal(await bob.page.title(), `${bob.user} · Starling`);
});

test("the page keeps to itself: a strict policy, no other host, no token in sight", async () => {
  const alice = await person("alice", "abc");
  const origin = new URL(alice.page.url()).origin;
  assert.equal(alice.page.url(), `${origin}/`);
  assert.deepEqual(alice.requests.filter((url) => !url.startsWith(origin)), []);
  for (const path of ["/", "/console/console.js", "/console/starling.svg", "/starling.js", "/starling/connection.js"]) {
    const response = await fetch(origin + path);
    assert.equal(response.status, 200, path);
    assert.match(response.headers.get("content-security-policy"), /default-src 'self'/, path);
    assert.doesNotMatch(response.headers.get("content-security-policy"), /unsafe/, path);
    assert.equal(response.headers.get("x-content-type-options"), "nosniff", path);
  }
});

test("without a token, or with a bad one, it asks for one", async () => {
  const nobody = await Person.open(browser, nodes.a.url);
  const stranger = await Person.open(browser, nodes.a.url, "e30.eyJzdWIiOiJ4In0.AAAA");
  people.push(nobody, stranger);
  await nobody.page.locator("#sign-in").waitFor();
  await stranger.page.locator("#sign-in-why", { hasText: "not accepted" }).waitFor();
  await stranger.page.fill("#token", nodes.a.token(`dave-${run}`));
  await stranger.page.click('#sign-in [type="submit"]');
  await stranger.connected();
});

test("an operator sees the nodes live, others are told what it takes", async () => {
  const admin = await person("admin", "abc", { scope: ADMIN });
  await admin.page.click("#tab-nodes");
  for (const name of ["a", "b", "c"]) await admin.page.locator(".node h3", { hasText: nodes[name].name }).waitFor();
  await admin.page.locator(".node", { hasText: nodes.a.name }).locator(".mine", { hasText: "you are here" }).waitFor();
  await until(async () => (await admin.page.locator('.charts .line:not([d=""])').count()) >= 2, "the charts have lines");
  await admin.page.locator(".charts .chart", { hasText: "Messages per second" }).locator(".scale.top", { hasText: "/s" }).waitFor();
  await admin.page.locator(".charts .chart", { hasText: "Round trip" }).locator(".scale.top", { hasText: /^\d+(\.\d+)? m?s$/ }).waitFor();
  await admin.page.locator(".charts .chart", { hasText: "Connections" }).locator(".scale.past", { hasText: "1 min ago" }).waitFor();
  const values = await admin.page.locator(".node dd").allTextContents();
  assert.deepEqual(values.filter((value) => /^0(\.0)? m?s$/.test(value)), [], "no delivery is no time");
  const alice = await person("alice", "abc");
  await alice.page.click("#tab-nodes");
  await alice.page.locator(".notice", { hasText: "scope admin" }).waitFor();
});

test("all of it works by keyboard", async () => {
  const alice = await person("alice", "abc");
  const { keyboard } = alice.page;
  await alice.page.focus("#new-room");
  await keyboard.press("Enter");
  await keyboard.type("By keyboard");
  await keyboard.press("Enter");
  await alice.page.locator("#thread-name", { hasText: "By keyboard" }).waitFor();
  await until(() => alice.page.evaluate(() => document.activeElement.id === "draft"), "the draft has the focus");
  await keyboard.type("two");
  await keyboard.press("Shift+Enter");
  await keyboard.type("lines");
  await keyboard.press("Enter");
  await alice.sees("two\nlines");
  await keyboard.press("Escape");
  const focused = () => alice.page.evaluate(() => document.activeElement.innerText);
  await until(async () => /By keyboard/.test(await focused()), "the focus is back in the list");
  await keyboard.press("ArrowDown");
  assert.doesNotMatch(await focused(), /By keyboard/);
  await keyboard.press("Home");
  await keyboard.press("Enter");
  await alice.page.locator("#thread-name", { hasText: "By keyboard" }).waitFor();
  const unnamed = await alice.page.evaluate(() =>
    [...document.querySelectorAll("button, input, textarea")]
      .filter((control) => !(control.ariaLabel || control.labels?.length || control.innerText || control.textContent.trim()))
      .map((control) => control.outerHTML),
  );
  assert.deepEqual(unnamed, []);
});

for (const colorScheme of ["light", "dark"]) {
  test(`it fits a phone, ${colorScheme}`, async () => {
    const phone = await person("phone", "abc", { viewport: { width: 360, height: 640 }, colorScheme, isMobile: true, hasTouch: true, scope: ADMIN });
    const fits = async (where) => {
      assert.deepEqual(await phone.overflowing(), [], where);
      assert.ok((await phone.page.evaluate(() => document.documentElement.scrollWidth)) <= 360, where);
    };
    await fits("the list");
    await phone.create(`A title that is rather long for such a narrow screen, ${colorScheme}`);
    await phone.say("a-word-without-any-place-to-break-".repeat(8));
    await phone.sees("a-word");
    await fits("the conversation");
    await phone.page.click("#back");
    await phone.page.locator(".room").first().waitFor();
    await phone.page.click("#tab-nodes");
    await phone.page.locator(".node").first().waitFor();
    await fits("the nodes");
    const paper = await phone.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.equal(paper, colorScheme === "dark" ? "rgb(17, 19, 27)" : "rgb(244, 242, 236)");
    await phone.page.click("#theme");
    assert.notEqual(await phone.page.evaluate(() => getComputedStyle(document.body).backgroundColor), paper);
  });
}

test("the client module in the browser: cut again and again, everything once and in order", async () => {
  const alice = await person("alice", "abc");
  const token = nodes.a.token(alice.user);
  const seen = await alice.page.evaluate(async (token) => {
    const { Starling } = await import("/starling.js");
    const [reader, writer] = [1, 2].map(() => new Starling({ url: location.origin, token, backoffBaseMs: 20 }));
    const seen = [];
    reader.on("message", ({ seq }) => seen.push(seq));
    await Promise.all([reader.connect(), writer.connect()]);
    const { conversation } = await writer.create({ title: "Module" });
    await reader.join(conversation);
    for (let round = 0; round < 5; round++) {
      const sends = Array.from({ length: 20 }, (_, i) => writer.send(conversation, `${round}/${i}`));
      reader.cut();
      if (round % 2) writer.cut();
      await Promise.all(sends);
    }
    while (seen.length < 100) await new Promise((resolve) => reader.on("message", resolve));
    reader.close();
    writer.close();
    return seen;
  }, token);
  assert.deepEqual(seen, Array.from({ length: 100 }, (_, i) => i + 1));
});

test("a page of another origin: all of the client works where it is allowed, and where not it says why", async () => {
  const alice = await person("alice", "abc");
  const { origin } = new URL(alice.page.url());
  await addNode("p", { STARLING_ALLOWED_ORIGINS: origin });
  await addNode("q", { STARLING_ALLOWED_ORIGINS: "https://elsewhere.example" });
  const tried = (url) => alice.page.evaluate(async ([url, token]) => {
    const { Starling } = await import("/starling.js");
    const client = new Starling({ url, token, connectAttempts: 2, backoffBaseMs: 20 });
    try {
      await client.connect();
      const { conversation } = await client.create({ title: "From elsewhere" });
      await client.rename(conversation, "By a page of another origin");
      const { members } = await client.addMember(conversation, "bob");
      const { conversations } = await client.list({ limit: 200 });
      const { title } = conversations.find((one) => one.conversation === conversation);
      await client.delete(conversation);
      return { title, members };
    } catch ({ code, message }) {
      return { code, message };
    } finally {
      client.close();
    }
  }, [url, nodes.a.token(alice.user)]);
  assert.deepEqual(await tried(nodes.p.url), { title: "By a page of another origin", members: [alice.user, "bob"] });
  const refused = await tried(nodes.q.url);
  assert.equal(refused.code, "forbidden");
  assert.match(refused.message, new RegExp(`allowed_origins`));
  assert.ok(refused.message.includes(origin), refused.message);
});

/** Calls the HTTP API as this user or another one, at the page's own origin. */
async function call(someone, method, path, body, user = someone.user) {
  const token = nodes.a.token(user);
  const response = await fetch(new URL(path, someone.page.url()), {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body && { "content-type": "application/json" }) },
    body: body && JSON.stringify(body),
  });
  assert.ok(response.ok, `${method} ${path}: ${response.status}`);
  return response.status === 204 ? undefined : response.json();
}
const get = (someone, path) => call(someone, "GET", path);
const post = (someone, path, body) => call(someone, "POST", path, body);
