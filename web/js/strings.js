// Every word that the page says, in one place. Figures and dates go through Intl.

const number = new Intl.NumberFormat("en");
const one = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const words = {
  you: "You",
  answer: "Answer",
  code: "text",
  copy: "Copy",
  copied: "Copied",
  copyByHand: "Select and press Ctrl+C",
  done: "done",
  open: "open",
  picture: (alt, host) => `[picture${alt ? `: ${alt}` : ""}${host ? ` at ${host}` : ""}]`,

  // The key
  keyAsk: "Enter the API key of this gateway and press Save.",
  keyChecking: "Checking the key…",
  keyRemoved: "The key was removed from this browser.",
  keySpaces: "A key holds only letters, digits and signs without spaces. Copy it again.",
  keyUnknown: "The gateway does not know this key. It was not saved.",
  keyUnchecked: (why) => `Key saved, but not checked. ${why}`,
  keyNotKept: "The key works, but this browser does not keep it",
  keySaved: "Key saved",
  keyMay: (name, scopes, models, limits) => {
    const parts = [name, scopes.length ? `may ${scopes.join(", ")}` : "", models];
    if (limits.requests_per_minute) parts.push(`${number.format(limits.requests_per_minute)} requests a minute`);
    if (limits.concurrent) parts.push(`${number.format(limits.concurrent)} at once`);
    return parts.filter(Boolean).join(" · ");
  },
  show: "Show",
  hide: "Hide",
  models: (n) => (n === 1 ? "1 model" : `${number.format(n)} models`),

  // Waiting
  waiting: (s) => `waiting ${number.format(s)} s`,
  phases: {
    queue: (position) => (position > 0 ? `queued, number ${number.format(position)} in line` : "queued"),
    loading: () => "loading the model",
    prompt: () => "reading the prompt",
    thinking: () => "thinking",
  },
  generating: "Generating",
  complete: (n) => `Answer complete, ${n === 1 ? "1 word" : `${number.format(n)} words`}`,
  stopped: "Stopped",
  brokenOff: (n) => `Connection lost after ${number.format(n)} ${n === 1 ? "part" : "parts"}`,
  interrupted: "This answer was interrupted when the page closed.",
  thinking: "Thinking…",
  thought: (s) => `Thought for ${one.format(s)} s`,
  firstToken: (s) => `first token ${one.format(s)} s`,
  rate: (r) => `${one.format(r)} tok/s`,
  tokens: (n) => (n === 1 ? "1 token" : `${number.format(n)} tokens`),
  split: (load, prompt, answer) => `load ${one.format(load)} s · prompt ${one.format(prompt)} s · answer ${one.format(answer)} s`,
  atLimit: "ended at the token limit",

  // What went wrong, and what to do
  trouble: {
    401: (key) => (key
      ? "The API key was not accepted. Check it above and press Save."
      : "This gateway asks for an API key. Enter it above and press Save."),
    403: () => "This key may not do that. Choose another model, or ask whoever runs this gateway.",
    404: () => "The model was not found. Choose another one above.",
    413: () => "The message and the conversation together are too large. Shorten the message, remove an image, or start a new chat.",
    421: () => "This gateway does not serve the address in your address bar. Open it by the address its operator gave.",
    429: () => "Too many requests for now.",
    500: () => "The gateway or the model server failed on this request. Send again; if it stays so, tell whoever runs it.",
    502: () => "The model server gave no answer. If it is yours, check that Ollama runs and can load the model; then send again.",
    503: () => "The model server cannot answer for now. Send again in a moment.",
    504: () => "The model server took too long. Send again, or choose a smaller model.",
  },
  refused: (status) => `The gateway refused the request (${status}).`,
  says: (text) => ` The gateway says: ${text}`,
  lost: "The connection was lost before the answer was complete.",
  failed: (text) => `The answer broke off. The gateway says: ${text}`,
  offline: "You are offline. Your message is kept; send it again when the connection is back.",
  unreachable: "The gateway cannot be reached. Check the connection and that it runs, then send again.",
  sendAgain: "Send again",
  sendsIn: (s) => `Sends in ${number.format(s)} s`,
  sendNow: "Send now",
  cancel: "Cancel",
  resume: "Continue",
  regenerate: "Regenerate",
  trying: (n) => `Trying again (${n} of 3)…`,

  // Conversations
  untitled: "New chat",
  chats: (n) => (n === 1 ? "1 chat" : `${number.format(n)} chats`),
  today: "Today",
  yesterday: "Yesterday",
  earlier: "Earlier",
  rename: "Rename",
  remove: "Delete",
  removed: (title) => `“${title}” was deleted.`,
  undo: "Undo",
  edit: "Edit",
  sibling: (at, of) => `${at}/${of}`,
  previous: "Previous version",
  next: "Next version",
  imported: (n) => `${n === 1 ? "1 chat was" : `${number.format(n)} chats were`} imported.`,
  noImport: "This file holds no chats of this page.",
  memory: "This browser keeps nothing for this page: chats live until it closes.",
  memoryFrame: "Open it by its own address",
  full: "This browser's storage is full: export your chats, then delete some.",

  // Models, parameters, images
  isDefault: "default",
  defaultModel: (name) => (name ? `${name} (default)` : "Default model"),
  loaded: "loaded",
  noVision: (names) => (names ? `This model does not see images. These do: ${names}.` : "This model may not see images."),
  imageBad: "This file is no image that this browser can read.",
  imageMany: "A message carries at most 16 images.",
  imageAlt: "What the image shows",
  removeImage: "Remove image",
  systemSet: "System prompt set",
  paramsSet: (n) => (n === 1 ? "1 parameter set" : `${n} parameters set`),
};

/** `1.2 GB` */
export function size(bytes) {
  if (!bytes) return "";
  const gb = bytes / 1e9;
  return gb >= 1 ? `${one.format(gb)} GB` : `${number.format(Math.round(bytes / 1e6))} MB`;
}
