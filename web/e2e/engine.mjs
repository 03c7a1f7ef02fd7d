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
  await page.getByRole("article").nth(3).locator(".text").getByText(/\w/).first().waitFor({ timeout: 120_000 });
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByRole("article").nth(3).getByText("Stopped").waitFor();
  assert.deepEqual(page.faults, []);
  console.log("ok: a conversation of two turns with the real engine, the second one stopped");
} finally {
  await chrome.close();
}
