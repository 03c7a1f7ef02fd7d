// One answer on its way: asks, reads, keeps what came, and ends in one of four ways. It goes on while another chat is shown.

import { call, lines, Trouble } from "./api.js";
import { continuation, join, request } from "./conversation.js";
import { words } from "./strings.js";

const KEEP_EVERY = 1_000;
const TRIES = 3;

export const runs = new Map();

export class Run {
  /** `message`: the answer's record; `onChange(run)` hears of every step. */
  constructor(chat, message, path, { goOn = false } = {}) {
    Object.assign(this, { chat, message, path, goOn });
    this.before = goOn ? message.content : "";
    this.fresh = "";
    this.controller = new AbortController();
    this.begun = performance.now();
    this.phase = null;
    this.first = 0;
    this.thoughtFrom = 0;
    this.parts = 0;
    this.trouble = null;
    this.attempt = 0;
    this.ended = false;
    this.onChange = () => {};
    runs.set(chat.key, this);
  }

  stop() {
    this.controller.abort();
  }

  /** Its chat is gone: nothing of it is written any more. */
  discard() {
    this.discarded = true;
    this.stop();
  }

  get waited() {
    return (performance.now() - this.begun) / 1000;
  }

  /** Tokens a second so far, as the lines come. */
  get rate() {
    const took = (performance.now() - this.first) / 1000;
    return this.first && took > 0.5 ? this.parts / took : 0;
  }

  async start() {
    this.message.status = "running";
    this.timer = setInterval(() => this.keep(), KEEP_EVERY);
    this.keep();
    try {
      await this.ask();
      this.message.status = "done";
    } catch (error) {
      this.trouble = error instanceof Trouble || error.name === "AbortError" ? error : new Trouble(words.lost, { again: true });
      this.message.status = error.name === "AbortError" ? "stopped" : "cut";
    }
    clearInterval(this.timer);
    this.ended = true;
    if (this.thoughtFrom && !this.message.thoughtMs) this.thinkingEnds();
    runs.delete(this.chat.key);
    await this.keep();
    this.onChange(this);
  }

  /** Tries again by itself only while nothing has come. */
  async ask() {
    for (;;) {
      this.attempt += 1;
      try {
        return await this.read();
      } catch (error) {
        const again = error instanceof Trouble && [502, 503, 504, 0].includes(error.status) && error.again;
        if (!again || this.parts > 0 || this.attempt >= TRIES || error.wait > 30 || navigator.onLine === false) throw error;
        this.retrying = this.attempt + 1;
        this.onChange(this);
        await this.pause(Math.max(error.wait, this.attempt) * 1000);
      }
    }
  }

  pause(ms) {
    return new Promise((resolve, reject) => {
      const { signal } = this.controller;
      const timer = setTimeout(resolve, ms);
      signal.addEventListener("abort", () => {
        clearTimeout(timer);
        reject(new DOMException("stopped", "AbortError"));
      });
    });
  }

  async read() {
    const response = await call(this.goOn ? "/api/chat" : "/chat_api", {
      body: this.goOn ? continuation(this.chat, this.path) : request(this.chat, this.path),
      signal: this.controller.signal,
      extra: this.goOn ? {} : { "X-Portcullis-Phases": "1" },
    });
    this.accepted = true;
    this.retrying = 0;
    this.onChange(this);
    for await (const line of lines(response)) {
      if (line.portcullis) this.phase = line.portcullis;
      else if (typeof line.error === "string") throw new Trouble(words.failed(line.error), { again: true });
      else this.take(line);
      this.onChange(this);
      if (line.done === true) return this.figures(line);
    }
    throw new Trouble(words.lost, { again: true });
  }

  take(line) {
    const thought = line.message?.thinking ?? line.thinking ?? "";
    const text = line.message?.content ?? line.response ?? "";
    if (!thought && !text) return;
    this.parts += 1;
    this.phase = null;
    if (typeof line.model === "string") this.message.model = line.model;
    this.first ||= performance.now();
    if (thought) {
      this.thoughtFrom ||= performance.now();
      this.message.thinking = (this.message.thinking ?? "") + thought;
    }
    if (text) {
      if (this.thoughtFrom && !this.message.thoughtMs) this.thinkingEnds();
      this.fresh += text;
      this.message.content = join(this.before, this.fresh);
    }
  }

  thinkingEnds() {
    this.message.thoughtMs = Math.max(1, Math.round(performance.now() - this.thoughtFrom));
  }

  figures(line) {
    const seconds = (nanos) => (Number.isFinite(nanos) ? nanos / 1e9 : 0);
    this.message.figures = {
      first: this.first ? (this.first - this.begun) / 1000 : 0,
      tokens: line.eval_count,
      rate: line.eval_count && line.eval_duration ? line.eval_count / seconds(line.eval_duration) : 0,
      load: seconds(line.load_duration),
      prompt: seconds(line.prompt_eval_duration),
      answer: seconds(line.eval_duration),
      length: line.done_reason === "length",
    };
  }

  keep() {
    if (this.discarded) return undefined;
    this.message.touched = Date.now();
    this.message.parts = this.parts;
    return this.chat.put(this.message);
  }
}
