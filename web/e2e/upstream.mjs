// The other side: speaks like Ollama, and does what the prompt asks for. Tells what it saw.

import { createServer } from "node:http";

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

export async function upstream() {
  const state = { seen: [], loaded: ["alpha:latest"], names: ["alpha:latest", "beta:7b"], capabilities: {}, answers: new Map(), size: 5 };
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (data) => (body += data));
    request.on("end", () => answer(state, request, response, body).catch(() => response.destroy()));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {
    ...state,
    state,
    url: `http://127.0.0.1:${server.address().port}`,
    stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}

function json(response, value, status = 200) {
  const text = JSON.stringify(value);
  response.writeHead(status, { "Content-Type": "application/json; charset=utf-8", "Content-Length": Buffer.byteLength(text) });
  response.end(text);
}

async function answer(state, request, response, body) {
  const known = (name) => ({ name, model: name, size: 98e6, capabilities: state.capabilities[name] });
  if (request.url === "/api/tags") return json(response, { models: state.names.map(known) });
  if (request.url === "/api/ps") return json(response, { models: state.loaded.map(known) });
  if (request.url === "/api/version") return json(response, { version: "0.13.0" });
  const asked = JSON.parse(body);
  const one = { path: request.url, asked, gone: false, done: false };
  state.seen.push(one);
  response.on("close", () => (one.gone = !response.writableFinished));
  const prompt = asked.prompt ?? asked.messages?.findLast((turn) => turn.role === "user")?.content ?? "";
  if (prompt.includes("[busy]")) return json(response, { error: "server busy, please try again.  maximum pending requests exceeded" }, 503);
  await say(state, request.url === "/api/chat", asked, prompt, response);
  one.done = true;
}

async function say(state, chat, asked, prompt, response) {
  const line = (content, more = {}) => JSON.stringify({
    model: asked.model,
    created_at: new Date().toISOString(),
    ...(chat ? { message: { role: "assistant", content, ...more } } : { response: content, ...more }),
    done: false,
  }) + "\n";
  if (prompt.includes("[late]")) await wait(1_200);
  response.writeHead(200, { "Content-Type": "application/x-ndjson" });
  const key = [...state.answers.keys()].find((key) => prompt.includes(key));
  const text = key ? state.answers.get(key) : `You said: ${prompt}. ${"word ".repeat(prompt.includes("[long]") ? 400 : 12)}`;
  if (prompt.includes("[think]")) {
    for (const thought of ["Let me ", "think.\n", "Yes."]) {
      response.write(line("", { thinking: thought }));
      await wait(80);
    }
  }
  const parts = text.match(new RegExp(`[\\s\\S]{1,${state.size}}`, "gu")) ?? [];
  let count = 0;
  for (const part of parts) {
    if (response.destroyed) return;
    if (prompt.includes("[cut]") && (count += 1) > 6 && asked.messages?.at(-1)?.role !== "assistant") return response.destroy();
    response.write(line(part));
    await wait(prompt.includes("[slow]") ? 60 : 2);
  }
  const last = { model: asked.model, created_at: new Date().toISOString(), ...(chat ? { message: { role: "assistant", content: "" } } : { response: "" }), done: true, done_reason: "stop" };
  response.end(JSON.stringify({ ...last, total_duration: 2e9, load_duration: 1e8, prompt_eval_count: 5, prompt_eval_duration: 3e8, eval_count: parts.length, eval_duration: 1e9 }) + "\n");
}
