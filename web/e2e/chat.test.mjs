// The page as its readers use it: the original specification, and never losing text.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { box, browser, gateway, KEY, open, send } from "./setup.mjs";

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

const PNG = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64");

const log = (page) => page.getByRole("log");
const articles = (page) => page.getByRole("article");

/** The upstream sees that nobody waits any more for what `act` ends: a prompt that holds `text`. */
async function cancels(text, act) {
  const left = async () => (await gate.up.seen()).filter(({ gone }) => gone);
  const before = (await left()).length;
  await act();
  await gate.up.gone(before + 1);
  const last = (await left()).at(-1);
  assert.ok(JSON.stringify(last.asked).includes(text), "the upstream saw the cancel");
}

const stored = (page, store) => page.evaluate((name) => ({ ...window[name] }), store);

test("the key is verified, kept, revealed, and told what it may do", async () => {
  const page = await open(chrome, gate, { key: "" });
  await page.getByLabel("API key").fill("a-wrong-key");
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await page.locator("#key-status.error", { hasText: "does not know this key" }).waitFor();
  assert.equal((await stored(page, "localStorage"))["portcullis.key"], undefined);
  await page.getByLabel("API key").fill(KEY);
  await page.getByRole("button", { name: "Save", exact: true }).click();
  const status = page.locator("#key-status.ok");
  await status.waitFor();
  assert.match(await status.textContent(), /env-1 · may inference, read · 2 models/);
  assert.equal((await stored(page, "localStorage"))["portcullis.key"], KEY);
  assert.equal(await page.getByLabel("API key").getAttribute("type"), "password");
  await page.getByRole("button", { name: "Show", exact: true }).click();
  assert.equal(await page.getByLabel("API key").getAttribute("type"), "text");
  await page.getByLabel("remember on this device").uncheck();
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await page.waitForFunction(() => sessionStorage["portcullis.key"] && !localStorage["portcullis.key"]);
  await page.getByLabel("remember on this device").check();
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await page.waitForFunction(() => localStorage["portcullis.key"]);
  await page.reload();
  await send(page, "still here");
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("Enter sends, Shift+Enter breaks the line, and the answer grows before it ends", async () => {
  const page = await open(chrome, gate);
  await box(page).fill("one");
  await box(page).press("Shift+Enter");
  await box(page).pressSequentially("two [slow]");
  assert.equal(await box(page).inputValue(), "one\ntwo [slow]");
  await box(page).press("Enter");
  const answer = articles(page).nth(1);
  await answer.getByText("You said").waitFor();
  assert.ok(await page.getByRole("button", { name: "Stop" }).isVisible());
  const early = (await answer.innerText()).length;
  await answer.getByRole("button", { name: "Regenerate" }).waitFor();
  assert.ok((await answer.innerText()).length > early);
  assert.equal(await articles(page).nth(0).getAttribute("aria-label"), "You");
  assert.equal(await articles(page).nth(1).getAttribute("aria-label"), "alpha:latest");
  const first = await gate.up.last();
  assert.deepEqual([first.path, first.asked.prompt], ["/api/generate", "one\ntwo [slow]"]);
  await send(page, "and then");
  const second = await gate.up.last();
  assert.deepEqual([second.path, second.asked.messages.length], ["/api/chat", 3]);
  const colour = (n) => articles(page).nth(n).locator(".text").first().evaluate((node) => getComputedStyle(node).backgroundColor);
  assert.notEqual(await colour(0), await colour(1));
  assert.match(await page.locator("#announce").textContent(), /Answer complete, \d+ words/);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("a waiting answer shows that it waits, then how fast it is", async () => {
  const page = await open(chrome, gate);
  await send(page, "[late] hello", { wait: false });
  await page.locator(".typing").waitFor();
  assert.match(await page.locator(".typing").innerText(), /reading the prompt/);
  await articles(page).nth(1).getByText(/tok\/s · \d+ tokens/).waitFor();
  await send(page, "[think] now");
  await articles(page).nth(3).getByText(/Thought for/).waitFor();
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("public mode hides the key field", async () => {
  const open_gate = await gateway({ OLLAMA_API_KEY: "" });
  const page = await open(chrome, open_gate, { key: "" });
  await page.locator("#key-form").waitFor({ state: "hidden" });
  await send(page, "no key");
  assert.deepEqual(page.faults, []);
  await page.context().close();
  open_gate.stop();
});

test("Stop keeps what came and the model stops", async () => {
  const page = await open(chrome, gate);
  await send(page, "[slow] [long] go", { wait: false });
  await articles(page).nth(1).getByText("You said").waitFor();
  await cancels("go", () => page.getByRole("button", { name: "Stop" }).click());
  await articles(page).nth(1).getByText("Stopped").waitFor();
  assert.ok(await articles(page).nth(1).getByRole("button", { name: "Continue" }).isVisible());
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("a reload in the middle keeps the question and the partial answer", async () => {
  const page = await open(chrome, gate);
  await send(page, "[slow] [long] reload me", { wait: false });
  await articles(page).nth(1).getByText("word word").waitFor();
  await page.waitForTimeout(1_100);
  await page.reload();
  await articles(page).nth(1).getByText("You said").waitFor();
  await articles(page).nth(1).getByRole("button", { name: "Continue" }).waitFor();
  assert.match(await articles(page).nth(0).innerText(), /reload me/);
  await page.context().close();
});

test("a send that fails gives the text back and says what to do", async () => {
  const lonely = await gateway();
  const page = await open(chrome, lonely);
  await lonely.up.die();
  await box(page).fill("[precious] text");
  await box(page).press("Enter");
  await page.getByRole("alert").waitFor({ timeout: 15_000 });
  assert.match(await page.getByRole("alert").innerText(), /model server/);
  assert.equal(await box(page).inputValue(), "[precious] text");
  assert.equal(await articles(page).count(), 0);
  assert.ok(await page.getByRole("button", { name: "Send again" }).isVisible());
  await page.context().close();
  lonely.stop();
});

test("a stream that is cut says so and goes on where it stopped", async () => {
  const page = await open(chrome, gate);
  await gate.up.cuts("[cut]");
  await send(page, "[cut] please", { wait: false });
  await articles(page).nth(1).getByText(/Connection lost after \d+ parts/).waitFor();
  await articles(page).nth(1).getByRole("alert").getByText("The answer broke off").waitFor();
  const had = await articles(page).nth(1).locator(".text").innerText();
  await page.getByRole("button", { name: "Continue" }).click();
  await articles(page).nth(1).getByText(/tokens/).waitFor();
  const has = await articles(page).nth(1).locator(".text").innerText();
  assert.ok(has.startsWith(had.trim()) && has.length > had.length, has);
  assert.equal((await gate.up.last()).asked.messages.at(-1).role, "assistant");
  await page.context().close();
});

test("too many requests: a countdown sends by itself", async () => {
  const narrow = await gateway({ PORTCULLIS_LIMITS_REQUESTS_PER_MINUTE: "12" });
  const page = await open(chrome, narrow);
  const ask = () =>
    fetch(`${narrow.url}/api/generate`, {
      method: "POST",
      headers: { Authorization: `Bearer ${KEY}`, "Content-Type": "application/json" },
      body: JSON.stringify({ prompt: "hi", stream: false }),
    });
  let asked = 0;
  // The next one has its turn five seconds later.
  while ((await ask()).status !== 429) assert.ok(++asked < 60, "the minute's allowance has no end");
  await box(page).fill("me too");
  await box(page).press("Enter");
  await page.getByText(/Sends in \d+ s/).waitFor();
  assert.ok(await page.getByRole("button", { name: "Send now" }).isVisible());
  await articles(page).nth(1).getByText(/tokens/).waitFor();
  await page.context().close();
  narrow.stop();
});

test("editing and regenerating make siblings, and nothing is overwritten", async () => {
  const page = await open(chrome, gate);
  await send(page, "first question");
  await articles(page).nth(1).getByRole("button", { name: "Regenerate" }).click();
  await articles(page).nth(1).getByText("2/2").waitFor();
  await articles(page).nth(1).getByRole("button", { name: "Previous version" }).click();
  await articles(page).nth(1).getByText("1/2").waitFor();
  await articles(page).nth(0).getByRole("button", { name: "Edit" }).click();
  assert.equal(await box(page).inputValue(), "first question");
  await box(page).fill("second thought");
  await box(page).press("Enter");
  await articles(page).nth(0).getByText("second thought").waitFor();
  await articles(page).nth(1).getByText(/tokens/).waitFor();
  assert.match(await articles(page).nth(0).innerText(), /second thought[\s\S]*2\/2/);
  await articles(page).nth(0).getByRole("button", { name: "Previous version" }).click();
  await articles(page).nth(0).getByText("first question").waitFor();
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("chats are searched, renamed, deleted with a way back, and kept over a reload", async () => {
  const page = await open(chrome, gate);
  await send(page, "about lighthouses");
  await page.getByRole("button", { name: "New chat" }).click();
  await send(page, "about windmills");
  const chats = page.locator("#chats button.chat");
  assert.equal(await chats.count(), 2);
  await page.getByLabel("Search chats").fill("lighthouse");
  await page.waitForFunction(() => document.querySelectorAll("#chats button.chat").length === 1);
  await page.getByLabel("Search chats").fill("");
  await page.waitForFunction(() => document.querySelectorAll("#chats button.chat").length === 2);
  await page.getByRole("button", { name: "Rename: about windmills" }).click();
  await page.getByLabel("Rename", { exact: true }).fill("Mills");
  await page.keyboard.press("Enter");
  await chats.getByText("Mills").waitFor();
  await page.getByRole("button", { name: "Delete: Mills" }).click();
  await page.waitForFunction(() => document.querySelectorAll("#chats button.chat").length === 1);
  await page.getByRole("button", { name: "Undo" }).click();
  await articles(page).nth(0).getByText("about windmills").waitFor();
  await page.reload();
  await articles(page).nth(0).getByText("about windmills").waitFor();
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export" }).click()]);
  const { readFileSync } = await import("node:fs");
  const file = JSON.parse(readFileSync(await download.path(), "utf8"));
  assert.deepEqual([file.format, file.version, file.chats.length], ["portcullis-chats", 1, 2]);
  assert.ok(!JSON.stringify(file).includes(KEY), "keys are never exported");
  const again = await open(chrome, gate);
  await again.locator("#import-file").setInputFiles(await download.path());
  await again.getByText("2 chats were imported").waitFor();
  assert.equal(await again.locator("#chats button.chat").count(), 2);
  assert.deepEqual(page.faults, []);
  await again.context().close();
  await page.context().close();
});

test("a chat that is deleted while its answer comes stops it, and stays away", async () => {
  const page = await open(chrome, gate);
  await send(page, "[slow] [long] goodbye", { wait: false });
  await articles(page).nth(1).getByText("word").first().waitFor();
  await cancels("goodbye", () => page.getByRole("button", { name: "Delete: [slow] [long] goodbye" }).click());
  await page.getByText("was deleted").waitFor();
  await page.reload();
  await page.getByText("0 chats").waitFor();
  const left = await page.evaluate(() => new Promise((done) => {
    const request = indexedDB.open("portcullis");
    request.onsuccess = () => {
      const all = request.result.transaction("messages").objectStore("messages").getAll();
      all.onsuccess = () => done(all.result.length);
    };
  }));
  assert.equal(left, 0, "no message is left behind");
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("a title that is given while an answer comes stays", async () => {
  const page = await open(chrome, gate);
  await send(page, "[slow] rain", { wait: false });
  await articles(page).nth(1).getByText("You said").waitFor();
  await page.getByRole("button", { name: "Rename: [slow] rain" }).click();
  await page.getByLabel("Rename", { exact: true }).fill("Weather");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Weather" }).waitFor();
  await articles(page).nth(1).getByRole("button", { name: "Regenerate" }).waitFor();
  await send(page, "and snow");
  await page.reload();
  await page.locator("#chats button.chat", { hasText: "Weather" }).waitFor();
  assert.equal(await articles(page).count(), 4);
  await page.context().close();
});

test("every chat has its own draft", async () => {
  const page = await open(chrome, gate);
  await send(page, "first chat");
  await box(page).fill("for the first");
  await page.getByRole("button", { name: "New chat" }).click();
  assert.equal(await box(page).inputValue(), "");
  await box(page).fill("for a new one");
  await page.locator("#chats button.chat").click();
  await page.waitForFunction(() => document.getElementById("message").value === "for the first");
  await page.getByRole("button", { name: "New chat" }).click();
  await page.waitForFunction(() => document.getElementById("message").value === "for a new one");
  await page.locator("#chats button.chat").click();
  await page.waitForFunction(() => document.getElementById("message").value === "for the first");
  await page.reload();
  await page.waitForFunction(() => document.getElementById("message").value === "for the first");
  await page.context().close();
});

test("two tabs see each other's messages", async () => {
  const page = await open(chrome, gate);
  await send(page, "from the first tab");
  const other = await page.context().newPage();
  await other.goto(`${gate.url}/chat`);
  await other.getByRole("article").nth(0).getByText("from the first tab").waitFor();
  await send(other, "from the second tab");
  await articles(page).nth(2).getByText("from the second tab").waitFor();
  await page.context().close();
});

test("the page says which model is the default, and asks for none by name", async () => {
  const page = await open(chrome, gate);
  const choice = page.getByLabel("Model", { exact: true });
  await page.getByText("alpha:latest (default)").first().waitFor();
  await choice.click();
  await page.getByRole("button", { name: /beta:7b/ }).click();
  assert.equal(await choice.textContent(), "beta:7b");
  await choice.click();
  await page.locator("#model-list li").filter({ hasText: "alpha:latestdefault" }).waitFor();
  await page.getByRole("button", { name: "Default model" }).click();
  assert.equal(await choice.textContent(), "alpha:latest (default)");
  await send(page, "to whoever answers");
  assert.equal((await gate.up.last()).asked.model, "alpha:latest");
  await page.context().close();
});

test("model, system prompt and parameters go along, and a chat remembers them", async () => {
  const page = await open(chrome, gate);
  await page.getByLabel("Model", { exact: true }).click();
  await page.getByLabel("Filter models").fill("bet");
  await page.getByRole("button", { name: /beta:7b/ }).click();
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("System prompt").fill("Be brief.");
  await page.getByLabel("Temperature").fill("0.3");
  await page.getByLabel("Seed").fill("7");
  await page.getByRole("button", { name: "Close" }).click();
  await send(page, "with settings");
  const { asked } = await gate.up.last();
  assert.deepEqual([asked.model, asked.system, asked.options], ["beta:7b", "Be brief.", { temperature: 0.3, seed: 7 }]);
  await page.getByText("System prompt set · 2 parameters set").waitFor();
  await page.getByRole("button", { name: "New chat" }).click();
  await send(page, "plain");
  const plain = await gate.up.last();
  assert.deepEqual([plain.asked.system, plain.asked.options], [undefined, undefined]);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("what a model can is shown, and one that does not see gets no image unnoticed", async () => {
  const page = await open(chrome, gate);
  await page.getByLabel("Model", { exact: true }).click();
  assert.match(await page.locator("#model-list li", { hasText: "alpha:latest" }).innerText(), /vision/);
  await page.getByRole("button", { name: /beta:7b/ }).click();
  await page.locator("#image-file").setInputFiles({ name: "dot.png", mimeType: "image/png", buffer: PNG });
  await page.getByText("This model does not see images. These do: alpha:latest.").waitFor();
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("images are made small and sent", async () => {
  const page = await open(chrome, gate);
  await page.locator("#image-file").setInputFiles({ name: "dot.png", mimeType: "image/png", buffer: PNG });
  await page.locator("#tray img").waitFor();
  await send(page, "what is this?");
  const { asked } = await gate.up.last();
  assert.equal(asked.images.length, 1);
  assert.ok(Buffer.from(asked.images[0], "base64").subarray(1, 4).equals(Buffer.from("PNG")));
  await articles(page).nth(0).locator("img").waitFor();
  assert.deepEqual(page.faults, []);
  await page.context().close();
});
