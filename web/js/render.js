// Markdown tokens to DOM nodes. No HTML string is ever made: what a model writes can become text and a few known elements.

import { lexer } from "../vendor/marked/marked.esm.js";
import { words } from "./strings.js";

const NAMED = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

/** marked leaves entities in text: the basic ones and numbers are decoded here, others stay as they are written. */
export function decode(text) {
  if (!text.includes("&")) return text;
  return text.replace(/&(#x[0-9a-f]{1,6}|#\d{1,7}|[a-z]+);/gi, (whole, name) => {
    if (name[0] !== "#") return NAMED[name.toLowerCase()] ?? whole;
    const code = name[1] === "x" || name[1] === "X" ? parseInt(name.slice(2), 16) : Number(name.slice(1));
    if (code === 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return "\ufffd";
    return String.fromCodePoint(code);
  });
}

/** An address that may be followed: web and mail, and places in this page. */
export function safeHref(href) {
  const text = decode(href).replace(/[\u0000-\u0020\u007f]/g, "");
  if (/^(https?:\/\/|mailto:)/i.test(text) || text.startsWith("#")) return text;
  return /^[a-z][a-z0-9+.-]*:/i.test(text) || /^[/\\]{2}/.test(text) ? null : text;
}

function node(tag, children) {
  const made = document.createElement(tag);
  if (children) made.append(...children);
  return made;
}

function link(token) {
  const href = safeHref(token.href);
  const inner = inline(token.tokens ?? [{ type: "text", text: token.text }]);
  if (href === null) return [...inner, document.createTextNode(` (${token.href})`)];
  const made = node("a", inner);
  made.href = href;
  made.rel = "noopener noreferrer nofollow";
  if (!href.startsWith("#")) made.target = "_blank";
  if (token.title) made.title = decode(token.title);
  return [made];
}

/** A remote picture would tell its host what was said here: it is shown as a link that names the host. */
function image(token) {
  const href = safeHref(token.href);
  let host = "";
  try {
    host = new URL(href ?? "", location.href).host;
  } catch {
    // No address at all: its text stays.
  }
  const text = words.picture(decode(token.text), host);
  if (href === null) return [document.createTextNode(text)];
  const made = node("a", [document.createTextNode(text)]);
  made.href = href;
  made.rel = "noopener noreferrer nofollow";
  made.target = "_blank";
  return [made];
}

function inline(tokens) {
  return tokens.flatMap((token) => {
    switch (token.type) {
      case "strong":
      case "em":
      case "del":
        return [node(token.type, inline(token.tokens))];
      case "codespan":
        return [node("code", [document.createTextNode(token.text)])];
      case "br":
        return [document.createElement("br")];
      case "link":
        return link(token);
      case "image":
        return image(token);
      case "checkbox":
        return [checkbox(token.checked)];
      case "html":
        return [document.createTextNode(token.text)];
      default:
        return token.tokens ? inline(token.tokens) : [document.createTextNode(decode(token.text ?? token.raw))];
    }
  });
}

function checkbox(checked) {
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = checked;
  box.disabled = true;
  box.setAttribute("aria-label", checked ? words.done : words.open);
  return box;
}

/** A block of code. Its source is kept beside it: Copy takes the source, never what was rendered. */
function code(token) {
  const language = (token.lang ?? "").trim().split(/\s/)[0].slice(0, 40);
  const box = node("figure");
  box.className = "code";
  const head = node("figcaption");
  const name = node("span", [document.createTextNode(language || words.code)]);
  const copy = node("button", [document.createTextNode(words.copy)]);
  copy.type = "button";
  copy.className = "copy";
  head.append(name, copy);
  const text = node("code", [document.createTextNode(token.text)]);
  text.dataset.language = language.toLowerCase();
  const pre = node("pre", [text]);
  // A wide block scrolls, and what scrolls can be reached by the keyboard.
  pre.tabIndex = 0;
  box.append(head, pre);
  return box;
}

function list(token) {
  const made = node(token.ordered ? "ol" : "ul");
  if (token.ordered && token.start !== 1 && token.start !== "") made.start = Number(token.start);
  for (const item of token.items) {
    const entry = node("li", blocks(item.tokens, !item.loose));
    if (item.task) entry.className = "task";
    made.append(entry);
  }
  return made;
}

function table(token) {
  const cell = (tag, part) => {
    const made = node(tag, inline(part.tokens));
    if (part.align) made.className = `align-${part.align}`;
    return made;
  };
  const made = node("table", [
    node("thead", [node("tr", token.header.map((part) => cell("th", part)))]),
    node("tbody", token.rows.map((row) => node("tr", row.map((part) => cell("td", part))))),
  ]);
  const frame = node("div", [made]);
  frame.className = "table";
  frame.tabIndex = 0;
  return frame;
}

function block(token, tight) {
  switch (token.type) {
    case "space":
    case "def":
      return [];
    case "heading":
      return [node(`h${Math.min(token.depth + 2, 6)}`, inline(token.tokens))];
    case "paragraph":
      return [node("p", inline(token.tokens))];
    case "text":
      return tight ? inline(token.tokens ?? [token]) : [node("p", inline(token.tokens ?? [token]))];
    case "code":
      return [code(token)];
    case "blockquote":
      return [node("blockquote", blocks(token.tokens, false))];
    case "list":
      return [list(token)];
    case "table":
      return [table(token)];
    case "hr":
      return [document.createElement("hr")];
    case "html":
      return [node("p", [document.createTextNode(token.text.replace(/\n$/, ""))])];
    case "checkbox":
      return [checkbox(token.checked)];
    default:
      return inline([token]);
  }
}

/** Nodes of block tokens; `tight`: items of a list without paragraphs. */
export function blocks(tokens, tight = false) {
  return tokens.flatMap((token) => block(token, tight));
}

/** Block tokens of a text. */
export function tokens(text) {
  return lexer(text, { gfm: true });
}
