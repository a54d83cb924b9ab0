// The service worker: the site's own files, kept so that it opens offline. A new version replaces all of them at once.
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
const NAME = `pocketlm-${VERSION}`;

scope.addEventListener("install", (event) => {
  const keep = caches.open(NAME).then((cache) => cache.addAll(FILES.map((file) => new Request(file, { cache: "reload" }))));
  (event as Extendable).waitUntil(keep.then(() => scope.skipWaiting()));
});

scope.addEventListener("activate", (event) => {
  const old = caches.keys().then((names) => Promise.all(names.filter((name) => name.startsWith("pocketlm-") && name !== NAME).map((name) => caches.delete(name))));
  (event as Extendable).waitUntil(old.then(() => scope.clients.claim()));
});

scope.addEventListener("fetch", (event) => {
  const { request } = event as FetchLike;
  const { origin, pathname } = new URL(request.url);
  // Models go past it: they have a storage of their own.
  const own = FILES.map((file) => new URL(file, scope.registration.scope)).some((url) => url.origin === origin && url.pathname === pathname);
  if (request.method !== "GET" || !own || request.headers.has("range")) return;
  const answer = caches.open(NAME).then((cache) => cache.match(request, { ignoreSearch: true }));
  (event as FetchLike).respondWith(answer.then((kept) => kept ?? fetch(request)));
});
export {};
