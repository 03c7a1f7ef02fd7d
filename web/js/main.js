// The chat page: puts its parts together.

import { gate } from "./api.js";
import { Composer, Tray } from "./composer.js";
import { Conversation } from "./conversation.js";
import { KeyField } from "./key.js";
import { Models } from "./models.js";
import { drafts, prefs } from "./prefs.js";
import { Run, runs } from "./run.js";
import { Follower } from "./scroll.js";
import { Settings } from "./settings.js";
import { Side } from "./side.js";
import { store } from "./store.js";
import { words } from "./strings.js";
import { MessageView, notice } from "./view.js";

const at = (id) => document.getElementById(id);
const log = at("log");
const welcome = at("welcome");

let chat = Conversation.create();
let views = new Map();
/** Where the next question hangs: below the last message, or beside one that is being edited. */
let parent = null;

const follower = new Follower(log, at("to-end"));
const tray = new Tray(at("tray"), (text) => say(text), () => picker.blind());
const picker = new Models(
  { open: at("model"), dialog: at("model-dialog"), filter: at("model-filter"), list: at("model-list") },
  (name) => {
    prefs.set("model", name);
    chat.change({ model: name });
  },
);
const settings = new Settings(
  { dialog: at("settings-dialog"), form: at("settings-form"), open: at("settings"), chip: at("chip") },
  (value) => chat.change(value),
);
const composer = new Composer({
  form: at("message-form"),
  box: at("message"),
  onSend: send,
  onEditLast: () => {
    const last = chat.path().findLast((message) => message.role === "user");
    if (last) edit(last);
  },
  breaks: () => settings.enterBreaks,
});
const side = new Side(
  {
    list: at("chats"),
    search: at("search"),
    count: at("count"),
    exportAll: at("export"),
    importAll: at("import"),
    file: at("import-file"),
    toasts: at("toasts"),
  },
  {
    open: (key) => openChat(key),
    removing: (key) => runs.get(key)?.discard(),
    removed: (key) => key === chat.key && newChat(),
    renamed,
    say: (text) => say(text),
  },
);
const key = new KeyField(
  { form: at("key-form"), field: at("api-key"), reveal: at("reveal"), remember: at("remember"), status: at("key-status") },
  (list) => {
    picker.set(list);
    if (!picker.chosen && list.length === 1) picker.choose(list[0].name);
  },
);

function announce(text) {
  at("announce").textContent = text;
}

function say(text, more) {
  log.append(notice(text, more));
  follower.follow();
}

function dropNotices() {
  for (const node of log.querySelectorAll(".notice")) node.remove();
}

// ---- showing a conversation

const actions = {
  edit,
  regenerate: (message) => answer(chat, message.parent),
  resume: (message) => resume(message),
  turnTo: async (message) => {
    await chat.change({ leaf: chat.deepest(message).id });
    draw();
  },
};

function view(message) {
  const of = chat.siblings(message);
  const name = message.model || chat.record.model || words.answer;
  const made = new MessageView(message, { siblings: of, at: of.findIndex((one) => one.id === message.id), actions, name });
  views.set(message.id, made);
  return made;
}

/** The path, as articles: the last ones at once, the earlier ones when there is time. */
function draw() {
  const path = chat.path();
  views = new Map();
  for (const node of [...log.children]) if (node !== welcome) node.remove();
  welcome.hidden = path.length > 0;
  const made = path.map(view);
  const late = made.splice(0, Math.max(0, made.length - 30));
  for (const one of made) {
    log.append(one.node);
    one.show(runs.get(chat.key)?.message === one.message ? runs.get(chat.key) : null);
  }
  fill(late, chat.key);
  titled();
  side.current = chat.key;
  side.draw();
  follower.toEnd();
}

function titled() {
  document.title = `${chat.title} · Portcullis`;
  at("title").textContent = chat.title;
}

function fill(late, shown) {
  if (!late.length || shown !== chat.key) return;
  const before = log.scrollHeight - log.scrollTop;
  const batch = late.splice(Math.max(0, late.length - 20), 20);
  welcome.after(...batch.map((one) => one.node));
  for (const one of batch) one.show(null);
  log.scrollTop = log.scrollHeight - before;
  (window.requestIdleCallback ?? setTimeout)(() => fill(late, shown));
}

function busy() {
  const run = runs.get(chat.key);
  at("send").hidden = Boolean(run);
  at("stop").hidden = !run;
  log.setAttribute("aria-busy", String(Boolean(run)));
}

async function openChat(wanted) {
  const found = runs.get(wanted)?.chat ?? (await Conversation.load(wanted));
  if (!found) return;
  chat = found;
  parent = null;
  show();
  composer.box.focus();
}

/** What is in memory must not bring the old title back. */
function renamed(key, title) {
  for (const one of [chat, runs.get(key)?.chat]) if (one?.key === key) one.record.title = title;
  if (key === chat.key) titled();
}

function newChat() {
  chat = Conversation.create();
  chat.record.model = picker.chosen;
  parent = null;
  show();
  composer.box.focus();
}

function show() {
  document.body.classList.remove("drawer");
  prefs.set("chat", chat.key);
  picker.choose(chat.record.model || (chat.isEmpty ? prefs.get("model") : ""));
  settings.set(chat.record);
  composer.open(chat.isEmpty ? "new" : chat.key);
  tray.set([]);
  at("editing").hidden = true;
  draw();
  busy();
}

// ---- asking

async function send() {
  const text = composer.text;
  if (!text.trim() || runs.has(chat.key)) return;
  dropNotices();
  const asked = chat;
  if (chat.isEmpty) asked.record.model = picker.chosen;
  const below = parent ?? asked.path().at(-1)?.id ?? "";
  const question = await asked.add("user", below, text, tray.images.length ? { images: tray.images } : {});
  parent = null;
  at("editing").hidden = true;
  // The draft stays until the gateway has taken the question: a reload before that gives it back.
  const [was, images] = [composer.chat, tray.images];
  composer.chat = asked.key;
  composer.box.value = "";
  composer.box.style.height = "auto";
  drafts.set(asked.key, text);
  if (was !== asked.key) drafts.set(was, "");
  tray.set([]);
  await answer(asked, question.id, { text, images });
}

/** Asks for an answer below a question. `sent`: what to give back where nothing comes of it. */
async function answer(asked, below, sent = null) {
  if (runs.has(asked.key)) return;
  dropNotices();
  const message = await asked.add("assistant", below, "", { model: asked.record.model, status: "running", touched: Date.now() });
  await follow(new Run(asked, message, asked.path(below)), sent);
}

async function resume(message) {
  if (runs.has(chat.key)) return;
  dropNotices();
  await follow(new Run(chat, message, chat.path(message.id), { goOn: true }), null);
}

async function follow(run, sent) {
  if (run.chat.key === chat.key) draw();
  busy();
  announce(words.generating);
  if (run.chat.key === chat.key) {
    const question = views.get(run.message.parent);
    if (question && !run.goOn) follower.lead(question.node, views.get(run.message.id).node);
    else follower.toEnd();
  }
  let frame = 0;
  const flush = () => {
    frame = 0;
    if (run.chat.key !== chat.key) return;
    views.get(run.message.id)?.show(run);
    if (!settings.stays) follower.follow();
  };
  run.onChange = () => {
    if (run.accepted && sent && drafts.get(run.chat.key) === sent.text) drafts.set(run.chat.key, composer.chat === run.chat.key ? composer.text : "");
    // A hidden tab gets no frames.
    frame ||= document.hidden ? setTimeout(flush, 1_000) : requestAnimationFrame(flush);
  };
  const clock = setInterval(run.onChange, 500);
  await run.start();
  clearInterval(clock);
  flush();
  await ended(run, sent);
}

async function ended(run, sent) {
  busy();
  if (run.discarded) return;
  const { trouble, message } = run;
  const here = run.chat.key === chat.key;
  if (!trouble) {
    announce(words.complete(message.content.split(/\s+/).filter(Boolean).length));
    side.draw();
    return;
  }
  if (trouble.name === "AbortError") announce(words.stopped);
  if (message.content || message.thinking) {
    // Inside the answer, which has room for it: nothing moves.
    if (here && trouble.name !== "AbortError") views.get(message.id)?.node.append(notice(trouble.message));
    return;
  }
  // Nothing came: the answer goes, and a question that was just sent goes back to its box.
  await run.chat.drop(message);
  if (sent) {
    const question = run.chat.messages.get(message.parent);
    if (question) await run.chat.drop(question);
    if (here && run.chat.isEmpty) composer.chat = run.chat.key;
    composer.giveBack(sent.text, run.chat.key);
    if (here && !tray.images.length) tray.set(sent.images);
  }
  if (run.chat.key !== chat.key) return;
  draw();
  busy();
  if (trouble.name === "AbortError") return;
  const again = trouble.again && navigator.onLine !== false;
  const retry = again ? () => (sent ? send() : answer(run.chat, message.parent)) : null;
  say(trouble.message, { wait: trouble.wait, retry });
  if (trouble.status === 401) {
    gate.open = false;
    key.ask();
  }
}

function edit(message) {
  if (runs.has(chat.key)) return;
  parent = message.parent;
  composer.put(message.content);
  tray.set(message.images ?? []);
  at("editing").hidden = false;
  composer.box.focus();
}

// ---- keys, files, other tabs

function shortcuts(event) {
  if (event.isComposing || event.keyCode === 229) return;
  const command = event.ctrlKey || event.metaKey;
  const typing = event.target.closest?.("input, textarea, select, dialog");
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
    if (document.body.classList.contains("drawer")) document.body.classList.remove("drawer");
    else if (!at("editing").hidden) cancelEdit();
    else runs.get(chat.key)?.stop();
  } else if (command && !event.shiftKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    document.body.classList.add("drawer");
    at("search").focus();
  } else if (command && event.shiftKey && event.key.toLowerCase() === "o") {
    event.preventDefault();
    newChat();
  } else if (event.key === "/" && !typing) {
    event.preventDefault();
    composer.box.focus();
  } else if (event.key === "?" && !typing) at("keys-dialog").showModal();
}

function cancelEdit() {
  parent = null;
  at("editing").hidden = true;
  composer.put("");
  tray.set([]);
}

function files() {
  composer.box.addEventListener("paste", (event) => {
    if (![...event.clipboardData.files].some((file) => file.type.startsWith("image/"))) return;
    event.preventDefault();
    tray.add(event.clipboardData.files);
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    tray.add(event.dataTransfer.files);
  });
  at("attach").addEventListener("click", () => at("image-file").click());
  at("image-file").addEventListener("change", ({ target }) => {
    tray.add(target.files);
    target.value = "";
  });
}

function wire() {
  at("stop").addEventListener("click", () => runs.get(chat.key)?.stop());
  at("new-chat").addEventListener("click", newChat);
  at("cancel-edit").addEventListener("click", cancelEdit);
  at("drawer").addEventListener("click", () => document.body.classList.toggle("drawer"));
  at("show-key").addEventListener("click", () => key.ask());
  at("keys").addEventListener("click", () => at("keys-dialog").showModal());
  at("save-markdown").addEventListener("click", async () => {
    (await import("./transfer.js")).saveMarkdown(chat.title, chat.path());
  });
  document.addEventListener("keydown", shortcuts);
  files();
  store.onChange = async ({ chat: changed }) => {
    side.draw();
    if (changed === chat.key && !runs.has(chat.key) && !composer.text) {
      const fresh = await Conversation.load(changed);
      if (fresh && fresh.key === chat.key) {
        chat = fresh;
        draw();
      }
    }
  };
  store.onFull = () => say(words.full);
  addEventListener("pagehide", () => {
    for (const run of runs.values()) run.keep();
  });
}

async function start() {
  wire();
  const keyed = key.start();
  await store.open();
  if (!store.lasting) {
    at("memory").textContent = words.memory;
    at("memory").hidden = false;
    if (window.top !== window) {
      const link = document.createElement("a");
      Object.assign(link, { href: location.href, target: "_blank", textContent: words.memoryFrame });
      at("memory").append(" ", link);
    }
  }
  const last = await Conversation.load(prefs.get("chat"));
  if (last) chat = last;
  show();
  await keyed;
  if (!chat.record.model) picker.choose(picker.chosen || prefs.get("model"));
}

start();
