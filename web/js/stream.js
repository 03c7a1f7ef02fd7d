// An answer that grows: blocks that cannot change any more are frozen, only the tail is read again, and the tail's nodes are
// patched in place, so that a selection in it survives.

import { blocks, tokens } from "./render.js";

/** Makes `old` equal to `fresh` with as few changes as its end needs. */
export function patch(old, fresh) {
  const kept = [...old.childNodes];
  const wanted = [...fresh.childNodes];
  wanted.forEach((want, at) => {
    const have = kept[at];
    if (!have) old.append(want);
    else if (!same(have, want)) have.replaceWith(want);
    else if (have.nodeType === Node.TEXT_NODE) patchText(have, want.data);
    else patchElement(have, want);
  });
  for (const extra of kept.slice(wanted.length)) extra.remove();
}

function same(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName;
}

function patchText(have, data) {
  if (have.data === data) return;
  // Only what differs: a selection in the common beginning stays.
  const most = Math.min(data.length, have.length);
  let same = 0;
  while (same < most && data[same] === have.data[same]) same += 1;
  have.replaceData(same, have.length - same, data.slice(same));
}

function patchElement(have, want) {
  for (const { name } of [...have.attributes]) if (!want.hasAttribute(name)) have.removeAttribute(name);
  for (const { name, value } of want.attributes) {
    if (have.getAttribute(name) !== value) have.setAttribute(name, value);
  }
  patch(have, want);
}

/** Where a frozen part of these tokens may end: behind every block that a further block follows whose first line is whole. */
function settled(list, text) {
  let end = 0;
  let offset = 0;
  let frozen = 0;
  const last = list.findLastIndex((token) => token.type !== "space");
  for (let at = 0; at < last; at += 1) {
    offset += list[at].raw.length;
    const next = list.slice(at + 1).findIndex((token) => token.type !== "space") + at + 1;
    const from = list.slice(0, next).reduce((sum, token) => sum + token.raw.length, 0);
    if (list[at].type !== "space" && text.indexOf("\n", from) >= 0) [end, frozen] = [offset, at + 1];
  }
  return { end, frozen };
}

/** So many blocks at most beside each other: a layout looks at every neighbour of what has grown. */
const PART = 32;

export class Growing {
  /** Renders into `root`; `onBlock` gets every element that will not change any more. */
  constructor(root, onBlock = () => {}) {
    this.root = root;
    this.part = root;
    this.onBlock = onBlock;
    this.text = "";
    this.from = 0;
    this.tail = [];
  }

  /** Shows the text so far, of which what was shown before is a part. */
  show(text) {
    this.text = text;
    const rest = text.slice(this.from);
    const list = tokens(rest);
    const { end, frozen } = settled(list, rest);
    if (end > 0) {
      this.replaceTail(blocks(list.slice(0, frozen)));
      for (const done of this.tail) this.onBlock(done);
      this.tail = [];
      this.from += end;
      this.newPart();
    }
    this.replaceTail(blocks(list.slice(frozen)));
  }

  /** What comes stands in a box of its own where the last one is full. */
  newPart() {
    if (this.part.childNodes.length < PART) return;
    this.part = document.createElement("div");
    this.part.className = "part";
    this.root.append(this.part);
  }

  /** The text is whole. A definition of a link may stand behind its use, so then everything is read once more. */
  finish(text = this.text) {
    if (text !== this.text) this.show(text);
    if (this.text.includes("]:")) {
      const holder = document.createElement("div");
      holder.append(...blocks(tokens(this.text)));
      patch(this.root, holder);
      this.tail = [...this.root.childNodes];
    }
    for (const done of this.tail) this.onBlock(done);
    this.tail = [];
    this.from = this.text.length;
  }

  replaceTail(fresh) {
    fresh.forEach((want, at) => {
      const have = this.tail[at];
      if (!have) this.part.append(want);
      else if (!same(have, want)) have.replaceWith(want);
      else if (have.nodeType === Node.TEXT_NODE) patchText(have, want.data);
      else {
        patchElement(have, want);
        fresh[at] = have;
      }
      if (have?.nodeType === Node.TEXT_NODE && same(have, want)) fresh[at] = have;
    });
    for (const extra of this.tail.slice(fresh.length)) extra.remove();
    this.tail = fresh;
  }
}
