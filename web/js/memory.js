// Conversations that live as long as the page. Loaded where the browser keeps nothing.

/** The calls of the database, on maps. */
export class Memory {
  kept = { chats: new Map(), messages: new Map() };

  async get(store, key) {
    return structuredClone(this.kept[store].get(key));
  }

  async all(store) {
    return [...this.kept[store].values()].map((value) => structuredClone(value));
  }

  async of(chat) {
    return (await this.all("messages")).filter((message) => message.chat === chat);
  }

  async put(store, ...values) {
    for (const value of values) this.kept[store].set(value.id, structuredClone(value));
  }

  async remove(store, ...keys) {
    for (const key of keys) this.kept[store].delete(key);
  }
}
