/** A real Chromium and the actions of a user in it. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
// Nothing is slower because of it: it only ends what hangs. On a busy machine a page may take half a minute.
const DEADLINE_MS = 120_000;

export async function startBrowser() {
  const executablePath = process.env.CHROMIUM_BIN ?? "/usr/bin/chromium";
  assert.ok(existsSync(executablePath), `no browser at ${executablePath}: install the package chromium, or set CHROMIUM_BIN`);
  return chromium.launch({ executablePath, args: FLAGS });
}

/** A user with their own window. Everything that goes wrong in it is collected in `faults`. */
export class Person {
  faults = [];
  requests = [];

  /** `nodes` are further addresses in the link. */
  static async open(browser, url, token, { nodes = [], ...options } = {}) {
    const person = new Person();
    // Without a graphics card, animations would take most of the processor time of these tests.
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: "reduce", ...options });
    context.setDefaultTimeout(DEADLINE_MS);
    person.page = await context.newPage();
    person.page.on("pageerror", (error) => person.faults.push(error.stack));
    person.page.on("console", (message) => {
      // These tests kill nodes, so refused connections are expected.
      if (message.type() === "error" && !/ERR_CONNECTION|ERR_EMPTY_RESPONSE|WebSocket connection to|status of (40[134]|426)|CORS policy|ERR_FAILED/.test(message.text())) {
        person.faults.push(message.text());
      }
    });
    person.page.on("request", (request) => person.requests.push(request.url()));
    const link = new URLSearchParams([["token", token], ...nodes.map((node) => ["node", node])]);
    await person.page.goto(token ? `${url}/#${link}` : url);
    return person;
  }

  /** Waits until connected; resolves with the node's name. */
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

  /** Waits until this text is in the conversation as a committed message. */
  async sees(text) {
    await this.page.locator(".message[data-seq] .content", { hasText: text }).last().waitFor();
  }

  /** Returns the numbers and texts on the page, from top to bottom. */
  messages() {
    return this.page.locator(".message[data-seq]").evaluateAll((items) =>
      items.map((item) => [Number(item.dataset.seq), item.querySelector(".content").textContent]),
    );
  }

  /** Presses a button that asks for confirmation, and confirms. */
  async confirmed(button) {
    await this.page.click(button);
    await this.page.click("#confirm-do");
    await this.page.locator("#confirm-dialog").waitFor({ state: "hidden" });
  }

  /** Returns the titles in the list of conversations. */
  rooms() {
    return this.page.locator(".room-title").allTextContents();
  }

  /**
   * Visible text whose contrast against what lies behind it is below 4.5 (WCAG 2.2, 1.4.3), as `ratio: text`. A gradient counts
   * with each of its colours.
   */
  pale() {
    return this.page.evaluate(() => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
      const over = (colours) => {
        canvas.clearRect(0, 0, 1, 1);
        for (const colour of colours) {
          canvas.fillStyle = colour;
          canvas.fillRect(0, 0, 1, 1);
        }
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
      };
      const luminance = (rgb) => {
        const [r, g, b] = rgb.map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const ratio = (one, other) => {
        const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
      };
      const behind = (node) => {
        // From the page up to the element: each lies on top of the previous one.
        const layers = [];
        for (let at = node; at; at = at.parentElement) layers.unshift(getComputedStyle(at));
        let grounds = [["white"]];
        for (const { backgroundColor, backgroundImage } of layers) {
          const stops = backgroundImage.startsWith("linear-gradient") ? backgroundImage.match(/(?:rgba?|color)\([^)]*\)/g) : [backgroundColor];
          grounds = grounds.flatMap((ground) => stops.map((stop) => [...ground, stop]));
        }
        return grounds;
      };
      const found = [];
      const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      for (let text = walker.nextNode(); text; text = walker.nextNode()) {
        const node = text.parentElement;
        if (!text.data.trim() || !node.checkVisibility({ visibilityProperty: true }) || node.closest(".hidden, .skip, .pill-more, noscript, [hidden]")) continue;
        for (const ground of behind(node)) {
          const contrast = ratio(over([...ground, getComputedStyle(node).color]), over(ground));
          if (contrast < 4.5) found.push(`${contrast.toFixed(2)}: ${text.data.trim()}`);
        }
      }
      return found;
    });
  }

  /** Visible elements that reach beyond the right edge of the window. */
  overflowing() {
    return this.page.evaluate(() => [...document.querySelectorAll("body *")]
      .filter((node) => node.checkVisibility() && !node.closest(".hidden, .pill, pre, svg") && getComputedStyle(node).position !== "absolute")
      .filter((node) => node.getBoundingClientRect().right > innerWidth + 0.5).map((node) => node.outerHTML.slice(0, 120)));
  }

  async close() {
    await this.page.context().close();
  }
}
