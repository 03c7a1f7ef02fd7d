// Messages as they are seen: articles with a name, their text, what can be done with them, and notices.

import { Growing } from "./stream.js";
import { words } from "./strings.js";

const SHOW_DOTS = 750;
const SHOW_SECONDS = 3;

export function element(tag, { className, text, label, ...more } = {}, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  if (label) node.setAttribute("aria-label", label);
  Object.assign(node, more);
  node.append(...children);
  return node;
}

export function button(text, onClick, more = {}) {
  const node = element("button", { type: "button", text, ...more });
  node.addEventListener("click", onClick);
  return node;
}

export function picture(image) {
  return element("img", { src: `data:${image.type};base64,${image.data}`, alt: image.alt || words.imageAlt });
}

/** Copies a text; plain http has no clipboard, so there is a second way, and a third in words. */
export async function copy(text, node) {
  const was = node.textContent;
  let done = false;
  try {
    await navigator.clipboard.writeText(text);
    done = true;
  } catch {
    const box = element("textarea", { value: text, className: "visually-hidden", readOnly: true });
    document.body.append(box);
    box.select();
    done = document.execCommand?.("copy") ?? false;
    box.remove();
  }
  node.textContent = done ? words.copied : words.copyByHand;
  setTimeout(() => (node.textContent = was), 2_000);
}

/** Colours finished blocks, and lets their Copy take the source. */
function finishBlock(node) {
  if (!(node instanceof HTMLElement)) return;
  for (const code of node.matches("figure.code") ? [node.querySelector("code")] : node.querySelectorAll("figure.code code")) {
    if (code?.dataset.language) import("./highlight.js").then(({ colour }) => colour(code)).catch(() => {});
  }
}

/** One message. `actions`: what its buttons do. */
export class MessageView {
  constructor(message, { siblings, at, actions, name }) {
    this.message = message;
    this.actions = actions;
    const mine = message.role === "user";
    this.node = element("article", { className: `message ${mine ? "user" : "bot"}`, label: mine ? words.you : name });
    this.node.dir = "auto";
    this.head = element("h2", { text: mine ? words.you : name });
    this.node.append(this.head);
    if (message.images?.length) {
      this.node.append(element("div", { className: "pictures" }, ...message.images.map(picture)));
    }
    this.body = element("div", { className: "text" });
    this.node.append(this.body);
    this.foot = element("footer", { className: "foot" });
    this.node.append(this.foot);
    this.siblings = { of: siblings, at };
    this.shown = "";
    if (mine) this.body.textContent = message.content;
    else this.growing = new Growing(this.body, finishBlock);
    this.node.addEventListener("click", (event) => {
      const pressed = event.target.closest?.("button.copy");
      if (pressed && this.body.contains(pressed)) {
        copy(pressed.closest("figure").querySelector("code").textContent, pressed);
      }
    });
  }

  /** Draws the text so far. */
  show(run) {
    if (this.message.role === "user") return this.finish();
    this.thoughts(run);
    this.named();
    const { content } = this.message;
    if (content !== this.shown) {
      if (content.startsWith(this.shown)) this.growing.show(content.replace(/\r\n?/g, "\n"));
      else {
        this.body.replaceChildren();
        this.growing = new Growing(this.body, finishBlock);
        this.growing.show(content.replace(/\r\n?/g, "\n"));
      }
      this.shown = content;
    }
    if (run && !run.ended) this.waiting(run);
    else this.finish();
  }

  /** The model is known with the first line. */
  named() {
    const { model } = this.message;
    if (!model || this.head.textContent === model) return;
    this.head.textContent = model;
    this.node.setAttribute("aria-label", model);
  }

  thoughts(run) {
    const { thinking, thoughtMs } = this.message;
    if (!thinking) return;
    if (!this.fold) {
      this.fold = element("details", { className: "thoughts" }, element("summary"), element("div", { className: "text" }));
      this.body.before(this.fold);
      this.fold.querySelector("summary").addEventListener("click", () => (this.toggled = true));
    }
    const over = thoughtMs || !run || run.ended;
    this.fold.querySelector("summary").textContent = over && thoughtMs ? words.thought(thoughtMs / 1000) : words.thinking;
    this.fold.classList.toggle("running", !over);
    const text = this.fold.querySelector(".text");
    const shown = this.fold.open || over ? thinking : thinking.trimEnd().split("\n").slice(-3).join("\n");
    if (text.textContent !== shown) text.textContent = shown;
  }

  /** Dots, phase and seconds until the first word; speed behind it. */
  waiting(run) {
    if (run.first) {
      this.typing?.remove();
      this.typing = null;
      const parts = [words.firstToken((run.first - run.begun) / 1000)];
      if (run.rate) parts.push(words.rate(run.rate));
      this.figuresText(parts.join(" · "));
      return;
    }
    if (run.waited * 1000 < SHOW_DOTS && !run.phase) return;
    if (!this.typing) {
      this.typing = element("p", { className: "typing" }, element("i"), element("i"), element("i"), element("span"));
      this.body.after(this.typing);
    }
    const parts = [];
    if (run.retrying) parts.push(words.trying(run.retrying));
    else if (run.phase) parts.push(words.phases[run.phase.phase]?.(run.phase.position ?? 0) ?? "");
    if (run.waited > SHOW_SECONDS) parts.push(words.waiting(Math.floor(run.waited)));
    this.typing.querySelector("span").textContent = parts.filter(Boolean).join(" · ");
  }

  figuresText(text) {
    this.figures ??= element("span", { className: "figures" });
    if (!this.figures.isConnected) this.foot.prepend(this.figures);
    if (this.figures.textContent !== text) this.figures.textContent = text;
  }

  /** The text is whole, or will not grow: its foot says so, and offers what can be done. */
  finish() {
    this.typing?.remove();
    this.typing = null;
    this.growing?.finish();
    this.foot.replaceChildren();
    this.figures = null;
    this.foot.append(...this.summary(), this.tools());
  }

  summary() {
    const { figures, status, role, parts } = this.message;
    if (role === "user") return [];
    if (status === "stopped") return [element("span", { className: "state", text: words.stopped })];
    if (status === "cut") return [element("span", { className: "state warn", text: words.brokenOff(parts ?? 0) })];
    if (status === "running") return [element("span", { className: "state warn", text: words.interrupted })];
    if (!figures) return [];
    const said = [];
    if (figures.first) said.push(words.firstToken(figures.first));
    if (figures.rate) said.push(words.rate(figures.rate));
    if (figures.tokens !== undefined) said.push(words.tokens(figures.tokens));
    if (figures.length) said.push(words.atLimit);
    const split = words.split(figures.load, figures.prompt, figures.answer);
    return [element("button", { type: "button", className: "figures", text: said.join(" · "), title: split, onclick: (event) => {
      const node = event.currentTarget;
      node.textContent = node.textContent === split ? said.join(" · ") : split;
    } })];
  }

  tools() {
    const box = element("span", { className: "tools" });
    const { message, actions } = this;
    if (message.role === "user") box.append(button(words.edit, () => actions.edit(message)));
    else {
      if (["cut", "stopped", "running"].includes(message.status) && message.content) {
        box.append(button(words.resume, () => actions.resume(message)));
      }
      box.append(button(words.regenerate, () => actions.regenerate(message)));
    }
    const copying = button(words.copy, () => copy(message.content, copying));
    box.append(copying);
    const { of, at } = this.siblings;
    if (of.length > 1) {
      box.append(
        button("‹", () => actions.turnTo(of[at - 1]), { label: words.previous, disabled: at === 0 }),
        element("span", { className: "which", text: words.sibling(at + 1, of.length) }),
        button("›", () => actions.turnTo(of[at + 1]), { label: words.next, disabled: at === of.length - 1 }),
      );
    }
    return box;
  }
}

/** A notice with what to do next; a countdown sends by itself unless it is cancelled. */
export function notice(text, { wait = 0, retry = null } = {}) {
  const node = element("div", { className: "notice" }, element("p", { text }));
  node.setAttribute("role", "alert");
  if (!retry) return node;
  if (!wait) {
    node.append(button(words.sendAgain, retry));
    return node;
  }
  let left = wait;
  const said = element("span", { text: words.sendsIn(left) });
  const clock = setInterval(() => {
    left -= 1;
    if (!node.isConnected) clearInterval(clock);
    else if (left > 0) said.textContent = words.sendsIn(left);
    else {
      clearInterval(clock);
      retry();
    }
  }, 1_000);
  const quit = () => {
    clearInterval(clock);
    node.remove();
  };
  node.append(said, button(words.sendNow, () => {
    clearInterval(clock);
    retry();
  }), button(words.cancel, quit));
  return node;
}
