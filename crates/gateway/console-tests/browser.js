/** A real Chromium, and what a person does in it. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
const DEADLINE_MS = 20_000;

export async function startBrowser() {
  const executablePath = process.env.CHROMIUM_BIN ?? "/usr/bin/chromium";
  assert.ok(existsSync(executablePath), `no browser at ${executablePath}: install the package chromium, or set CHROMIUM_BIN`);
  return chromium.launch({ executablePath, args: FLAGS });
}

/** One person with a window of their own; everything that goes wrong in it is collected in `faults`. */
export class Person {
  faults = [];
  requests = [];

  static async open(browser, url, token, options = {}) {
    const person = new Person();
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    context.setDefaultTimeout(DEADLINE_MS);
    person.page = await context.newPage();
    person.page.on("pageerror", (error) => person.faults.push(error.stack));
    person.page.on("console", (message) => {
      // A killed node's refused connections are what those tests are about.
      if (message.type() === "error" && !/ERR_CONNECTION|ERR_EMPTY_RESPONSE|WebSocket connection to|status of 40[13]/.test(message.text())) {
        person.faults.push(message.text());
      }
    });
    person.page.on("request", (request) => person.requests.push(request.url()));
    await person.page.goto(token ? `${url}/#${new URLSearchParams({ token })}` : url);
    return person;
  }

  /** Waits until connected; answers with the node's name. */
  async connected() {
    await this.page.locator('#pill[data-state="connected"]').waitFor();
    return this.page.locator("#pill-node").textContent();
  }

  async create(title, ...members) {
    await this.page.click("#new-room");
    await this.page.fill("#room-title", title);
    await this.page.fill("#room-members", members.join(" "));
    await this.page.click('#room-form [type="submit"]');
    await this.page.locator("#room-dialog").waitFor({ state: "hidden" });
    await this.page.locator("#thread-name", { hasText: title }).waitFor();
  }

  async openRoom(title) {
    await this.page.locator(".room", { hasText: title }).click();
    await this.page.locator("#thread-name", { hasText: title }).waitFor();
  }

  async say(text) {
    await this.page.fill("#draft", text);
    await this.page.press("#draft", "Enter");
  }

  /** Waits until this text stands in the conversation as a committed message. */
  async sees(text) {
    await this.page.locator(".message[data-seq] .content", { hasText: text }).last().waitFor();
  }

  /** Numbers and texts as they stand on the page, from top to bottom. */
  messages() {
    return this.page.locator(".message[data-seq]").evaluateAll((items) =>
      items.map((item) => [Number(item.dataset.seq), item.querySelector(".content").textContent]),
    );
  }

  async close() {
    await this.page.context().close();
  }
}
