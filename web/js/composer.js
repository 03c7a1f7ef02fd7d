// The message box: drafts, Enter as each device means it, and text that is never lost.

import { drafts } from "./prefs.js";

/** Safari ends a composition before the Enter that ended it arrives. */
const AFTER_COMPOSITION = 30;
const phone = window.matchMedia("(hover: none) and (pointer: coarse)");

export class Composer {
  /** `onSend()`, `onEditLast()`; `breaks()`: does Enter break the line by the reader's wish? */
  constructor({ form, box, onSend, onEditLast, breaks }) {
    Object.assign(this, { form, box, onSend, onEditLast, breaks, chat: "", composed: -1_000 });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      onSend();
    });
    box.addEventListener("input", () => this.changed());
    box.addEventListener("keydown", (event) => this.pressed(event));
    box.addEventListener("compositionend", () => (this.composed = performance.now()));
    box.addEventListener("blur", () => (this.composed = -1_000));
    const hint = () => box.setAttribute("enterkeyhint", phone.matches ? "enter" : "send");
    phone.addEventListener("change", hint);
    hint();
  }

  get text() {
    return this.box.value;
  }

  /** Shows another conversation's draft. */
  open(chat) {
    this.chat = chat;
    this.put(drafts.get(chat));
  }

  put(text) {
    this.box.value = text;
    this.changed();
  }

  /** Never over what was typed since, and never into another conversation. */
  giveBack(text, chat) {
    if (chat !== this.chat) {
      if (!drafts.get(chat)) drafts.set(chat, text);
    } else if (!this.box.value) this.put(text);
  }

  changed() {
    drafts.set(this.chat, this.box.value);
    this.box.style.height = "auto";
    this.box.style.height = `${this.box.scrollHeight + 2}px`;
  }

  pressed(event) {
    if (event.isComposing || event.keyCode === 229 || performance.now() - this.composed < AFTER_COMPOSITION) return;
    if (event.key === "ArrowUp" && !this.box.value) {
      event.preventDefault();
      this.onEditLast();
      return;
    }
    if (event.key !== "Enter" || event.shiftKey) return;
    const always = event.ctrlKey || event.metaKey;
    // On a phone the Enter key of the screen keyboard is the only way to break a line.
    if (!always && (phone.matches || this.breaks())) return;
    event.preventDefault();
    this.onSend();
  }
}

/** The images that go with the next message. `blind()`: why the model may not see them. */
export class Tray {
  constructor(box, say, blind) {
    Object.assign(this, { box, say, blind, images: [] });
  }

  set(images) {
    this.images = [...images];
    this.draw();
  }

  async add(files) {
    // A list of files empties with its field, which does not wait.
    const kept = [...files];
    (await import("./images.js")).add(this, kept);
  }

  async draw() {
    this.box.hidden = this.images.length === 0;
    if (this.images.length) (await import("./images.js")).draw(this);
    else this.box.replaceChildren();
  }
}
