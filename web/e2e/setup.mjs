// The real gateway before a scripted upstream, and a browser before both.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { upstream } from "./upstream.mjs";

export const KEY = "page-test-key-that-nobody-guesses";
const GATEWAY = process.env.PORTCULLIS_BINARY ?? new URL("../../target/release/portcullis", import.meta.url).pathname;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export const SHOTS = new URL("../../out/page/", import.meta.url).pathname;
mkdirSync(SHOTS, { recursive: true });

export const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export function browser(more = []) {
  return chromium.launch({ executablePath: CHROMIUM, args: [...QUIET, ...more] });
}

/** A browser that keeps its settings in this folder, and reads them from there. */
export function profile(folder, more = []) {
  return chromium.launchPersistentContext(folder, { executablePath: CHROMIUM, args: [...QUIET, ...more] });
}

/** What axe finds; the page has it from an init script, since its policy lets no other in. */
export function violations(page) {
  return page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(", ")}`);
  });
}

/** Gateways that run. A test that is cut short leaves none behind. */
const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(1));

/** A gateway on a free port; `environment` as an operator would set it. */
export async function gateway(environment = {}, models = {}) {
  const up = await upstream(models);
  const home = mkdtempSync(join(tmpdir(), "portcullis-page-"));
  const child = spawn(GATEWAY, ["serve", "--port", "0", "--set", `data.dir=${home}`, "--set", "log.level=error"], {
    env: {
      PATH: process.env.PATH,
      HOME: home,
      OLLAMA_API_KEY: KEY,
      OLLAMA_LOCAL_URL: up.url,
      OLLAMA_MODEL: "alpha:latest",
      PORTCULLIS_LIMITS_REQUESTS_PER_MINUTE: "0",
      ...environment,
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  running.add(child);
  child.once("exit", () => running.delete(child));
  const url = await new Promise((found, failed) => {
    let said = "";
    child.stdout.on("data", (data) => {
      said += data;
      const line = said.match(/API\s+(http:\S+)/);
      if (line) found(line[1]);
    });
    child.on("exit", (code) => failed(new Error(`the gateway ended with ${code}: ${said}`)));
  });
  return {
    up,
    url,
    stop() {
      child.removeAllListeners("exit");
      running.delete(child);
      child.kill("SIGKILL");
      up.stop();
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** A page of a fresh profile with its key saved; what must never happen is collected in `page.faults`. */
export async function open(browser, gate, { key = KEY, context = {}, before } = {}) {
  const profile = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...context });
  const page = await profile.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(`error: ${error.message}`));
  page.on("console", (message) => {
    const text = message.text();
    if (message.type() === "error" && !/Failed to load resource/.test(text)) page.faults.push(text);
  });
  page.on("request", (request) => {
    const address = request.url();
    if (!address.startsWith(gate.url) && !/^(data|blob):/.test(address)) page.faults.push(`left the origin: ${address}`);
  });
  page.on("dialog", (dialog) => {
    page.faults.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  if (before) await before(page);
  await page.goto(`${gate.url}/`);
  if (key) {
    await page.getByLabel("API key").fill(key);
    await page.getByRole("button", { name: "Save", exact: true }).click();
    await page.locator("#key-status.ok").waitFor();
  }
  return page;
}

export const box = (page) => page.getByLabel("Message", { exact: true });

/** Sends a text, and waits for the answer's end unless told not to. */
export async function send(page, text, { wait = true } = {}) {
  const before = await page.getByRole("article").count();
  await box(page).fill(text);
  await box(page).press("Enter");
  if (!wait) return;
  await page.getByRole("article").nth(before + 1).getByRole("button", { name: "Regenerate" }).waitFor();
}
