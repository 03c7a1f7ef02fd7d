// Colours for code: loaded with the first block that needs them, and built as nodes, never as a string of HTML.

const FILES = {
  bash: "bash", sh: "bash", shell: "bash", zsh: "bash", console: "bash",
  c: "c", h: "c", cpp: "cpp", "c++": "cpp", cc: "cpp", hpp: "cpp", cs: "csharp", csharp: "csharp", "c#": "csharp",
  css: "css", scss: "scss", diff: "diff", patch: "diff", dockerfile: "dockerfile", docker: "dockerfile",
  go: "go", golang: "go", ini: "ini", toml: "ini", conf: "ini", java: "java",
  javascript: "javascript", js: "javascript", jsx: "javascript", mjs: "javascript", json: "json", jsonc: "json",
  kotlin: "kotlin", kt: "kotlin", lua: "lua", makefile: "makefile", make: "makefile", markdown: "markdown", md: "markdown",
  php: "php", python: "python", py: "python", ruby: "ruby", rb: "ruby", rust: "rust", rs: "rust",
  sql: "sql", swift: "swift", typescript: "typescript", ts: "typescript", tsx: "typescript",
  html: "xml", xml: "xml", svg: "xml", yaml: "yaml", yml: "yaml",
};
const MOST = 50_000;

/** Colours by scope; they come with the code, not with the page. */
const COLOURS = [
  ["var(--muted)", "comment quote meta"],
  ["light-dark(#8a1c7c, #e09cff)", "keyword literal built_in type selector-tag name"],
  ["light-dark(#136c35, #8ad6a2)", "string regexp addition attribute"],
  ["light-dark(#8a4b00, #f0b45a)", "number symbol variable template-variable attr"],
  ["light-dark(#1d4ed8, #8ab4ff)", "title title-function title-class section selector-id selector-class property"],
  ["var(--error)", "deletion"],
];

function paint() {
  const sheet = new CSSStyleSheet();
  const rule = ([colour, scopes]) => `${scopes.split(" ").map((scope) => `.hljs-${scope}`).join(",")}{color:${colour}}`;
  sheet.replaceSync(COLOURS.map(rule).join(""));
  document.adoptedStyleSheets.push(sheet);
}

/** Collects what highlight.js says as nodes. */
class Nodes {
  constructor() {
    this.root = document.createDocumentFragment();
    this.open = [this.root];
  }

  addText(text) {
    if (text) this.open.at(-1).append(text);
  }

  startScope(scope) {
    const node = document.createElement("span");
    node.className = `hljs-${String(scope).replace(/[^\w-]/g, "-")}`;
    this.open.at(-1).append(node);
    this.open.push(node);
  }

  endScope() {
    if (this.open.length > 1) this.open.pop();
  }

  // Its older names, which grammars with several scopes still use.
  openNode(scope) {
    this.startScope(scope);
  }

  closeNode() {
    this.endScope();
  }

  __addSublanguage(inner) {
    this.open.at(-1).append(inner.root);
  }

  finalize() {}

  toHTML() {
    return "";
  }
}

let engine = null;
const known = new Map();

async function load(file) {
  engine ??= import("../vendor/highlight/core.min.js").then(({ default: hljs }) => {
    paint();
    hljs.configure({ __emitter: Nodes, throwUnescapedHTML: false });
    return hljs;
  });
  const hljs = await engine;
  if (!known.has(file)) {
    known.set(file, import(`../vendor/highlight/languages/${file}.min.js`).then(({ default: grammar }) => {
      hljs.registerLanguage(file, grammar);
    }));
  }
  await known.get(file);
  return hljs;
}

/** Colours one block of code, if its language is known and it is not too long. Without the files it stays plain. */
export async function colour(node) {
  const file = FILES[node.dataset.language];
  const text = node.textContent;
  if (!file || node.dataset.done || text.length > MOST) return;
  node.dataset.done = "yes";
  try {
    const hljs = await load(file);
    const { _emitter: nodes } = hljs.highlight(text, { language: file, ignoreIllegals: true });
    if (node.textContent === text) node.replaceChildren(nodes.root);
  } catch (error) {
    console.warn("code stays without colours", error?.message);
  }
}
