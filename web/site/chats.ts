// Conversations, kept in this browser alone (IndexedDB), and the settings (localStorage).

import type { Message } from "../ts/index.js";

export interface Chat {
  id: string;
  title: string;
  updated: number;
  messages: Message[];
}

function database(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("pocketlm", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("chats", { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function use<T>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const open = await database();
  try {
    return await new Promise<T>((resolve, reject) => {
      const request = work(open.transaction("chats", mode).objectStore("chats"));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  } finally {
    open.close();
  }
}

/** All of them, the last one used first. */
export async function chats(): Promise<Chat[]> {
  const all = await use<Chat[]>("readonly", (store) => store.getAll()).catch(() => []);
  return all.sort((a, b) => b.updated - a.updated);
}

export async function keepChat(chat: Chat): Promise<void> {
  chat.updated = Date.now();
  const first = chat.messages.find((message) => message.role === "user")?.content ?? "";
  chat.title = first.trim().split("\n")[0]!.slice(0, 60) || "New conversation";
  await use("readwrite", (store) => store.put(chat)).catch(() => undefined);
}

export async function deleteChat(id: string): Promise<void> {
  await use("readwrite", (store) => store.delete(id)).catch(() => undefined);
}

export function newChat(): Chat {
  return { id: crypto.randomUUID(), title: "New conversation", updated: Date.now(), messages: [] };
}

/** What the settings dialog holds. */
export interface Settings {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repeatPenalty: number;
  /** Empty: another one each time. */
  seed: string;
  maxTokens: number;
  context: number;
  kv: string;
  system: string;
}

const DEFAULTS: Settings = {
  temperature: 0.7, topK: 40, topP: 0.95, minP: 0.05, repeatPenalty: 1, seed: "", maxTokens: 1024, context: 4096, kv: "f16", system: "",
};

export function settings(): Settings {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem("settings") ?? "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

export function keepSettings(next: Settings): void {
  localStorage.setItem("settings", JSON.stringify(next));
}
