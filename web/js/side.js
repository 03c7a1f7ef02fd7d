// The list of chats: search, and doors to renaming, deleting, export and import, which are loaded when they are first used.

import { store } from "./store.js";
import { words } from "./strings.js";
import { button, element } from "./view.js";

function day(time) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (time >= midnight) return words.today;
  return time >= midnight - 86_400_000 ? words.yesterday : words.earlier;
}

export class Side {
  /** `nodes`: its places; `actions`: open(id), removing(id), removed(id), renamed(id, title), say(text). */
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
    const change = (what) => async () => (await import("./chats.js"))[what](this, chat, item);
    const rename = button("✎", change("rename"), { label: `${words.rename}: ${title}`, className: "small" });
    const remove = button("×", change("remove"), { label: `${words.remove}: ${title}`, className: "small" });
    const item = element("li", {}, open, rename, remove);
    return item;
  }
}

function grouped(chats) {
  const groups = new Map();
  for (const chat of chats) groups.set(day(chat.updated), [...(groups.get(day(chat.updated)) ?? []), chat]);
  return groups;
}
