// Browsers that are set up in other ways: plain http, forced colours.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { AXE, box, browser, gateway, KEY, open, profile, send, SHOTS, violations } from "./setup.mjs";

const NAMES = "--host-resolver-rules=MAP gate.test 127.0.0.1";

/** Another site, whose one page is what `html()` says; its origin. */
async function holder(t, html) {
  const server = createServer((_, response) => {
    response.setHeader("Content-Type", "text/html; charset=utf-8");
    response.end(html());
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://gate.test:${server.address().port}`;
}

test("over plain http Copy still copies, and chats are kept", async (t) => {
  const gate = await gateway();
  t.after(gate.stop);
  const chrome = await browser([NAMES]);
  t.after(() => chrome.close());
  const { port } = new URL(gate.url);
  const page = await open(chrome, { url: `http://gate.test:${port}` });
  assert.equal(await page.evaluate(() => window.isSecureContext), false);
  await send(page, "a plain question");
  await page.getByRole("article").nth(0).getByRole("button", { name: "Copy" }).click();
  await page.getByRole("article").nth(0).getByRole("button", { name: "Copied" }).waitFor();
  await box(page).press("Control+V");
  assert.equal(await box(page).inputValue(), "a plain question");
  await box(page).fill("");
  await page.reload();
  await page.getByRole("article").nth(1).getByText("You said").waitFor();
  // Chromium remarks on the header that plain http makes void.
  assert.deepEqual(page.faults.filter((text) => !text.startsWith("The Cross-Origin-Opener-Policy header has been ignored")), []);
});

test("with forced colours there is no barrier, and the two sides are still told apart", async (t) => {
  const gate = await gateway();
  t.after(gate.stop);
  const chrome = await browser();
  t.after(() => chrome.close());
  const page = await open(chrome, gate, { context: { forcedColors: "active" }, before: (page) => page.addInitScript({ content: AXE }) });
  await send(page, "[think] colours");
  assert.deepEqual(await violations(page), []);
  const edge = await page.locator("article.user .text").evaluate((node) => getComputedStyle(node).borderStyle);
  assert.equal(edge, "solid", "backgrounds are gone, so an edge must do");
});

test("in a frame of another site that may store nothing, the page works from memory and links to its own address", async (t) => {
  const site = await holder(t, () => `<!doctype html><title>A Space</title><iframe title="chat" src="${gate.url}/chat" width="1000" height="640"></iframe>`);
  const gate = await gateway({ PORTCULLIS_PAGES_FRAME_ANCESTORS: site });
  t.after(gate.stop);
  const folder = mkdtempSync(join(tmpdir(), "portcullis-profile-"));
  mkdirSync(join(folder, "Default"));
  writeFileSync(join(folder, "Default", "Preferences"), JSON.stringify({ profile: { cookie_controls_mode: 1 } }));
  const chrome = await profile(folder, [NAMES]);
  t.after(async () => {
    await chrome.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const page = await chrome.newPage();
  await page.goto(site);
  const frame = page.frameLocator("iframe");
  await frame.getByText("This browser keeps nothing for this page").waitFor();
  const stored = await page.frames()[1].evaluate(() => {
    try {
      return String(localStorage.length);
    } catch (error) {
      return error.name;
    }
  });
  assert.equal(stored, "SecurityError", "the browser does refuse");
  await frame.getByLabel("API key").fill(KEY);
  await frame.getByRole("button", { name: "Save", exact: true }).click();
  await frame.getByText("The key works, but this browser does not keep it").waitFor();
  await send(frame, "from a frame");
  assert.match(await frame.getByRole("article").nth(1).innerText(), /You said: from a frame/);
  const link = frame.getByRole("link", { name: "Open it by its own address" });
  assert.equal(await link.getAttribute("target"), "_blank");
  await page.screenshot({ path: `${SHOTS}frame.png` });
  const [own] = await Promise.all([chrome.waitForEvent("page"), link.click()]);
  await own.waitForURL(`${gate.url}/chat`);
  await own.getByLabel("API key").waitFor();
  assert.equal(await own.getByText("This browser keeps nothing").isVisible(), false);
});

test("nobody else may frame the page", async (t) => {
  const site = await holder(t, () => `<!doctype html><iframe src="${gate.url}/chat"></iframe>`);
  const gate = await gateway();
  t.after(gate.stop);
  const chrome = await browser([NAMES]);
  t.after(() => chrome.close());
  const page = await chrome.newPage();
  const refused = page.waitForEvent("console", (message) => /frame-ancestors/.test(message.text()));
  await page.goto(site);
  await refused;
});
