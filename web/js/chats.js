// Renaming a chat, and deleting it with a way back. Loaded when first needed.

import { store } from "./store.js";
import { words } from "./strings.js";
import { button, element } from "./view.js";

const UNDO = 8_000;

/** Puts a field in the place of its title. Enter and leaving keep what was typed, Escape does not. */
export function rename(side, chat, item) {
  const field = element("input", { value: chat.title, label: words.rename });
  const done = async (keep) => {
    field.onblur = null;
    const title = field.value.trim().slice(0, 200);
    if (keep && title) {
      // As it is now: an answer may have come while the title was typed.
      const now = await store.chat(chat.id);
      if (now) await store.save("chats", { ...now, title });
      side.actions.renamed(chat.id, title);
    }
    await side.draw();
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

/** An answer on its way ends with its chat. */
export async function remove(side, chat) {
  side.actions.removing(chat.id);
  const taken = await store.take(chat.id);
  side.actions.removed(chat.id);
  await side.draw();
  const back = async () => {
    clearTimeout(clock);
    toast.remove();
    await store.restore(taken);
    await side.draw();
    side.actions.open(chat.id);
  };
  const toast = element("div", { className: "toast" }, element("span", { text: words.removed(chat.title || words.untitled) }), button(words.undo, back));
  toast.setAttribute("role", "status");
  side.nodes.toasts.append(toast);
  const clock = setTimeout(() => toast.remove(), UNDO);
}
