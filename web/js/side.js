// The list of chats: search, rename, delete with a way back, export and import.

import { store } from "./store.js";
import { words } from "./strings.js";
import { button, element } from "./view.js";

const UNDO = 8_000;

function day(time) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (time >= midnight) return words.today;
  return time >= midnight - 86_400_000 ? words.yesterday : words.earlier;
}

export class Side {
  /** `nodes`: its places; `actions`: open(id), created(), removed(id), say(text). */
  constructor(nodes, actions) {
    Object.assign(this, { nodes, actions, current: "", found: null, asked: 0 });
    nodes.search.addEventListener("input", () => this.search());
    nodes.exportAll.addEventListener("click", async () => (await import("./transfer.js")).exportAll());
    nodes.importAll.addEventListener("click", () => nodes.file.click());
    nodes.file.addEventListener("change", async () => {
      const [file] = nodes.file.files;
      if (!file) return;
      actions.say(await (await import("./transfer.js")).importFile(file));
      nodes.file.value = "";
      this.draw();
    });
  }

  async search() {
    const text = this.nodes.search.value.trim();
    this.asked += 1;
    const asked = this.asked;
    const found = text ? await store.search(text) : null;
    if (asked !== this.asked) return;
    this.found = found;
    this.draw();
  }

  async draw() {
    const chats = (await store.chats()).filter((chat) => !this.found || this.found.has(chat.id));
    const groups = Map.groupBy ? Map.groupBy(chats, (chat) => day(chat.updated)) : grouped(chats);
    const lists = [...groups].map(([name, group]) =>
      element("section", {}, element("h2", { text: name }), element("ul", {}, ...group.map((chat) => this.item(chat)))));
    this.nodes.list.replaceChildren(...lists);
    this.nodes.count.textContent = words.chats(chats.length);
  }

  item(chat) {
    const open = button(chat.title || words.untitled, () => this.actions.open(chat.id), { className: "chat" });
    if (chat.id === this.current) open.setAttribute("aria-current", "true");
    const title = chat.title || words.untitled;
    const rename = button("✎", () => this.rename(chat, item), { label: `${words.rename}: ${title}`, className: "small" });
    const remove = button("×", () => this.remove(chat), { label: `${words.remove}: ${title}`, className: "small" });
    const item = element("li", {}, open, rename, remove);
    return item;
  }

  rename(chat, item) {
    const field = element("input", { value: chat.title, label: words.rename });
    const done = async (keep) => {
      field.onblur = null;
      if (keep && field.value.trim()) await store.save("chats", { ...chat, title: field.value.trim().slice(0, 200) });
      await this.draw();
      this.actions.renamed(chat.id);
    };
    field.addEventListener("keydown", (event) => {
      if (event.isComposing || event.keyCode === 229) return;
      if (event.key === "Enter") done(true);
      if (event.key === "Escape") {
        event.stopPropagation();
        done(false);
      }
    });
    field.onblur = () => done(true);
    item.replaceChildren(field);
    field.focus();
    field.select();
  }

  async remove(chat) {
    const taken = await store.take(chat.id);
    this.actions.removed(chat.id);
    await this.draw();
    const back = async () => {
      clearTimeout(clock);
      toast.remove();
      await store.restore(taken);
      await this.draw();
      this.actions.open(chat.id);
    };
    const toast = element("div", { className: "toast" }, element("span", { text: words.removed(chat.title || words.untitled) }), button(words.undo, back));
    toast.setAttribute("role", "status");
    this.nodes.toasts.append(toast);
    const clock = setTimeout(() => toast.remove(), UNDO);
  }
}

function grouped(chats) {
  const groups = new Map();
  for (const chat of chats) groups.set(day(chat.updated), [...(groups.get(day(chat.updated)) ?? []), chat]);
  return groups;
}
