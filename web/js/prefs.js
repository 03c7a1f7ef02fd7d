// Small things that a browser keeps: the key, the look, drafts. It may refuse, and then they live as long as the page.

const memory = new Map();

function read(store, name) {
  try {
    return store().getItem(name) ?? memory.get(name) ?? "";
  } catch {
    return memory.get(name) ?? "";
  }
}

function write(store, name, value) {
  if (value) memory.set(name, value);
  else memory.delete(name);
  try {
    if (value) store().setItem(name, value);
    else store().removeItem(name);
    return true;
  } catch {
    return false;
  }
}

const device = () => window.localStorage;
const tab = () => window.sessionStorage;
const KEY = "portcullis.key";

/** The key: on this device, or until the tab closes. */
export const keyring = {
  get: () => read(device, KEY) || read(tab, KEY),
  remembers: () => read(device, "portcullis.remember") !== "no",
  /** `false`: the browser does not keep it. */
  set(key, remember) {
    write(device, "portcullis.remember", remember ? "" : "no");
    write(remember ? tab : device, KEY, "");
    return write(remember ? device : tab, KEY, key);
  },
};

export const prefs = {
  get: (name) => read(device, `portcullis.${name}`),
  set: (name, value) => write(device, `portcullis.${name}`, value),
};

/** What was typed and not sent, by conversation. */
export const drafts = {
  get: (chat) => read(device, `portcullis.draft.${chat}`),
  set: (chat, text) => write(device, `portcullis.draft.${chat}`, text),
};
