// The official JavaScript client, as it is published, through the gateway to the engine.

import { createRequire } from "node:module";
import { setTimeout as pause } from "node:timers/promises";
import path from "node:path";

const require = createRequire(path.join(process.env.E2E_NODE, "package.json"));
const { Ollama } = require("ollama");

const { E2E_URL: url, E2E_KEY: key, E2E_ENGINE: engine } = process.env;
const headers = { Authorization: `Bearer ${key}` };

function expect(truth, what) {
  if (!truth) throw new Error(what);
}

async function stats() {
  const response = await fetch(`${engine}/engine/stats`);
  expect(response.ok, `engine stats: ${response.status}`);
  return response.json();
}

async function refused(status, call) {
  try {
    await call();
  } catch (error) {
    expect(error.status_code === status, `status ${error.status_code} instead of ${status}: ${error.message}`);
    return;
  }
  throw new Error(`no error where ${status} was expected`);
}

async function main() {
  const { models } = await (await fetch(`${url}/models`, { headers })).json();
  const model = models[0].name;
  const api = new Ollama({ host: url, headers });
  const messages = [{ role: "user", content: "Tell me a long story about the sea." }];

  const answer = await api.chat({ model, messages, options: { num_predict: 24, seed: 1 } });
  expect(answer.message.content.trim() && answer.done, `chat: ${JSON.stringify(answer)}`);

  const times = [];
  let text = "";
  let last;
  for await (const part of await api.chat({ model, messages, stream: true, options: { num_predict: 60, seed: 7 } })) {
    times.push(performance.now());
    text += part.message.content;
    last = part;
  }
  expect(times.length > 3 && times.at(-1) - times[0] > 20, `the stream came at once: ${times.length} parts`);
  expect(text.trim() && last.done && last.eval_count > 0, "the stream has no end or no text");

  const before = (await stats()).cancelled;
  const long = await api.generate({
    model,
    prompt: "Write a very long story about a voyage around the world.",
    stream: true,
    options: { num_predict: 300, repeat_penalty: 1.2, seed: 3 },
  });
  let parts = 0;
  let aborted = 0;
  try {
    for await (const part of long) {
      expect(!part.done, "the answer ended before it was aborted");
      parts += 1;
      if (parts === 3) {
        aborted = performance.now();
        long.abort();
      }
    }
    throw new Error("an aborted stream ended without an error");
  } catch (error) {
    expect(error.name === "AbortError", `not an AbortError: ${error}`);
  }
  for (;;) {
    const now = await stats();
    if (now.cancelled > before && now.generating === 0) break;
    expect(performance.now() - aborted < 1000, `the engine still works a second after abort: ${JSON.stringify(now)}`);
    await pause(20);
  }

  const stranger = new Ollama({ host: url, headers: { Authorization: "Bearer not-the-key" } });
  await refused(401, () => stranger.chat({ model, messages }));
  await refused(404, () => api.chat({ model: "no-such-model:1b", messages }));
}

main().catch((error) => {
  console.error(`node: ${error.message}`);
  process.exit(1);
});
