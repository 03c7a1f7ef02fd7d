// One conversation with the real engine: `node engine.mjs URL KEY`. Called by tests/e2e/run.sh.

import assert from "node:assert/strict";
import { box, browser, open } from "./setup.mjs";

const [url, key] = process.argv.slice(2);
const chrome = await browser();
try {
  const page = await open(chrome, { url }, { key });
  await box(page).fill("Say hello in one short sentence.");
  await box(page).press("Enter");
  const answer = page.getByRole("article").nth(1);
  await answer.getByText(/tok\/s · \d+ tokens/).waitFor({ timeout: 120_000 });
  assert.ok((await answer.locator(".text").innerText()).trim().length > 2, "a real answer");
  await box(page).fill("Tell a long story about a gate.");
  await box(page).press("Enter");
  const story = page.getByRole("article").nth(3);
  await story.locator(".text").getByText(/\w+ \w+ \w+/).first().waitFor({ timeout: 120_000 });
  await page.getByRole("button", { name: "Stop" }).click();
  await story.getByText("Stopped").waitFor();
  const begun = (await story.locator(".text").textContent()).trim();
  await story.getByRole("button", { name: "Continue" }).click();
  // How much more it has to say is the model's own business.
  await story.getByText("Stopped").waitFor({ state: "detached" });
  await page.waitForFunction((length) => {
    const [, , , story] = document.querySelectorAll("article");
    return story.querySelector(".text").textContent.length > length || story.querySelector("button.figures");
  }, begun.length, { timeout: 120_000 });
  const more = (await story.locator(".text").textContent()).trim();
  assert.ok(more.startsWith(begun), `goes on where it stopped: ${begun} | ${more}`);
  const stop = page.getByRole("button", { name: "Stop" });
  if (await stop.isVisible()) await stop.click();
  assert.deepEqual(page.faults, []);
  console.log("ok: a conversation of two turns with the real engine; the second one stopped, and went on where it had");
} finally {
  await chrome.close();
}
