// The key field: verified before it is trusted, and told what it may do.

import { gate, models, usage } from "./api.js";
import { keyring } from "./prefs.js";
import { words } from "./strings.js";

export class KeyField {
  /** `onModels(list)` whenever the key brought a list. */
  constructor({ form, field, reveal, remember, status }, onModels) {
    Object.assign(this, { form, field, remember, status, onModels });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.save();
    });
    reveal.addEventListener("click", () => {
      const shown = field.type === "text";
      field.type = shown ? "password" : "text";
      reveal.textContent = shown ? words.show : words.hide;
      reveal.setAttribute("aria-pressed", String(!shown));
    });
    remember.checked = keyring.remembers();
  }

  say(text, kind = "") {
    this.status.textContent = text;
    this.status.className = `key-status ${kind}`.trim();
  }

  /** Asks without a key first: where that is answered, nobody needs the field. */
  async start() {
    try {
      this.onModels(await models(""));
      gate.open = true;
      this.form.hidden = true;
      return;
    } catch (trouble) {
      if (trouble.status !== 401) {
        this.say(trouble.message, "error");
        return;
      }
    }
    const key = keyring.get();
    if (!key) {
      this.say(words.keyAsk);
      this.field.focus();
      return;
    }
    this.field.value = key;
    try {
      this.onModels(await models(key));
      this.say("");
      // A narrow window has better use for the place, while the key works.
      document.body.classList.add("keyed");
    } catch (trouble) {
      this.say(trouble.message, "error");
    }
  }

  /** The gateway wants a key after all, or its reader wants to see it. */
  ask() {
    document.body.classList.remove("keyed");
    this.form.hidden = false;
    this.field.focus();
  }

  async save() {
    const entered = this.field.value.trim();
    const remember = this.remember.checked;
    if (!entered) {
      keyring.set("", remember);
      this.onModels([]);
      this.say(words.keyRemoved);
      return;
    }
    if (!/^[\x21-\x7e]+$/.test(entered)) {
      this.say(words.keySpaces, "error");
      return;
    }
    this.say(words.keyChecking);
    try {
      const list = await models(entered);
      const kept = keyring.set(entered, remember);
      this.onModels(list);
      const may = await usage(entered);
      const what = may ? words.keyMay(may.name ?? "", may.scopes ?? [], words.models(list.length), may.limits ?? {}) : words.models(list.length);
      this.say(`${kept ? words.keySaved : words.keyNotKept}: ${what}.`, "ok");
    } catch (trouble) {
      if (trouble.status === 401) {
        this.say(words.keyUnknown, "error");
        this.field.focus();
        return;
      }
      keyring.set(entered, remember);
      this.say(words.keyUnchecked(trouble.message), "error");
    }
  }
}
