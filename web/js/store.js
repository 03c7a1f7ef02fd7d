// Conversations, kept in this browser: one record per message, so that two tabs cannot overwrite each other. Where the browser
// keeps nothing, they live in memory, and the page says so.

const NAME = "portcullis";
const VERSION = 1;

/** An id that sorts by time. Without crypto.randomUUID: that is missing on plain http. */
export function id() {
  const random = crypto.getRandomValues(new Uint32Array(2));
  return Date.now().toString(36).padStart(9, "0") + [...random].map((n) => n.toString(36).padStart(7, "0")).join("");
}

function wish(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

class Database {
  constructor(db) {
    this.db = db;
    // Another tab wants a newer form: do not stand in its way.
    db.onversionchange = () => db.close();
  }

  async get(store, key) {
    return wish(this.db.transaction(store).objectStore(store).get(key));
  }

  async all(store) {
    return wish(this.db.transaction(store).objectStore(store).getAll());
  }

  async of(chat) {
    return wish(this.db.transaction("messages").objectStore("messages").index("chat").getAll(chat));
  }

  write(store, work) {
    return new Promise((resolve, reject) => {
      const transaction = this.db.transaction(store, "readwrite");
      transaction.oncomplete = () => resolve();
      transaction.onerror = () => reject(transaction.error);
      transaction.onabort = () => reject(transaction.error);
      work(transaction.objectStore(store));
    });
  }

  put(store, ...values) {
    return this.write(store, (records) => values.forEach((value) => records.put(value)));
  }

  remove(store, ...keys) {
    return this.write(store, (records) => keys.forEach((key) => records.delete(key)));
  }
}

function connect() {
  return new Promise((resolve, reject) => {
    // Throws where a frame may not store anything.
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = ({ oldVersion }) => {
      const db = request.result;
      if (oldVersion < 1) {
        db.createObjectStore("chats", { keyPath: "id" });
        db.createObjectStore("messages", { keyPath: "id" }).createIndex("chat", "chat");
      }
    };
    request.onsuccess = () => resolve(new Database(request.result));
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("blocked"));
  });
}

export const store = {
  inner: null,
  /** Does the browser keep what is written? */
  lasting: false,
  channel: null,
  onChange: () => {},
  onFull: () => {},

  async open() {
    try {
      this.inner = await connect();
      this.lasting = true;
    } catch {
      this.inner = new (await import("./memory.js")).Memory();
    }
    try {
      this.channel = new BroadcastChannel(NAME);
      this.channel.onmessage = ({ data }) => this.onChange(data);
    } catch {
      // Tabs then learn of each other at the next load.
    }
  },

  tell(chat) {
    this.channel?.postMessage({ chat });
  },

  async chats() {
    const all = (await this.inner.all("chats")).filter((chat) => typeof chat?.title === "string");
    return all.sort((a, b) => b.updated - a.updated);
  },

  chat: (key) => store.inner.get("chats", key),

  /** A record that is broken is passed over. */
  async messages(chat) {
    const all = await this.inner.of(chat);
    return all.filter((message) => typeof message?.content === "string" && typeof message.role === "string");
  },

  async save(kind, ...values) {
    try {
      await this.inner.put(kind, ...values);
    } catch (error) {
      if (error?.name === "QuotaExceededError") this.onFull();
      else console.warn("a record was not kept", error?.name);
      return false;
    }
    this.tell(kind === "chats" ? values[0]?.id : values[0]?.chat);
    return true;
  },

  /** Takes a conversation out; what is returned puts it back. */
  async take(key) {
    const [chat, messages] = [await this.chat(key), await this.messages(key)];
    await this.inner.remove("messages", ...messages.map((message) => message.id));
    await this.inner.remove("chats", key);
    this.tell(key);
    return { chat, messages };
  },

  async restore({ chat, messages }) {
    await this.save("messages", ...messages);
    await this.save("chats", chat);
  },

  /** Ids of the conversations that hold the text, in their title or in a message. */
  async search(text) {
    const wanted = text.toLowerCase();
    const holds = (value) => value.toLowerCase().includes(wanted);
    const found = new Set((await this.chats()).filter((chat) => holds(chat.title)).map((chat) => chat.id));
    for (const message of await this.inner.all("messages")) if (holds(message.content ?? "")) found.add(message.chat);
    return found;
  },
};
