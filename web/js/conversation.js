// One conversation: a tree of messages, of which one path is shown. Editing and regenerating make siblings; nothing is overwritten.

import { id, store } from "./store.js";
import { words } from "./strings.js";

/** Who has not written for so long has ended. */
const ABANDONED = 5_000;

export class Conversation {
  constructor(record) {
    this.record = record;
    this.messages = new Map();
  }

  static create() {
    const now = Date.now();
    return new Conversation({ id: id(), title: "", created: now, updated: now, leaf: "", model: "", system: "", params: {} });
  }

  static async load(key) {
    const record = await store.chat(key);
    if (!record) return null;
    const chat = new Conversation(record);
    for (const message of await store.messages(key)) chat.messages.set(message.id, message);
    return chat;
  }

  get key() {
    return this.record.id;
  }

  get title() {
    return this.record.title || words.untitled;
  }

  /** Is anything worth keeping in it? */
  get isEmpty() {
    return this.messages.size === 0;
  }

  children(parent) {
    return [...this.messages.values()].filter((message) => message.parent === parent).sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  siblings(message) {
    return this.children(message.parent);
  }

  /** The messages from the first to this one. */
  path(leaf = this.record.leaf) {
    const path = [];
    const seen = new Set();
    for (let at = this.messages.get(leaf); at && !seen.has(at.id); at = this.messages.get(at.parent)) {
      seen.add(at.id);
      path.unshift(at);
    }
    return path;
  }

  /** The newest message below this one. */
  deepest(message) {
    let at = message;
    for (let next = this.children(at.id).at(-1); next; next = this.children(at.id).at(-1)) at = next;
    return at;
  }

  isAbandoned(message) {
    return message.status === "running" && Date.now() - (message.touched ?? 0) > ABANDONED;
  }

  async add(role, parent, content, more = {}) {
    const message = { id: id(), chat: this.key, parent, role, content, created: Date.now(), status: "done", ...more };
    this.messages.set(message.id, message);
    this.record.leaf = message.id;
    this.record.updated = message.created;
    if (!this.record.title && role === "user") this.record.title = title(content);
    await store.save("messages", message);
    await store.save("chats", this.record);
    return message;
  }

  async put(message) {
    this.messages.set(message.id, message);
    await store.save("messages", message);
  }

  async change(fields) {
    Object.assign(this.record, fields);
    if (!this.isEmpty || fields.title) await store.save("chats", this.record);
  }

  async drop(message) {
    this.messages.delete(message.id);
    if (this.record.leaf === message.id) this.record.leaf = message.parent;
    await store.inner.remove("messages", message.id).catch(() => {});
    if (this.isEmpty) await store.inner.remove("chats", this.key).catch(() => {});
    else await store.save("chats", this.record);
    store.tell(this.key);
  }
}

/** The first words of the first message. */
function title(text) {
  const line = text.trim().split("\n")[0].replace(/\s+/g, " ");
  const cut = line.slice(0, 60);
  return line.length > 60 ? `${cut.slice(0, Math.max(cut.lastIndexOf(" "), 30))}…` : cut;
}

/** The body of a request for the answer below this path; the last message of the path is the question. */
export function request(chat, path) {
  const { model, system, params = {} } = chat.record;
  const question = path.at(-1);
  const turns = path.slice(0, -1).filter((message) => message.content).map(turn);
  const body = { prompt: question.content };
  if (model) body.model = model;
  if (system) body.system = system;
  if (question.images?.length) body.images = question.images.map((image) => image.data);
  if (turns.length) body.messages = turns;
  return Object.assign(body, settings(params));
}

/** The body that asks a model to go on with its own last turn. */
export function continuation(chat, path) {
  const { model, system, params = {} } = chat.record;
  const messages = path.filter((message) => message.content).map(turn);
  if (system) messages.unshift({ role: "system", content: system });
  const body = { messages, stream: true };
  if (model) body.model = model;
  return Object.assign(body, settings(params));
}

function turn(message) {
  const made = { role: message.role, content: message.content };
  if (message.images?.length) made.images = message.images.map((image) => image.data);
  return made;
}

function settings(params) {
  const { think, ...options } = params;
  const made = {};
  if (Object.keys(options).length) made.options = options;
  if (think !== undefined) made.think = think;
  return made;
}

/** Joins an answer and its continuation, where that begins with the end of what was there. */
export function join(before, after) {
  for (let n = Math.min(before.length, after.length, 200); n > 8; n -= 1) {
    if (before.endsWith(after.slice(0, n))) return before + after.slice(n);
  }
  return before + after;
}
