// The other side: mock-ollama as a process of its own, held by commands. What it says is settled by what the prompt holds.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

const MOCK = process.env.MOCK_OLLAMA ?? new URL("../../target/debug/mock-ollama", import.meta.url).pathname;

/** `count` words after a repetition of the prompt. */
const said = (count) => `You said: {prompt}. ${"word ".repeat(count)}`;

/** What a prompt that holds the words on the left gets; of several that fit, the last. */
const SCRIPTS = [
  [{ prompt: "[slow]" }, { text: said(12), gap: 60 }],
  [{ prompt: "[long]" }, { text: said(400), gap: 2 }],
  [{ prompt: "[slow] [long]" }, { text: said(400), gap: 60 }],
  [{ prompt: "[late]" }, { text: said(12), gap: 2, head_delay: 1_200 }],
  [{ prompt: "[think]" }, { text: said(12), gap: 30, thoughts: 8 }],
];

/** Two models: alpha:latest, which sees, and beta:7b, which does not; and others by name. */
export async function upstream({ odd = [] } = {}) {
  const names = ["--few", "--vision", "alpha:latest", "--model", "beta:7b", ...odd.flatMap((name) => ["--odd", name])];
  const child = spawn(MOCK, ["drive", ...names], { stdio: ["pipe", "pipe", "inherit"] });
  const waiting = [];
  const heard = () => new Promise((resolve, reject) => waiting.push({ resolve, reject }));
  createInterface({ input: child.stdout }).on("line", (line) => waiting.shift()?.resolve(JSON.parse(line)));
  child.on("error", (error) => waiting.splice(0).forEach(({ reject }) => reject(error)));
  child.on("exit", () => waiting.splice(0).forEach(({ reject }) => reject(new Error("mock-ollama ended"))));
  const { url } = await heard();
  const tell = async (command) => {
    const answer = heard();
    child.stdin.write(`${JSON.stringify(command)}\n`);
    const { error, ...rest } = await answer;
    if (error) throw new Error(error);
    return rest;
  };
  const up = {
    url,
    script: (on, script) => tell({ do: "script", on, script }),
    /** What a prompt with this tag gets. */
    says: (tag, text, more = {}) => up.script({ prompt: tag }, { text, gap: 2, ...more }),
    /** The connection breaks off after some words, once. */
    cuts: (tag) => up.says(tag, said(12), { die_after: 6, times: 1 }),
    seen: async () => (await tell({ do: "seen" })).seen,
    last: async () => (await up.seen()).at(-1),
    /** Waits until so many callers have left. */
    gone: (count) => tell({ do: "wait_gone", count, millis: 3_000 }),
    /** Nobody answers there any more. */
    die: () => tell({ do: "stop" }),
    stop: () => {
      child.removeAllListeners("exit");
      child.stdin.end();
      child.kill();
    },
  };
  await up.script("any", { text: said(12), gap: 2 });
  for (const [on, script] of SCRIPTS) await up.script(on, script);
  return up;
}
