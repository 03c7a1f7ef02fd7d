// What the page costs: `scripts/page.sh bench`. Figures, not a test: machines differ.
//
// - a 32 KiB answer that comes through the whole page in lines of eight characters: how long the main thread was at work;
// - the same text given to the renderer eight characters at a time with a layout after each, alone and with 600 messages in the page.

import { box, browser, gateway, open } from "./setup.mjs";

const PART = "Some **prose** with `code` and a [link](https://example.org), long enough to wrap over more than one line.\n\n- one\n- two\n\n```rust\nfn main() { println!(\"hi\"); }\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n";
const TEXT = PART.repeat(Math.ceil(32768 / PART.length)).slice(0, 32768);

async function metrics(client) {
  const { metrics } = await client.send("Performance.getMetrics");
  const of = (name) => metrics.find((one) => one.name === name).value * 1000;
  return { task: of("TaskDuration"), script: of("ScriptDuration"), style: of("RecalcStyleDuration"), layout: of("LayoutDuration") };
}

/** Milliseconds of the main thread from Send to the last line, and from first to last word. */
async function wholePage(page) {
  const client = await page.context().newCDPSession(page);
  await client.send("Performance.enable");
  await box(page).fill("[32 KiB]");
  const before = await metrics(client);
  const from = Date.now();
  await box(page).press("Enter");
  await page.getByText(/ 4,?096 tokens/).waitFor({ timeout: 120_000 });
  const after = await metrics(client);
  const took = Object.fromEntries(Object.entries(after).map(([name, value]) => [name, Math.round(value - before[name])]));
  return { ...took, wall: Date.now() - from };
}

/** In the page. */
async function renderer([text, part]) {
  const root = document.querySelector("script[type=module]").src.replace(/main\.js$/, "");
  const { Growing } = await import(`${root}stream.js`);
  const log = document.getElementById("log");
  const article = () => {
    const node = document.createElement("article");
    node.className = "message bot";
    const text = document.createElement("div");
    text.className = "text";
    node.append(text);
    log.append(node);
    return text;
  };
  const stream = () => {
    const root = article();
    const growing = new Growing(root);
    const flushes = [];
    const begun = performance.now();
    for (let at = 8; at <= text.length; at += 8) {
      const from = performance.now();
      growing.show(text.slice(0, at));
      void root.offsetHeight;
      flushes.push(performance.now() - from);
    }
    growing.finish();
    const took = performance.now() - begun;
    flushes.sort((a, b) => a - b);
    return { total: Math.round(took), p95: Math.round(flushes[Math.floor(flushes.length * 0.95)] * 100) / 100 };
  };
  log.querySelectorAll("article").forEach((node) => node.remove());
  const alone = stream();
  log.querySelectorAll("article").forEach((node) => node.remove());
  for (let n = 0; n < 600; n += 1) new Growing(article()).show(part);
  const crowded = stream();
  return { alone, crowded, nodes: document.querySelectorAll("*").length };
}

const chrome = await browser();
const gate = await gateway();
await gate.up.says("[32 KiB]", TEXT, { token_size: 8 });
const page = await open(chrome, gate);
const whole = await wholePage(page);
const { alone, crowded, nodes } = await page.evaluate(renderer, [TEXT, PART]);
console.log(JSON.stringify({ "whole page, ms": whole, "renderer with a layout each time, ms": alone, [`the same in a page of ${nodes} elements, ms`]: crowded }, null, 1));
await chrome.close();
gate.stop();
