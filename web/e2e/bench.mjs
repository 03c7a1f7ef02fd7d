// What the page costs: `scripts/page.sh bench`. Main-thread time of a 32 KiB answer streamed eight characters at a time, and of one
// flush with 600 messages in the page. Figures, not a test: machines differ.

import { browser, gateway } from "./setup.mjs";

const chrome = await browser();
const gate = await gateway();
const page = await chrome.newPage();
await page.goto(`${gate.url}/chat`);
const figures = await page.evaluate(async () => {
  const root = document.querySelector("script[type=module]").src.replace(/main\.js$/, "");
  const { Growing } = await import(`${root}stream.js`);
  const part = "Some **prose** with `code` and a [link](https://example.org), long enough to wrap over more than one line.\n\n- one\n- two\n\n```rust\nfn main() { println!(\"hi\"); }\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n";
  const text = part.repeat(Math.ceil(32768 / part.length)).slice(0, 32768);
  const log = document.getElementById("log");
  const stream = () => {
    const box = document.createElement("div");
    box.className = "text";
    log.append(box);
    const growing = new Growing(box);
    const flushes = [];
    const begun = performance.now();
    for (let at = 8; at <= text.length; at += 8) {
      const from = performance.now();
      growing.show(text.slice(0, at));
      void box.offsetHeight;
      flushes.push(performance.now() - from);
    }
    growing.finish();
    const took = performance.now() - begun;
    flushes.sort((a, b) => a - b);
    return { took, p95: flushes[Math.floor(flushes.length * 0.95)], box };
  };
  const first = stream();
  first.box.remove();
  for (let n = 0; n < 600; n += 1) {
    const article = document.createElement("article");
    article.className = "message bot";
    const box = document.createElement("div");
    box.className = "text";
    article.append(box);
    new Growing(box).show(part);
    log.append(article);
  }
  const crowded = stream();
  return { "32 KiB, main thread ms": first.took, "flush p95 ms": first.p95, "flush p95 ms with 600 messages": crowded.p95, nodes: document.querySelectorAll("*").length };
});
console.log(JSON.stringify(figures, null, 1));
await chrome.close();
gate.stop();
