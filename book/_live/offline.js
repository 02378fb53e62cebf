// After the first run the pages that were visited, and Python, are there without a network.
"use strict";

const STORE = "safe-step-live";
addEventListener("install", () => skipWaiting());
addEventListener("activate", event => event.waitUntil(clients.claim()));
addEventListener("message", ({ data }) =>
  caches.open(STORE).then(store => Promise.all(data.map(url => store.add(url).catch(() => {})))));

addEventListener("fetch", event => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(registration.scope)) return;
  event.respondWith((async () => {
    const store = await caches.open(STORE);
    const fixed = request.url.includes("/live/pyodide/") && await store.match(request);
    if (fixed) return fixed;
    try {
      const answer = await fetch(request);
      if (answer.ok) store.put(request, answer.clone());
      return answer;
    } catch (error) {
      return (await store.match(request, { ignoreSearch: true })) ?? Promise.reject(error);
    }
  })());
});
