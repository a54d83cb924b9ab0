// The service worker: the site's own files, kept so that it opens offline. Scripts, styles and wasm lie in a folder named
// after their version, so a page finds those that it was built with or none, and never another version's. Hence a new
// version may take over at once: pages that are open go on with the old files, which stay as long as there is such a page.
declare const PAGES: string[];
declare const FILES: string[];
declare const VERSION: string;
const scope = self as unknown as EventTarget & { registration: { scope: string }; skipWaiting(): Promise<void>; clients: { claim(): Promise<void> } };
interface Extendable extends Event {
  waitUntil(promise: Promise<unknown>): void;
}
interface FetchLike extends Extendable {
  request: Request;
  respondWith(answer: Promise<Response>): void;
}
const home = new URL(scope.registration.scope);
/** Sites in other folders of this origin have theirs. */
const PREFIX = `pocketlm ${home.pathname} `;
const NAME = PREFIX + VERSION;

scope.addEventListener("install", (event) => {
  (event as Extendable).waitUntil(keep().then(() => scope.skipWaiting()));
});

scope.addEventListener("activate", (event) => {
  (event as Extendable).waitUntil(tidy().then(() => scope.clients.claim()));
});

scope.addEventListener("fetch", (event) => {
  const { request } = event as FetchLike;
  const { origin, pathname } = new URL(request.url);
  // Models go past it: they have a storage of their own.
  if (request.method !== "GET" || request.headers.has("range") || origin !== home.origin || !pathname.startsWith(home.pathname)) return;
  const file = pathname.slice(home.pathname.length);
  // Some servers have clean addresses: index.html is at the folder's, gpu.html at gpu.
  const page = `${file.replace(/\.html$/, "") || "index"}.html`;
  const name = PAGES.includes(page) ? page : file;
  if (/^v-\w+\//.test(name)) (event as FetchLike).respondWith(anyVersion(name, request));
  else if (PAGES.includes(name) || FILES.includes(name)) (event as FetchLike).respondWith(current(name, request));
});

async function keep(): Promise<void> {
  const cache = await caches.open(NAME);
  await Promise.all([...PAGES, ...FILES].map(async (file) => {
    const answer = await fetch(new Request(new URL(file, home), { cache: "reload" }));
    if (!answer.ok) throw new Error(`${file}: the server answers ${answer.status}`);
    const body = await answer.blob();
    // The server may be between two versions; then this one is tried again later.
    if (PAGES.includes(file) && !(await body.text()).includes(VERSION)) throw new Error(`${file} is of another version`);
    // Made anew: what was redirected must not answer a navigation.
    const { "content-encoding": _, ...headers } = Object.fromEntries(answer.headers);
    await cache.put(new URL(file, home), new Response(body, { headers }));
  }));
}

/** Deletes the versions that no page uses. The one before this stays in any case: a page may be opening it now. */
async function tidy(): Promise<void> {
  const locks = await navigator.locks.query();
  const used = new Set([...locks.held!, ...locks.pending!].map(({ name }) => name!));
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== NAME);
  const unused = old.slice(0, -1).filter((name) => !used.has(`pocketlm version ${name.slice(PREFIX.length)}`));
  await Promise.all(unused.map((name) => caches.delete(name)));
}

async function current(name: string, request: Request): Promise<Response> {
  const kept = await (await caches.open(NAME)).match(new URL(name, home));
  return kept ?? fetch(request);
}

async function anyVersion(name: string, request: Request): Promise<Response> {
  for (const cache of (await caches.keys()).filter((key) => key.startsWith(PREFIX))) {
    const kept = await (await caches.open(cache)).match(new URL(name, home));
    if (kept) return kept;
  }
  return fetch(request);
}
export {};
