// The choice of a model: a dialog with a filter, loaded models first.

import { size, words } from "./strings.js";
import { button, element } from "./view.js";

export class Models {
  constructor({ open, dialog, filter, list }, onChoose) {
    Object.assign(this, { open, dialog, filter, list, onChoose, all: [], chosen: "" });
    open.addEventListener("click", () => this.show());
    filter.addEventListener("input", () => this.draw());
    filter.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing) this.list.querySelector("button")?.click();
    });
    dialog.addEventListener("close", () => open.setAttribute("aria-expanded", "false"));
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }

  set(all) {
    this.all = [...all].sort((a, b) => Number(b.loaded === true) - Number(a.loaded === true) || a.name.localeCompare(b.name));
    this.label();
  }

  choose(name) {
    this.chosen = name;
    this.label();
  }

  label() {
    this.open.textContent = this.chosen || words.defaultModel(this.usual?.name);
    this.open.classList.toggle("loaded", this.current?.loaded === true);
  }

  /** The one that answers where none is chosen: the gateway marks it. */
  get usual() {
    return this.all.find((model) => model.default === true);
  }

  get current() {
    return this.chosen ? this.all.find((model) => model.name === this.chosen) : this.usual;
  }

  /** Why images may not be seen, or nothing. */
  blind() {
    const sees = (model) => model.capabilities?.includes("vision");
    if (!this.all.some((model) => model.capabilities) || !this.current || sees(this.current)) return "";
    return words.noVision(this.all.filter(sees).map((model) => model.name).join(", "));
  }

  show() {
    this.filter.value = "";
    this.draw();
    this.dialog.showModal();
    this.open.setAttribute("aria-expanded", "true");
    this.filter.focus();
  }

  draw() {
    const wanted = this.filter.value.trim().toLowerCase();
    const shown = this.all.filter((model) => model.name.toLowerCase().includes(wanted));
    const items = shown.map((model) => this.item(model.name, model.name, model));
    if (!wanted) items.unshift(this.item("", words.defaultModel(), {}));
    this.list.replaceChildren(...items);
  }

  item(name, text, model) {
    const notes = [model.default ? words.isDefault : "", size(model.size), model.loaded ? words.loaded : "", ...(model.capabilities ?? []).filter((what) => ["vision", "thinking", "tools"].includes(what))];
    const choice = button("", () => {
      this.choose(name);
      this.dialog.close();
      this.onChoose(name);
    });
    choice.append(
      element("span", { className: model.loaded ? "name loaded" : "name", text }),
      element("span", { className: "notes", text: notes.filter(Boolean).join(" · ") }),
    );
    if (name === this.chosen) choice.setAttribute("aria-current", "true");
    return element("li", {}, choice);
  }
}
