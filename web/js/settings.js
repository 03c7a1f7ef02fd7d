// What belongs to one conversation (system prompt, parameters) and what to the reader (look, keys). An empty field is a real
// state: nothing is sent for it.

import { prefs } from "./prefs.js";
import { words } from "./strings.js";

const NUMBERS = ["temperature", "top_p", "seed", "num_ctx", "num_predict"];

export class Settings {
  /** `form`: its fields by name; `onChange({system, params})`. */
  constructor({ dialog, form, open, chip }, onChange) {
    Object.assign(this, { dialog, form, chip });
    open.addEventListener("click", () => dialog.showModal());
    chip.addEventListener("click", () => dialog.showModal());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      dialog.close();
    });
    form.addEventListener("input", () => {
      this.look();
      const value = this.value();
      this.tell(value);
      onChange(value);
    });
    for (const name of ["theme", "enter", "follow"]) this.restore(name);
    this.look();
  }

  restore(name) {
    const field = this.form.elements[name];
    const kept = prefs.get(name);
    if (field.type === "checkbox") field.checked = kept === "yes";
    else if (kept) field.value = kept;
  }

  /** The reader's own: kept on this device. */
  look() {
    const { theme, enter, follow } = this.form.elements;
    prefs.set("theme", theme.value === "system" ? "" : theme.value);
    prefs.set("enter", enter.checked ? "yes" : "");
    prefs.set("follow", follow.checked ? "yes" : "");
    document.documentElement.dataset.theme = theme.value;
  }

  get enterBreaks() {
    return this.form.elements.enter.checked;
  }

  get stays() {
    return this.form.elements.follow.checked;
  }

  value() {
    const params = {};
    for (const name of NUMBERS) {
      const field = this.form.elements[name];
      if (field.value !== "" && field.checkValidity()) params[name] = Number(field.value);
    }
    const think = this.form.elements.think.value;
    if (think) params.think = ["true", "false"].includes(think) ? think === "true" : think;
    return { system: this.form.elements.system.value, params };
  }

  set({ system = "", params = {} }) {
    this.form.elements.system.value = system;
    for (const name of NUMBERS) this.form.elements[name].value = params[name] ?? "";
    this.form.elements.think.value = params.think === undefined ? "" : String(params.think);
    this.tell({ system, params });
  }

  tell({ system, params }) {
    const n = Object.keys(params).length;
    const parts = [system ? words.systemSet : "", n ? words.paramsSet(n) : ""].filter(Boolean);
    this.chip.textContent = parts.join(" · ");
    this.chip.hidden = parts.length === 0;
  }
}
