// Conversations, kept in this browser alone (IndexedDB), one record each. Other tabs may change them meanwhile: a record
// counts its changes, nobody writes over a change that they have not seen, and every tab hears of every change.

import type { Message } from "../ts/index.js";

export interface Chat {
  id: string;
  title: string;
  updated: number;
  messages: Message[];
  /** Changes that were kept; 0: it is not in the store yet. */
  revision: number;
}

/** What became of a conversation that was to be kept. `copied`: another tab had changed it, and it has an id of its own
 * from now on. `deleted`: another tab, or another part of this one, had deleted it, and that is how it stays. */
export type Kept = "kept" | "copied" | "deleted";

/** What other tabs are told. */
export interface Change {
  id: string;
  deleted: boolean;
}

const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("pocketlm chats") : undefined;

/** Hears what other tabs change. */
export function onChange(heard: (change: Change) => void): void {
  channel?.addEventListener("message", ({ data }) => heard(data as Change));
}

let connection: Promise<IDBDatabase> | undefined;

/** One connection for the page's life: the last write before it closes has no time to open another. */
function database(): Promise<IDBDatabase> {
  return (connection ??= new Promise<IDBDatabase>((resolve, reject) => {
    const request = indexedDB.open("pocketlm", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("chats", { keyPath: "id" });
    request.onsuccess = () => {
      const open = request.result;
      open.onclose = () => (connection = undefined);
      open.onversionchange = () => open.close();
      resolve(open);
    };
    request.onerror = () => reject(request.error);
  }).catch((error) => {
    connection = undefined;
    throw error;
  }));
}

/** A transaction; `work` gives its result through `set`, which counts once all of it is kept. */
async function transact<T>(mode: IDBTransactionMode, work: (store: IDBObjectStore, set: (value: T) => void) => void): Promise<T> {
  const open = await database();
  return await new Promise<T>((resolve, reject) => {
    const transaction = open.transaction("chats", mode);
    let value: T;
    transaction.oncomplete = () => resolve(value);
    transaction.onabort = () => reject(transaction.error ?? new Error("the browser gave up"));
    work(transaction.objectStore("chats"), (found) => (value = found));
  });
}

/** A record as it should be, if it is one: what else got in there must not keep the rest from being shown. */
function read(record: Partial<Chat> | undefined): Chat[] {
  const { id, title, updated, messages, revision = 1 } = record ?? {};
  const sound = typeof id === "string" && Array.isArray(messages) && messages.every((message) => typeof message?.role === "string" && typeof message.content === "string");
  return sound ? [{ id, title: String(title), updated: Number(updated) || 0, messages, revision }] : [];
}

/** All of them, the last one used first. */
export async function chats(): Promise<Chat[]> {
  const all = await transact<Chat[]>("readonly", (store, set) => {
    const request = store.getAll();
    request.onsuccess = () => set(request.result.flatMap(read));
  });
  return all.sort((a, b) => b.updated - a.updated);
}

/** As it is in the store now, if it is. */
export function readChat(id: string): Promise<Chat | undefined> {
  return transact<Chat | undefined>("readonly", (store, set) => {
    const request = store.get(id);
    request.onsuccess = () => set(read(request.result)[0]);
  });
}

let writing: Promise<unknown> = Promise.resolve();

/** One write after another: each counts on the revision that the one before it made. */
function inTurn<T>(work: () => Promise<T>): Promise<T> {
  const result = writing.then(work);
  writing = result.catch(() => undefined);
  return result;
}

export function keepChat(chat: Chat): Promise<Kept> {
  return inTurn(async () => {
    const first = chat.messages.find((message) => message.role === "user")?.content ?? "";
    chat.updated = Date.now();
    chat.title = first.trim().split("\n")[0]!.slice(0, 60) || "New conversation";
    const kept = await transact<Kept>("readwrite", (store, set) => {
      const request = store.get(chat.id);
      request.onsuccess = () => {
        const there = read(request.result)[0];
        if (!there && chat.revision > 0) return set("deleted");
        const same = !there || there.revision === chat.revision;
        if (!same) Object.assign(chat, { id: newId(), revision: 0 });
        store.put({ ...chat, revision: chat.revision + 1 });
        set(same ? "kept" : "copied");
      };
    });
    if (kept === "deleted") return kept;
    chat.revision += 1;
    channel?.postMessage({ id: chat.id, deleted: false } satisfies Change);
    return kept;
  });
}

/** Returns it as it was, for {@link restoreChat}. */
export function deleteChat(id: string): Promise<Chat | undefined> {
  return inTurn(async () => {
    const chat = await transact<Chat | undefined>("readwrite", (store, set) => {
      const request = store.get(id);
      request.onsuccess = () => set(read(request.result)[0]);
      store.delete(id);
    });
    channel?.postMessage({ id, deleted: true } satisfies Change);
    return chat;
  });
}

/** Puts back what was deleted, at the revision that it had: a tab that still holds it goes on with it. */
export function restoreChat(chat: Chat): Promise<void> {
  return inTurn(async () => {
    await transact<void>("readwrite", (store) => store.put(chat));
    channel?.postMessage({ id: chat.id, deleted: false } satisfies Change);
  });
}

export function newChat(): Chat {
  return { id: newId(), title: "New conversation", updated: Date.now(), messages: [], revision: 0 };
}

/** `crypto.randomUUID` is there on https alone, and a page on http should still say what is wrong. */
function newId(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
