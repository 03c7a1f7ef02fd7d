// The chat page: one conversation, kept in memory; the key and the chosen model stay in this browser.
// Every text reaches the page as a text node, so an answer can never become markup.

const KEY = "portcullis.key";
const MODEL = "portcullis.model";
const DRAFT = "portcullis.draft";
const NEAR_END = 60; // pixels from the end that count as "at the end"
const SHOW_WAIT = 3000; // milliseconds after which the indicator counts seconds

const at = (id) => document.getElementById(id);
const page = {
  keyForm: at("key-form"),
  key: at("api-key"),
  reveal: at("reveal"),
  keyStatus: at("key-status"),
  model: at("model"),
  newChat: at("new-chat"),
  log: at("chat-window"),
  welcome: at("welcome"),
  toEnd: at("to-end"),
  announce: at("announce"),
  form: at("message-form"),
  message: at("message"),
  send: at("send"),
  stop: at("stop"),
};

/** Earlier turns, as the API takes them: `{role, content}`. */
let turns = [];
/** Which conversation this is: an answer that ends after "New chat" belongs to none. */
let chat = 0;
/** Ends the running answer; `null` while there is none. */
let running = null;
/** Does the gateway answer without a key? */
let open = false;

// ---- storage: a browser may refuse it, and the page works on without

function load(store, name) {
  try {
    return store().getItem(name) ?? "";
  } catch {
    return "";
  }
}

function keep(store, name, value) {
  try {
    if (value) store().setItem(name, value);
    else store().removeItem(name);
    return true;
  } catch {
    return false;
  }
}

const device = () => window.localStorage;
const tab = () => window.sessionStorage;

let key = load(device, KEY);

// ---- the API

function headers(withKey) {
  const all = { "Content-Type": "application/json" };
  if (withKey) all.Authorization = `Bearer ${withKey}`;
  return all;
}

/** What went wrong, in words that say what to do. `wait`: seconds until another try makes sense. */
class Trouble extends Error {
  constructor(text, { status = 0, again = false, wait = 0 } = {}) {
    super(text);
    Object.assign(this, { status, again, wait });
  }
}

/** Seconds from a Retry-After header: a number, or a date. */
function retryAfter(response) {
  const value = response.headers.get("Retry-After");
  if (!value) return 0;
  const seconds = /^\d+$/.test(value.trim()) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(Math.ceil(seconds), 0), 3600) : 0;
}

async function refusal(response) {
  let said = "";
  try {
    const body = await response.json();
    if (typeof body.error === "string") said = body.error;
  } catch {
    // Not ours, or cut off: the status alone must do.
  }
  const status = response.status;
  const wait = retryAfter(response);
  const quoted = said ? ` The gateway says: ${said}` : "";
  const words = {
    401: key
      ? "The API key was not accepted. Check it above and press Save."
      : "This gateway asks for an API key. Enter it above and press Save.",
    403: `This key may not do that. Choose another model, or ask whoever runs this gateway.${quoted}`,
    404: `The model was not found. Choose another one above.${quoted}`,
    413: "The message and the conversation together are too large. Shorten the message or start a new chat.",
    421: `This gateway does not serve the address in your address bar. Open it by the address its operator gave.${quoted}`,
    429: `Too many requests for now. ${wait ? "Wait a moment, then send again." : "Wait for a running answer to end, then send again."}${quoted}`,
    500: "The gateway or the model server failed on this request. Send again; if it stays so, tell whoever runs it.",
    502: "The model server does not answer. If it is yours, check that Ollama runs; then send again.",
    503: "The model server is busy or still starting. Send again in a moment.",
    504: "The model server took too long. Send again, or choose a smaller model.",
  };
  const text = words[status] ?? `The gateway refused the request (${status}).${quoted}`;
  return new Trouble(text, { status, again: status === 429 || status >= 500, wait });
}

const LOST = "The connection was lost before the answer was complete. Send again for a new one.";

function unreachable() {
  const text = navigator.onLine === false
    ? "You are offline. Your message is kept; send it again when the connection is back."
    : "The gateway cannot be reached. Check the connection and that it runs, then send again.";
  return new Trouble(text, { again: true });
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", credentials: "omit", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function fetchModels(withKey) {
  const response = await call("/models", { headers: headers(withKey) });
  const body = await response.json().catch(() => ({}));
  return Array.isArray(body.models) ? body.models : [];
}

/** Reads NDJSON: one object a line, as the lines arrive. A line that is no JSON is passed over. */
async function* lines(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    held += done ? decoder.decode() : decoder.decode(value, { stream: true });
    const parts = held.split("\n");
    held = done ? "" : parts.pop();
    for (const part of parts) {
      if (!part.trim()) continue;
      try {
        yield JSON.parse(part);
      } catch {
        console.warn("a line of the answer is no JSON");
      }
    }
    if (done) return;
  }
}

// ---- the header: key and models

function say(text, kind = "") {
  page.keyStatus.textContent = text;
  page.keyStatus.className = `key-status ${kind}`.trim();
}

function showModels(models) {
  const wanted = page.model.value || load(device, MODEL);
  const first = document.createElement("option");
  first.value = "";
  first.textContent = "Default model";
  const options = models
    .filter((model) => typeof (model.name ?? model.model) === "string")
    .sort((a, b) => Number(b.loaded === true) - Number(a.loaded === true))
    .map((model) => {
      const option = document.createElement("option");
      option.value = model.name ?? model.model;
      option.textContent = option.value + (model.loaded ? " (loaded)" : "");
      return option;
    });
  page.model.replaceChildren(first, ...options);
  const values = options.map((option) => option.value);
  if (values.includes(wanted)) page.model.value = wanted;
  else if (values.length === 1) page.model.value = values[0];
}

function count(models) {
  return models.length === 1 ? "1 model" : `${models.length} models`;
}

/** Asks without a key first: where that is answered, nobody needs the key field. */
async function start() {
  try {
    showModels(await fetchModels(""));
    open = true;
    page.keyForm.hidden = true;
    return;
  } catch (trouble) {
    if (trouble.status !== 401) {
      say(trouble.message, "error");
      return;
    }
  }
  if (!key) {
    say("Enter the API key of this gateway and press Save.");
    page.key.focus();
    return;
  }
  page.key.value = key;
  try {
    showModels(await fetchModels(key));
    say("");
  } catch (trouble) {
    say(trouble.message, "error");
  }
}

async function saveKey(event) {
  event.preventDefault();
  const entered = page.key.value.trim();
  if (!entered) {
    key = "";
    keep(device, KEY, "");
    showModels([]);
    say("The key was removed from this browser.");
    return;
  }
  if (!/^[\x21-\x7e]+$/.test(entered)) {
    say("A key holds only letters, digits and signs without spaces. Copy it again.", "error");
    return;
  }
  say("Checking the key…");
  try {
    const models = await fetchModels(entered);
    key = entered;
    const kept = keep(device, KEY, key);
    showModels(models);
    say(`${kept ? "Key saved" : "The key works, but this browser does not keep it"}: ${count(models)}.`, "ok");
    page.message.focus();
  } catch (trouble) {
    if (trouble.status === 401) {
      say("The gateway does not know this key. It was not saved.", "error");
      page.key.focus();
      return;
    }
    key = entered;
    keep(device, KEY, key);
    say(`Key saved, but not checked. ${trouble.message}`, "error");
  }
}

// ---- the conversation

let pinned = true;
let lastTop = 0;
let lastHeight = 0;

function follow() {
  if (pinned) page.log.scrollTop = page.log.scrollHeight;
  else page.toEnd.hidden = false;
}

function toEnd() {
  pinned = true;
  page.toEnd.hidden = true;
  follow();
}

// We only ever scroll down, so a move up is the reader's, unless the conversation became shorter.
function scrolled() {
  const { scrollTop, scrollHeight, clientHeight } = page.log;
  const up = scrollTop < lastTop - 1 && scrollHeight >= lastHeight;
  if (up) pinned = false;
  else if (scrollHeight - scrollTop - clientHeight < NEAR_END) pinned = true;
  lastTop = scrollTop;
  lastHeight = scrollHeight;
  if (pinned) page.toEnd.hidden = true;
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** Text that grows at its end: one block a line, so that a long answer stays cheap to lay out. */
class Growing {
  constructor(node) {
    this.node = node;
    this.text = "";
    this.shown = 0;
    this.line = null;
    this.frame = 0;
  }

  add(text) {
    this.text += text;
    // A hidden tab gets no animation frames.
    this.frame ||= document.hidden ? setTimeout(() => this.flush(), 500) : requestAnimationFrame(() => this.flush());
  }

  flush() {
    this.frame = 0;
    const fresh = this.text.slice(this.shown).split("\n");
    this.shown = this.text.length;
    fresh.forEach((part, i) => {
      if (i > 0 || !this.line) {
        if (this.line?.data === "") this.line.after(document.createElement("br"));
        const block = document.createElement("div");
        this.line = block.appendChild(document.createTextNode(""));
        this.node.append(block);
      }
      this.line.appendData(part);
    });
    follow();
  }
}

function addMessage(kind, name) {
  page.welcome.hidden = true;
  const node = element("article", `message ${kind}`);
  node.setAttribute("aria-label", name);
  node.append(element("h2", "", name));
  page.log.append(node);
  return node;
}

function addUser(text) {
  const node = addMessage("user", "You");
  const body = element("div", "text");
  node.append(body);
  new Growing(body).add(text);
  return node;
}

/** The answer's place: an indicator until the first word, then text, thoughts folded above it, figures below. */
class Answer {
  constructor(name) {
    this.node = addMessage("bot", name);
    this.typing = element("p", "typing");
    this.seconds = element("span");
    this.typing.append(element("i"), element("i"), element("i"), this.seconds);
    this.node.append(this.typing);
    this.begun = performance.now();
    this.first = 0;
    this.clock = setInterval(() => this.tick(), 1000);
    this.text = null;
    this.thoughts = null;
  }

  tick() {
    const waited = performance.now() - this.begun;
    if (waited > SHOW_WAIT) this.seconds.textContent = `waiting ${Math.round(waited / 1000)} s`;
  }

  think(text) {
    if (!this.thoughts) {
      const fold = element("details");
      const body = element("div", "text");
      fold.append(element("summary", "", "Thinking"), body);
      this.typing.before(fold);
      this.thoughts = new Growing(body);
    }
    this.thoughts.add(text);
  }

  add(text) {
    if (!this.text) {
      this.first = performance.now();
      this.settle();
      const body = element("div", "text");
      this.node.append(body);
      this.text = new Growing(body);
    }
    this.text.add(text);
  }

  get content() {
    return this.text?.text ?? "";
  }

  /** No more waiting: the indicator goes. */
  settle() {
    clearInterval(this.clock);
    this.typing.remove();
  }

  meta(text) {
    if (text) this.node.append(element("p", "meta", text));
    follow();
  }
}

function figures(answer, last) {
  const parts = [];
  if (answer.first) parts.push(`${((answer.first - answer.begun) / 1000).toFixed(1)} s to the first word`);
  if (last.eval_count) parts.push(`${last.eval_count} tokens`);
  if (last.eval_count && last.eval_duration) {
    parts.push(`${(last.eval_count / (last.eval_duration / 1e9)).toFixed(1)} tokens/s`);
  }
  if (last.done_reason === "length") parts.push("ended at the token limit");
  return parts.join(" · ");
}

/** A notice in the conversation; `retry` adds a button that counts down first. */
function notice(text, { wait = 0, retry = null } = {}) {
  const node = element("div", "notice error");
  node.setAttribute("role", "alert");
  node.append(element("p", "", text));
  if (retry) {
    const button = element("button", "", "Send again");
    button.type = "button";
    button.addEventListener("click", () => {
      clearInterval(clock);
      retry();
    });
    let left = wait;
    const tick = () => {
      button.disabled = left > 0;
      button.textContent = left > 0 ? `Send again in ${left} s` : "Send again";
      if (left-- <= 0) clearInterval(clock);
    };
    const clock = setInterval(tick, 1000);
    tick();
    node.append(button);
  }
  page.log.append(node);
  follow();
}

function dropNotices() {
  for (const node of page.log.querySelectorAll(".notice")) node.remove();
}

// ---- one turn

function busy(controller) {
  running = controller;
  page.send.hidden = controller !== null;
  page.stop.hidden = controller === null;
  page.log.setAttribute("aria-busy", String(controller !== null));
}

function giveBack(text) {
  // Never over what was typed since.
  if (!page.message.value) setDraft(text);
}

function setDraft(text) {
  page.message.value = text;
  keep(tab, DRAFT, text);
  grow();
}

async function read(response, answer) {
  for await (const line of lines(response)) {
    if (typeof line !== "object" || line === null) continue;
    if (typeof line.error === "string") {
      throw new Trouble(`The answer broke off. The gateway says: ${line.error}`, { again: true });
    }
    const thought = line.message?.thinking ?? line.thinking;
    const text = line.message?.content ?? line.response;
    if (thought) answer.think(thought);
    if (text) answer.add(text);
    if (line.done === true) return line;
  }
  throw new Trouble(LOST, { again: true });
}

async function send(prompt) {
  if (running || !prompt.trim()) return;
  dropNotices();
  const controller = new AbortController();
  const ours = chat;
  busy(controller);
  setDraft("");
  keep(tab, DRAFT, prompt); // a reload while waiting gives it back
  pinned = true;
  const asked = addUser(prompt);
  const answer = new Answer(page.model.value || "Answer");
  page.announce.textContent = "Generating";
  follow();

  const body = { prompt };
  if (page.model.value) body.model = page.model.value;
  if (turns.length) body.messages = turns;
  let trouble = null;
  try {
    const response = await call("/chat_api", {
      method: "POST",
      headers: headers(open ? "" : key),
      body: JSON.stringify(body),
      signal: controller.signal,
    });
    answer.meta(figures(answer, await read(response, answer)));
  } catch (error) {
    const known = error instanceof Trouble || error.name === "AbortError";
    trouble = known ? error : new Trouble(LOST, { again: true });
  }
  answer.settle();
  if (ours !== chat) return;
  busy(null);
  if (!trouble || answer.content) finish(prompt, answer, trouble);
  else undo(prompt, asked, answer, trouble);
}

/** An answer, whole or in part: it belongs to the conversation. */
function finish(prompt, answer, trouble) {
  turns = [...turns, { role: "user", content: prompt }, { role: "assistant", content: answer.content }];
  if (!page.message.value) keep(tab, DRAFT, "");
  if (!trouble) {
    page.announce.textContent = "Answer complete";
  } else if (trouble.name === "AbortError") {
    answer.meta("Stopped");
    page.announce.textContent = "Stopped";
  } else {
    answer.meta("Broken off");
    const retry = trouble.again ? () => {
      turns = turns.slice(0, -2);
      send(prompt);
    } : null;
    notice(trouble.message, { wait: trouble.wait, retry });
  }
}

/** Nothing came: the question goes back to its box. */
function undo(prompt, asked, answer, trouble) {
  asked.remove();
  answer.node.remove();
  page.welcome.hidden = turns.length > 0;
  giveBack(prompt);
  if (trouble.name === "AbortError") {
    page.announce.textContent = "Stopped";
    return;
  }
  page.announce.textContent = "";
  const retry = trouble.again ? () => {
    const text = page.message.value || prompt;
    send(text);
  } : null;
  notice(trouble.message, { wait: trouble.wait, retry });
  if (trouble.status === 401) {
    page.keyForm.hidden = false;
    open = false;
    page.key.focus();
  }
}

function newChat() {
  running?.abort();
  busy(null);
  chat += 1;
  turns = [];
  for (const node of [...page.log.children]) if (node !== page.welcome) node.remove();
  page.welcome.hidden = false;
  toEnd();
  page.message.focus();
}

// ---- the message box

function grow() {
  page.message.style.height = "auto";
  page.message.style.height = `${page.message.scrollHeight + 2}px`;
}

// On a phone the Enter key of the screen keyboard is the only way to break a line.
const phone = window.matchMedia("(hover: none) and (pointer: coarse)");

function typed(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  if (phone.matches && !event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  send(page.message.value);
}

page.keyForm.addEventListener("submit", saveKey);
page.reveal.addEventListener("click", () => {
  const shown = page.key.type === "text";
  page.key.type = shown ? "password" : "text";
  page.reveal.textContent = shown ? "Show" : "Hide";
  page.reveal.setAttribute("aria-pressed", String(!shown));
});
page.model.addEventListener("change", () => keep(device, MODEL, page.model.value));
page.newChat.addEventListener("click", newChat);
page.log.addEventListener("scroll", scrolled, { passive: true });
page.toEnd.addEventListener("click", toEnd);
page.form.addEventListener("submit", (event) => {
  event.preventDefault();
  send(page.message.value);
});
page.message.addEventListener("keydown", typed);
page.message.addEventListener("input", () => {
  keep(tab, DRAFT, page.message.value);
  grow();
});
page.stop.addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running && !event.isComposing) running.abort();
});

setDraft(load(tab, DRAFT));
start();
