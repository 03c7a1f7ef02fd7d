// Chats as files: export, import, Markdown. Loaded when somebody asks.

import { store } from "./store.js";
import { words } from "./strings.js";

const FORMAT = "portcullis-chats";

/** Everything but keys: versioned, with messages as the OpenAI API shapes them, and our own fields beside. */
export async function exportAll() {
  const chats = [];
  for (const chat of await store.chats()) {
    const messages = await store.messages(chat.id);
    chats.push({ ...chat, messages: messages.map(({ chat: _, ...message }) => message) });
  }
  const text = JSON.stringify({ format: FORMAT, version: 1, exported: new Date().toISOString(), chats }, null, 1);
  save(text, `portcullis-chats-${new Date().toISOString().slice(0, 10)}.json`, "application/json");
}

/** Puts the chats of a file beside what is there; what to say about it. */
export async function importFile(file) {
  try {
    const all = JSON.parse(await file.text());
    if (all.format !== FORMAT || !Array.isArray(all.chats)) throw new Error("another form");
    let count = 0;
    for (const { messages, ...chat } of all.chats) {
      if (typeof chat.id !== "string" || !Array.isArray(messages)) continue;
      const whole = messages.filter((message) => typeof message?.id === "string" && typeof message.content === "string");
      await store.restore({ chat, messages: whole.map((message) => ({ ...message, chat: chat.id })) });
      count += 1;
    }
    return words.imported(count);
  } catch {
    return words.noImport;
  }
}

/** One chat as Markdown. */
export function saveMarkdown(title, path) {
  const parts = path.map((message) => `## ${message.role === "user" ? words.you : message.model || words.answer}\n\n${message.content}`);
  save(`# ${title}\n\n${parts.join("\n\n")}\n`, `${title.replace(/[^\w-]+/g, "-").slice(0, 60)}.md`, "text/markdown");
}

function save(text, name, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1_000);
}
