// Browsers that are set up in other ways: plain http, forced colours.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AXE, box, browser, gateway, open, send, violations } from "./setup.mjs";

const NAMES = "--host-resolver-rules=MAP gate.test 127.0.0.1";

test("over plain http Copy still copies, and chats are kept", async () => {
  const gate = await gateway();
  const chrome = await browser([NAMES]);
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
  await chrome.close();
  gate.stop();
});

test("with forced colours there is no barrier, and the two sides are still told apart", async () => {
  const gate = await gateway();
  const chrome = await browser();
  const page = await open(chrome, gate, { context: { forcedColors: "active" }, before: (page) => page.addInitScript({ content: AXE }) });
  await send(page, "[think] colours");
  assert.deepEqual(await violations(page), []);
  const edge = await page.locator("article.user .text").evaluate((node) => getComputedStyle(node).borderStyle);
  assert.equal(edge, "solid", "backgrounds are gone, so an edge must do");
  await chrome.close();
  gate.stop();
});
