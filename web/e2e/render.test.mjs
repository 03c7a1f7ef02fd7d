// The renderer that streams gives the same nodes as reading the whole text at once: on every example of CommonMark and on joins of
// them, fed character by character and in chunks.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { browser, gateway } from "./setup.mjs";

const { tests } = createRequire(import.meta.url)("commonmark-spec");
const examples = tests.map(({ markdown }) => markdown.replace(/→/g, "\t"));

let chrome;
let gate;
let page;

before(async () => {
  chrome = await browser();
  gate = await gateway();
  page = await chrome.newPage();
  await page.goto(`${gate.url}/chat`);
});

after(async () => {
  await chrome?.close();
  gate?.stop();
});

function compare(texts, step) {
  return page.evaluate(async ({ texts, step }) => {
    const root = document.querySelector("script[type=module]").src.replace(/main\.js$/, "");
    const [{ Growing }, { blocks, tokens }] = await Promise.all([import(`${root}stream.js`), import(`${root}render.js`)]);
    const differing = [];
    for (const raw of texts) {
      const text = raw.replace(/\r\n?/g, "\n");
      const once = document.createElement("div");
      once.append(...blocks(tokens(text)));
      const grown = document.createElement("div");
      const growing = new Growing(grown);
      for (let at = step; at < text.length; at += step) growing.show(text.slice(0, at));
      growing.finish(text);
      for (const part of grown.querySelectorAll(":scope > .part")) part.replaceWith(...part.childNodes);
      if (!once.isEqualNode(grown)) {
        once.normalize();
        grown.normalize();
        if (!once.isEqualNode(grown)) differing.push([text, new XMLSerializer().serializeToString(once), new XMLSerializer().serializeToString(grown)]);
      }
    }
    return differing;
  }, { texts, step });
}

test("all CommonMark examples, character by character and in chunks", async () => {
  assert.ok(examples.length > 600);
  for (const step of [1, 7, 64]) assert.deepEqual(await compare(examples, step), [], `steps of ${step}`);
});

test("random joins of examples", async () => {
  let seed = 20261126;
  const random = (below) => {
    seed = (seed * 1664525 + 1013904223) % 4294967296;
    return Math.floor((seed / 4294967296) * below);
  };
  const joins = Array.from({ length: 300 }, () => Array.from({ length: 4 }, () => examples[random(examples.length)]).join("\n\n"));
  for (const step of [1, 11]) assert.deepEqual(await compare(joins, step), [], `steps of ${step}`);
});

test("a long answer is laid out in parts, and is the same", async () => {
  const long = examples.filter((text) => !text.includes("]:")).slice(0, 200).join("\n\n");
  assert.deepEqual(await compare([long], 97), []);
  const sizes = await page.evaluate(async (text) => {
    const { Growing } = await import(document.querySelector("script[type=module]").src.replace(/main\.js$/, "stream.js"));
    const box = document.createElement("div");
    const growing = new Growing(box);
    for (let at = 97; at < text.length; at += 97) growing.show(text.slice(0, at));
    return [...box.querySelectorAll(":scope > .part")].map((part) => part.childNodes.length);
  }, long);
  assert.ok(sizes.length > 3 && Math.max(...sizes) < 60, `blocks of the parts: ${sizes}`);
});

test("a selection in the growing tail survives", async () => {
  const kept = await page.evaluate(async () => {
    const root = document.querySelector("script[type=module]").src.replace(/main\.js$/, "");
    const { Growing } = await import(`${root}stream.js`);
    const box = document.createElement("div");
    document.body.append(box);
    const growing = new Growing(box);
    growing.show("First paragraph.\n\nThe tail **grows");
    const tail = box.lastChild.firstChild;
    getSelection().setBaseAndExtent(tail, 0, tail, 8);
    growing.show("First paragraph.\n\nThe tail **grows** and grows");
    return String(getSelection());
  });
  assert.equal(kept, "The tail");
});
