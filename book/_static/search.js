// Results while typing, from pagefind's index. Where that cannot be fetched, the theme's own search stays.
"use strict";

{
  const root = document.documentElement.dataset.content_root ?? "./";
  let loading;
  const pagefind = () =>
    (loading ??= import(new URL(`${root}pagefind/pagefind.js`, location.href)).then(async found => {
      await found.options({ excerptLength: 24, ranking: { pageLength: 0.1, termFrequency: 0.5, metaWeights: { title: 5, words: 10 } } });
      return found;
    }));

  // A page with the place on it that fits best. Excerpts are pagefind's: escaped, with <mark> around the words.
  const entry = result => {
    const place = result.sub_results.find(sub => sub.excerpt.includes("<mark>")) ?? result;
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = place.url;
    link.textContent = result.meta.title;
    item.append(link);
    if (place.title && place.title !== result.meta.title) item.append(` – ${place.title}`);
    const excerpt = document.createElement("p");
    excerpt.innerHTML = place.excerpt;
    item.append(excerpt);
    return item;
  };

  const show = async (query, list, said, count) => {
    const found = await (await pagefind()).search(query);
    const results = await Promise.all(found.results.slice(0, count).map(result => result.data()));
    if (list.dataset.query !== query) return; // the reader has typed on
    list.replaceChildren(...results.map(entry));
    // For a word that is nowhere pagefind looks for ever shorter beginnings of it.
    const near = query.toLowerCase().match(/[\w]{1,4}/g) ?? [];
    const text = results.map(({ excerpt, meta }) => `${excerpt} ${meta.title} ${meta.words}`).join(" ").toLowerCase();
    const hit = near.some(start => text.includes(start));
    said.textContent = hit ? `${found.results.length} pages, the best first.` : `No page has these words.${results.length ? " The nearest:" : ""}`;
  };

  const place = (after, where) => {
    const said = Object.assign(document.createElement("p"), { className: "search-said" });
    said.setAttribute("role", "status");
    const list = Object.assign(document.createElement("ol"), { className: "search-hits" });
    after[where](said, list);
    return [list, said];
  };
  const ask = (query, [list, said], count, otherwise) => {
    list.dataset.query = query;
    if (query.trim()) show(query, list, said, count).catch(otherwise);
    else for (const part of [list, said]) part.replaceChildren();
  };

  document.addEventListener("DOMContentLoaded", () => {
    if (location.protocol === "file:") return;
    // The page of results: the theme's script stands ready and would fetch every page for its snippets.
    const box = document.querySelector("#search-results");
    if (box && typeof Search !== "undefined") {
      const own = Search.performSearch;
      Search.performSearch = query => ask(query, place(box, "append"), 10, () => own(query));
    }
    const dialog = document.querySelector("#pst-search-dialog");
    const input = dialog?.querySelector("input[type=search]");
    if (!input) return;
    const results = place(dialog, "append");
    let wait;
    input.addEventListener("focus", () => pagefind().catch(() => undefined), { once: true });
    input.addEventListener("input", () => {
      clearTimeout(wait);
      wait = setTimeout(() => ask(input.value, results, 4, () => undefined), 120);
    });
  });
}
