/** The pages of webhooks in a real browser, with a real node and a real backend. Needs STARLING_BIN (the program) and a Chromium. */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { until } from "../../../clients/js/test/waiting.js";
import { startBackend, Work } from "./work-node.js";

let work, backend, webhook;

before(async () => {
  work = await Work.start();
});
after(() => work?.stop());
beforeEach(async () => {
  backend = await startBackend();
  webhook = (await work.call("POST", "/v1/webhooks", { url: `${backend.url}/hook`, events: ["conversation.created"] })).webhook;
});
afterEach(async () => {
  await work.call("DELETE", `/v1/webhooks/${webhook}`);
  backend.stop();
  await work.closePages();
});

async function shows(scope, selector, text) {
  await scope.locator(selector).filter({ hasText: text }).first().waitFor();
}

let conversations = 0;

/** Makes something happen of which the webhook is told. Returns the conversation's name. */
async function happen() {
  const conversation = `c-${++conversations}`;
  await work.call("POST", "/v1/conversations", { conversation });
  return conversation;
}

const card = (page) => page.locator(`[data-webhook="${webhook}"]`);

test("webhooks are shown with their states and last answers, and a test is sent", async () => {
  const { page } = await work.open("#/webhooks");
  await shows(card(page), "h3 a", `${backend.url}/hook`);
  await card(page).locator(".tag:visible", { hasText: "active" }).waitFor();
  await shows(card(page), ".hint", "conversation.created");
  await shows(card(page), ".hint", "No attempt yet");
  await card(page).getByRole("button", { name: "Send a test" }).click();
  await shows(card(page), ".outcome", "A test is on its way.");
  await shows(card(page), '.answer[data-tone="good"]', "204");
  assert.equal(backend.received[0].type, "webhook.test");

  backend.answer = { status: 503, body: "busy" };
  await happen();
  await shows(card(page), '.answer[data-tone="bad"]', "503");
  await card(page).locator(".tag:visible", { hasText: "failing" }).waitFor();
  await shows(card(page), ".hint", "1 delivery waiting");
  assert.match(await card(page).locator(".answer").first().getAttribute("title"), /^conversation\.created: .*503/);
});

test("a paused webhook keeps its deliveries until it is resumed", async () => {
  const { page } = await work.open("#/webhooks");
  await card(page).getByRole("button", { name: "Pause" }).click();
  await card(page).locator(".tag:visible", { hasText: "paused" }).waitFor();
  assert.equal((await work.call("GET", `/v1/webhooks/${webhook}`)).state, "paused");
  assert.equal(await card(page).getByRole("button", { name: "Send a test" }).isDisabled(), true);
  const conversation = await happen();
  await shows(card(page), ".hint", "1 delivery waiting");
  assert.deepEqual(backend.received, []);
  await card(page).getByRole("button", { name: "Resume" }).click();
  await shows(card(page), ".outcome", "what it has missed is sent now");
  await until(() => backend.received.length === 1, "the event arrives");
  assert.equal(backend.received[0].data.conversation, conversation);
  await shows(card(page), ".answer", "204");
});

test("a delivery is shown with its answer and what was sent, and is sent again", async () => {
  backend.answer = { status: 200, body: '{"thanks":true}' };
  const conversation = await happen();
  const { page } = await work.open("#/webhooks");
  await card(page).locator("h3 a").click();
  const view = page.locator("#view-webhook");
  await shows(view, "h2", `${backend.url}/hook`);
  const row = view.locator(".rows li").first();
  await row.locator(".tag", { hasText: "delivered" }).waitFor();
  await shows(row, ".row-note", "answered 200");
  await row.locator("summary").click();
  await shows(row, "pre", '"thanks": true');
  await shows(row, "pre", `"conversation": "${conversation}"`);
  await shows(row, "dd", "200");
  await row.getByRole("button", { name: "Send again" }).click();
  await shows(view, ".outcome", "The event is sent again.");
  await until(() => backend.received.length === 2, "it arrives again");
  assert.deepEqual(backend.received[0], backend.received[1]);
  assert.equal(await row.locator("details").evaluate((details) => details.open), true, "it stays open while the list changes");

  backend.answer = { status: 500, body: "<h1>no</h1>" };
  await view.getByRole("button", { name: "Send a test" }).click();
  const newest = view.locator(".rows li", { hasText: "webhook.test" });
  await shows(newest, ".row-note", "500");
  await newest.locator("summary").press("Enter");
  await shows(newest, "pre", "<h1>no</h1>");
  assert.equal(await newest.getByRole("button", { name: "Send again" }).isVisible(), false, "it waits for another attempt");
  assert.equal(await view.locator("h1").count(), 0);

  await newest.locator("summary").focus();
  await page.keyboard.press("ArrowDown");
  assert.match(await page.evaluate(() => document.activeElement.textContent), /conversation\.created/);
  await page.keyboard.press("Escape");
  await page.locator("#view-webhooks").waitFor();
});

test("what backends answer is text", async () => {
  const nasty = `<img src=x onerror="document.title='owned'">\u202e<script>document.title='owned'</script>`;
  backend.answer = { status: 200, body: nasty };
  const { page } = await work.open(`#/webhooks/${webhook}`);
  const view = page.locator("#view-webhook");
  const title = await page.title();
  await shows(view, ".notice", "Nothing was sent");
  await view.getByRole("button", { name: "Send a test" }).click();
  await view.locator(".rows summary").click();
  await shows(view, "pre", "⟨U+202E⟩<script>");
  assert.equal(await page.locator("main img[src='x'], main script").count(), 0);
  assert.equal(await page.title(), title);
});

test("nobody sees webhooks without the scope, and a webhook that is gone is told so", async () => {
  const user = await work.open("#/webhooks", { scope: "jobs:* operate", user: "alice" });
  await shows(user.page, "#view-webhooks .notice", "a token with the scope webhooks");
  await user.page.evaluate((hash) => (location.hash = hash), `#/webhooks/${webhook}`);
  await shows(user.page, "#view-webhook .notice", "a token with the scope webhooks");

  const { page } = await work.open(`#/webhooks/${webhook}`, { scope: "webhooks" });
  await shows(page, "#view-webhook h2", backend.url);
  const other = (await work.call("POST", "/v1/webhooks", { url: backend.url, events: ["*"] })).webhook;
  await page.evaluate((hash) => (location.hash = hash), `#/webhooks/${other}`);
  await shows(page, "#view-webhook .hint", "all events");
  await work.call("DELETE", `/v1/webhooks/${other}`);
  await shows(page, "#view-webhook .notice", "does not exist, or does not any more");
  assert.equal(await page.locator("#view-webhook .rows").isVisible(), false);
});

for (const colorScheme of ["light", "dark"]) {
  test(`webhooks fit a phone and are easy to read, ${colorScheme}`, async () => {
    const url = `${backend.url}/${"a-long-path-without-end-".repeat(12)}`;
    const long = (await work.call("POST", "/v1/webhooks", { url, events: ["*"], ordered: true })).webhook;
    backend.answer = { status: 503, body: "a-long-answer-without-end-".repeat(20) };
    await work.call("POST", `/v1/webhooks/${long}/test`, {});
    await happen();
    for (const viewport of [{ width: 360, height: 640 }, { width: 1280, height: 800 }]) {
      const isMobile = viewport.width < 500;
      const someone = await work.open("#/webhooks", { viewport, colorScheme, isMobile, hasTouch: isMobile });
      await someone.page.locator(".answer").first().waitFor();
      assert.deepEqual(await someone.overflowing(), [], `the list at ${viewport.width}`);
      assert.deepEqual(await someone.pale(), [], `the list at ${viewport.width}`);
      await someone.page.evaluate((hash) => (location.hash = hash), `#/webhooks/${long}`);
      await someone.page.locator(".rows summary").first().click();
      await someone.page.locator(".rows pre").nth(1).waitFor();
      assert.deepEqual(await someone.overflowing(), [], `one at ${viewport.width}`);
      assert.deepEqual(await someone.pale(), [], `one at ${viewport.width}`);
    }
    await work.call("DELETE", `/v1/webhooks/${long}`);
  });
}
