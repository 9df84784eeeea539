/** The pages of queues and jobs in a real browser, on a real node. Needs STARLING_BIN (the program) and a Chromium. */
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { until } from "../../../clients/js/test/waiting.js";
import { Work } from "./work-node.js";

let work;

before(async () => {
  work = await Work.start();
});
after(() => work?.stop());
afterEach(() => work.closePages());

/** Waits until an element has this text. */
async function shows(scope, selector, text) {
  await scope.locator(selector).filter({ hasText: text }).first().waitFor();
}

const queueCard = (page, name) => page.locator(`[data-queue="${name}"]`);

test("an operator sees the queues live, and pauses and resumes one", async () => {
  const { page } = await work.open("#/queues");
  await shows(page, ".notice", "No queue has jobs");
  for (let number = 0; number < 3; number++) await work.add("mail");
  await work.add("mail", { delay_seconds: 600 });
  await work.addFailed("broken", 1);
  const mail = queueCard(page, "mail");
  await shows(mail, "strong", /^3$/);
  await shows(mail, ".hint", "the first has waited");
  await mail.getByLabel("1 scheduled in mail").waitFor();
  await queueCard(page, "broken").locator(".alarming", { hasText: "1" }).waitFor();
  assert.equal(await page.locator(".notice", { hasText: "No queue has jobs" }).isVisible(), false);

  const taken = await work.take("mail");
  await mail.getByLabel("1 running in mail").waitFor();
  await shows(mail, "strong", /^2$/);
  await work.done(taken);
  await mail.getByLabel("1 done in mail").waitFor();
  await shows(mail, "dl div", /done \/s0\.0[12]/);
  await until(async () => (await page.locator('#view-queues .charts .line:not([d=""])').count()) === 4, "the charts have lines");

  assert.equal(await mail.locator(".limits").isVisible(), false);
  await work.limit("mail", { total: { concurrency: 20 }, per_key: { concurrency: 1, per_second: 2.5 } });
  await shows(mail, ".limits", "at most 20 at once; of each key 1 at once and 2.5 per second");

  await mail.getByRole("button", { name: "Pause mail" }).click();
  await mail.locator(".tag", { hasText: "paused" }).waitFor();
  assert.deepEqual((await work.call("POST", "/v1/queues/mail/take", {})).jobs, []);
  await mail.getByRole("button", { name: "Resume mail" }).click();
  await mail.getByRole("button", { name: "Pause mail" }).waitFor();
  await work.done(await work.take("mail"));

  await mail.getByLabel("1 scheduled in mail").click();
  await page.locator("#view-jobs .rows li").first().waitFor();
  assert.equal(await page.locator("#jobs-queue").inputValue(), "mail");
  assert.equal(await page.locator("#jobs-state").inputValue(), "scheduled");
});

test("jobs are filtered by queue, state and kind, and pages are turned", async () => {
  const { page } = await work.open("#/jobs");
  for (let number = 0; number < 60; number++) await work.add("many", { kind: number % 2 ? "odd" : "even" });
  await work.add("few");
  const rows = page.locator("#view-jobs .rows li");
  await page.locator("#jobs-queue option", { hasText: "many" }).waitFor({ state: "attached" });
  await page.selectOption("#jobs-queue", "many");
  await until(async () => (await rows.count()) === 50, "a page of fifty");
  await page.getByRole("button", { name: "Older" }).click();
  await until(async () => (await rows.count()) === 10, "the rest");
  await page.getByRole("button", { name: "Newer" }).click();
  await until(async () => (await rows.count()) === 50, "the first page again");
  await page.fill("#jobs-kind", "odd");
  await page.press("#jobs-kind", "Enter");
  await until(async () => (await rows.count()) === 30, "those of a kind");
  assert.match(page.url(), /#\/jobs\?queue=many&kind=odd$/);
  await page.selectOption("#jobs-state", "failed");
  await shows(page, "#view-jobs .notice", "No job matches");
  await page.goBack();
  await until(async () => (await rows.count()) === 30, "Back undoes the last choice");
  await page.reload();
  await until(async () => (await rows.count()) === 30, "a reload shows the same");
  await page.getByRole("button", { name: "Clear" }).click();
  await until(async () => (await page.locator("#jobs-queue").inputValue()) === "", "all queues");
  await shows(page, ".row-note", "few");
});

test("a job is shown with its attempts, errors and times, and follows what happens to it", async () => {
  const job = await work.add("reports", { kind: "monthly", payload: { month: 11 }, attempts: 2, backoff_seconds: 0 });
  const { page } = await work.open(`#/jobs/${job}`);
  const view = page.locator("#view-job");
  const state = view.locator(".title-row .tag");
  await shows(view, "h2", "monthly");
  await shows(view, ".facts", "reports");
  await shows(view, "pre", '"month": 11');
  await state.filter({ hasText: "ready" }).waitFor();
  await shows(view, ".hint", "No worker has had it yet");

  await work.fail(await work.take("reports"), "the printer is on fire");
  const first = view.locator(".attempt").filter({ hasText: "Attempt 1" });
  await first.locator(".tag", { hasText: "failed" }).waitFor();
  await shows(first, "pre", "the printer is on fire");
  await shows(first, ".hint", "took");
  const taken = await work.take("reports");
  await state.filter({ hasText: "running" }).waitFor();
  await view.locator(".attempt").filter({ hasText: "Attempt 2" }).filter({ hasText: "by a-worker" }).waitFor();
  await work.fail(taken, "still on fire");
  await state.filter({ hasText: "failed" }).waitFor();
  assert.deepEqual(await view.locator(".attempt strong").allTextContents(), ["Attempt 2", "Attempt 1"]);

  await view.getByRole("button", { name: "Retry" }).click();
  await shows(view, ".outcome", "The job is ready");
  await work.done(await work.take("reports"), { pages: 3 });
  await state.filter({ hasText: "done" }).waitFor();
  await shows(view.getByLabel("Result", { exact: true }).first(), "pre", '"pages": 3');
  await shows(view, ".facts", "Took in all");
  assert.equal(await view.getByRole("button", { name: "Retry" }).isVisible(), false, "it can't be retried");

  await view.getByRole("button", { name: "Discard" }).click();
  await page.click("#confirm-dialog [data-close]");
  assert.equal((await work.call("GET", `/v1/jobs/${job}`)).state, "done", "nothing happened");
  await view.getByRole("button", { name: "Discard" }).click();
  await page.click("#confirm-do");
  await page.locator("#view-jobs").waitFor();
  await page.evaluate((hash) => (location.hash = hash), `#/jobs/${job}`);
  await shows(view, ".notice", "does not exist");
});

test("a job is cancelled after a question", async () => {
  const job = await work.add("slow");
  const taken = await work.take("slow");
  const { page } = await work.open(`#/jobs/${job}`);
  await page.locator("#view-job").getByRole("button", { name: "Cancel" }).click();
  await shows(page, "#confirm-text", "loses it");
  await page.click("#confirm-do");
  await page.locator("#view-job .title-row .tag", { hasText: "cancelled" }).waitFor();
  await assert.rejects(work.done(taken), /409/);
});

test("all that match are acted on after a question that names their number", async () => {
  await work.addFailed("bulk", 5, { kind: "a" });
  await work.addFailed("bulk", 2, { kind: "b" });
  const { page } = await work.open("#/jobs?queue=bulk");
  await shows(page, ".bulk .hint", "Choose a queue and a state");
  await page.selectOption("#jobs-state", "failed");
  await page.fill("#jobs-kind", "a");
  await page.press("#jobs-kind", "Enter");
  const rows = page.locator("#view-jobs .rows li");
  await until(async () => (await rows.count()) === 5, "those that match");
  await page.getByRole("button", { name: "Retry all" }).click();
  await shows(page, "#confirm-title", "Retry 5 jobs?");
  await shows(page, "#confirm-text", "of the queue bulk that are failed, of the kind a");
  await page.click("#confirm-dialog [data-close]");
  assert.equal((await work.call("GET", "/v1/jobs/count?queue=bulk&state=failed")).count, 7, "nothing happened");
  await page.getByRole("button", { name: "Retry all" }).click();
  await page.click("#confirm-do");
  await shows(page, ".outcome", "5 jobs ready again.");
  await shows(page, "#view-jobs .notice", "No job matches");
  assert.equal((await work.call("GET", "/v1/jobs/count?queue=bulk&state=ready")).count, 5);
  assert.equal((await work.call("GET", "/v1/jobs/count?queue=bulk&state=failed&kind=b")).count, 2, "the others are as they were");

  await page.getByRole("button", { name: "Clear" }).click();
  await page.selectOption("#jobs-queue", "bulk");
  await page.selectOption("#jobs-state", "ready");
  await page.getByRole("button", { name: "Cancel all" }).click();
  await shows(page, "#confirm-do", "Cancel 5 jobs");
  await page.click("#confirm-do");
  await shows(page, ".outcome", "5 jobs cancelled.");
  await page.selectOption("#jobs-state", "cancelled");
  await page.getByRole("button", { name: "Discard all" }).click();
  await page.click("#confirm-do");
  await shows(page, ".outcome", "5 jobs discarded.");
  assert.equal((await work.call("GET", "/v1/jobs/count?queue=bulk")).count, 2);
});

test("text from outside is text, and nothing in it is hidden or reordered", async () => {
  const nasty = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;
  const payload = `{"markup": ${JSON.stringify(nasty)}, "turned": "a\u202eb\u200bc", "id": 12345678901234567890}`;
  await work.call("POST", "/v1/jobs", `{"queue": "nasty", "attempts": 1, "payload": ${payload}}`);
  await work.fail(await work.take("nasty"), `${nasty}\u202e\u0007 the end`);
  const person = await work.open("#/jobs?queue=nasty");
  const { page } = person;
  const title = await page.title();
  await shows(page, ".row-trouble", "<img src=x");
  await shows(page, ".row-trouble", "⟨U+202E⟩⟨U+0007⟩ the end");
  await page.locator("#view-jobs .rows a").click();
  const view = page.locator("#view-job");
  await shows(view, "pre", "a⟨U+202E⟩b⟨U+200B⟩c");
  await shows(view, "pre", '"id": 12345678901234567890');
  await shows(view, ".attempt pre", "<script>document.title");
  assert.equal(await page.locator("main img[src='x'], main script").count(), 0);
  assert.equal(await page.title(), title);

  const { job: long } = await work.call("POST", "/v1/jobs", { queue: "nasty", payload: "x".repeat(200_000) });
  await page.evaluate((hash) => (location.hash = hash), `#/jobs/${long}`);
  await until(async () => (await view.locator("pre").last().textContent()).length === 20_000, "the first part");
  await view.getByRole("button", { name: "Show all 200,002 characters" }).click();
  assert.equal((await view.locator("pre").last().textContent()).length, 200_002);
  for (const [hash, where] of [
    ["#/jobs/%3Cimg%20src%3Dx%3E", "#view-job .notice"],
    ["#/jobs?queue=%22%3E%3Cb%3E", "#view-jobs .notice"],
    ["#/jobs/..%2F..%2Fv1%2Fnodes", "#view-job .notice"],
    ["#/jobs/%E0%A4%A", "#view-chat"],
  ]) {
    await page.evaluate((hash) => (location.hash = hash), hash);
    await shows(page, where, /refused|does not exist|Conversations/);
  }
  assert.equal(await page.locator("main img[src='x'], main b").count(), 0);
  assert.equal(await page.title(), title);
  // Browsers report what was refused.
  person.faults = person.faults.filter((fault) => !/status of 400/.test(fault));
});

test("who may not see queues or jobs is told what it takes", async () => {
  const user = await work.open("#/queues", { scope: "conversations:create", user: "alice" });
  await shows(user.page, "#view-queues .notice", "a token with the scope operate or jobs:*");
  await shows(user.page, "#view-queues .notice", 'starling token --user alice --scope "operate"');
  await user.page.click("#tab-jobs");
  await shows(user.page, "#view-jobs .notice", "a token with the scope jobs:*");
  assert.equal(await user.page.locator(".bulk").isVisible(), false);

  await work.add("open");
  const operator = await work.open("#/queues", { scope: "operate" });
  await queueCard(operator.page, "open").getByRole("button", { name: "Pause open" }).click();
  await queueCard(operator.page, "open").getByRole("button", { name: "Resume open" }).click();
  await queueCard(operator.page, "open").locator("h3 a").click();
  await shows(operator.page, "#view-jobs .notice", "a token with the scope jobs:*");

  await work.add("closed");
  const clerk = await work.open("#/jobs", { scope: "jobs:open" });
  await until(async () => (await clerk.page.locator("#view-jobs .rows li").count()) === 1, "the jobs of one queue");
  const own = await clerk.page.locator("#jobs-queue option").allTextContents();
  assert.deepEqual(own, ["all queues", "open"]);
});

test("all of it works by keyboard", async () => {
  await work.add("keys", { kind: "older" });
  await work.add("keys", { kind: "newer" });
  const { page } = await work.open("#/jobs?queue=keys");
  const { keyboard } = page;
  await page.locator("#view-jobs .rows a").nth(1).waitFor();
  await page.locator("#view-jobs .rows a").first().focus();
  const focused = () => page.evaluate(() => document.activeElement.textContent);
  await keyboard.press("ArrowDown");
  assert.match(await focused(), /older/);
  await keyboard.press("Home");
  assert.match(await focused(), /newer/);
  await work.add("keys", { kind: "newest" });
  await shows(page, ".row-title", "newest");
  assert.match(await focused(), /newer/, "the focus stays where it was when the list changes");
  await keyboard.press("Enter");
  await shows(page, "#view-job h2", "newer");
  await until(async () => /newer/.test(await focused()), "the heading has the focus");
  await page.locator("#view-job").getByRole("button", { name: "Discard" }).focus();
  await keyboard.press("Enter");
  await page.locator("#confirm-dialog").waitFor();
  await keyboard.press("Escape");
  await page.locator("#confirm-dialog").waitFor({ state: "hidden" });
  assert.equal(await page.locator("#view-job").isVisible(), true, "the job is still open");
  await keyboard.press("Escape");
  await page.locator("#view-jobs").waitFor();
  assert.match(page.url(), /#\/jobs\?queue=keys$/);
  const unnamed = await page.evaluate(() =>
    [...document.querySelectorAll("button, input, select, textarea, summary, a")]
      .filter((control) => !(control.ariaLabel || control.labels?.length || control.innerText || control.textContent.trim()))
      .map((control) => control.outerHTML),
  );
  assert.deepEqual(unnamed, []);
});

for (const colorScheme of ["light", "dark"]) {
  test(`queues and jobs fit a phone and are easy to read, ${colorScheme}`, async () => {
    await work.addFailed("a-queue-with-a-name-that-is-as-long-as-names-of-queues-may-hardly-be-in-practice", 1, { kind: "k".repeat(90) });
    const job = await work.add("mail", { kind: "k".repeat(90), payload: { url: "https://example.com/".repeat(20) } });
    for (const viewport of [{ width: 360, height: 640 }, { width: 1280, height: 800 }]) {
      const isMobile = viewport.width < 500;
      const someone = await work.open("#/queues", { viewport, colorScheme, isMobile, hasTouch: isMobile });
      for (const [view, loaded] of [["#/queues", ".queue"], ["#/jobs", ".rows li"], [`#/jobs/${job}`, "pre"]]) {
        await someone.page.evaluate((hash) => (location.hash = hash), view);
        await someone.page.locator(`main > section:not([hidden]) ${loaded}`).first().waitFor();
        assert.deepEqual(await someone.overflowing(), [], `${view} at ${viewport.width}`);
        assert.deepEqual(await someone.pale(), [], `${view} at ${viewport.width}`);
      }
    }
  });
}

test("a page whose node is gone says so, and keeps what it knew", async () => {
  const lonely = await Work.start();
  try {
    await lonely.add("mail");
    const { page } = await lonely.open("#/queues");
    await queueCard(page, "mail").waitFor();
    await lonely.kill();
    await shows(page, "#view-queues .notice", "do not respond right now. Trying again. What you see is from");
    assert.equal(await queueCard(page, "mail").isVisible(), true);
  } finally {
    await lonely.stop();
  }
});
