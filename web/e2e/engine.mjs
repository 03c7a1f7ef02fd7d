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
  const stop = page.getByRole("button", { name: "Stop" });
  // How much it has to say is the model's own business: a story that ends before it is stopped is followed by another.
  let place = 1;
  let story;
  do {
    place += 2;
    assert.ok(place < 40, "no story was long enough to be stopped");
    await box(page).fill("Tell a long story about a gate.");
    await box(page).press("Enter");
    story = page.getByRole("article").nth(place);
    const ended = story.getByText(/tok\/s · \d+ tokens/);
    await story.locator(".text").getByText(/\w+ \w+/).or(ended).first().waitFor({ timeout: 120_000 });
    await stop.click({ timeout: 1_000 }).catch(() => {});
    await story.getByText("Stopped", { exact: true }).or(ended).first().waitFor({ timeout: 120_000 });
  } while (!(await story.getByText("Stopped", { exact: true }).isVisible()));
  const begun = (await story.locator(".text").textContent()).trim();
  await story.getByRole("button", { name: "Continue" }).click();
  await story.getByText("Stopped", { exact: true }).waitFor({ state: "detached" });
  await page.waitForFunction(([place, length]) => {
    const story = document.querySelectorAll("article")[place];
    return story.querySelector(".text").textContent.length > length || story.querySelector("button.figures");
  }, [place, begun.length], { timeout: 120_000 });
  const more = (await story.locator(".text").textContent()).trim();
  assert.ok(more.startsWith(begun), `goes on where it stopped: ${begun} | ${more}`);
  assert.deepEqual(page.faults, []);
  console.log("ok: a conversation with the real engine; a story stopped, and went on where it had");
} finally {
  await chrome.close();
}
