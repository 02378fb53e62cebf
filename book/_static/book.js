// Repairs of the theme and its extensions, for readers who listen to the page or use the keyboard.
addEventListener("DOMContentLoaded", () => {
  // The arrows that open a part of the contents have no name: they take that of the link before them.
  for (const summary of document.querySelectorAll("nav details > summary")) {
    const link = summary.closest("li")?.querySelector(":scope > a");
    summary.setAttribute("aria-label", `Show the pages of: ${link ? link.textContent.trim() : "this part"}`);
  }
  // Where the name differs from the visible words, the words are the name.
  for (const named of document.querySelectorAll("main summary[aria-label], button.search-button-field[aria-label]"))
    if (named.textContent.trim()) named.removeAttribute("aria-label");
  // The theme switch: its purpose, and after it the name of the icon that shows.
  for (const button of document.querySelectorAll(".theme-switch-button[aria-label]")) {
    button.insertAdjacentHTML("afterbegin", `<span class="visually-hidden">${button.ariaLabel}: </span>`);
    button.removeAttribute("aria-label");
  }
  // The contents beside the page hold the same links to its sections.
  for (const link of document.querySelectorAll("article :is(h1, h2, h3) a.headerlink")) link.tabIndex = -1;
  // The logo and the search above the contents stand in no landmark.
  const side = document.querySelector("#pst-primary-sidebar");
  side?.setAttribute("role", "region");
  side?.setAttribute("aria-label", "Book");
  // Entries of the bibliography carry roles that do not fit their place.
  for (const item of document.querySelectorAll(".citation-list, .citation-list .citation")) item.removeAttribute("role");
});

// Paper is light, whatever the screen is, and nothing on it is folded.
addEventListener("beforeprint", () => {
  const folded = [...document.querySelectorAll("article details:not([open])")];
  for (const part of folded) part.open = true;
  addEventListener("afterprint", () => folded.forEach(part => (part.open = false)), { once: true });
  const page = document.documentElement.dataset;
  const theme = page.theme;
  page.theme = "light";
  addEventListener("afterprint", () => (page.theme = theme), { once: true });
});

// A link to what is folded unfolds it.
const unfold = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target?.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  if (target?.closest("details")) target.scrollIntoView();
};
addEventListener("DOMContentLoaded", unfold);
addEventListener("hashchange", unfold);

// What scrolls inside itself must be reachable by the keyboard, at every width and once the mathematics is there.
const reach = () => {
  for (const box of document.querySelectorAll(".theme-svg-frame, article table, .pst-scrollable-table-container, article div.math, article pre, mjx-container"))
    if (box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX !== "visible") box.tabIndex = 0;
};
addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(reach));
addEventListener("resize", reach);

// The tables of claims: sort by a column, filter by words and by verdict. Without scripts they are plain tables.
addEventListener("DOMContentLoaded", () => {
  const tables = [...document.querySelectorAll("table.evidence")];
  if (!tables.length) return;
  const rows = tables.flatMap(table => [...table.tBodies[0].rows]);
  const read = (row, column) => row.cells[column].textContent.trim().replace(/^[≤≥<>=±✓✗–\s]+/, "");
  const compare = (one, other) => {
    const numbers = [one, other].map(text => text === "" ? NaN : Number(text.replace("−", "-")));
    return numbers.some(Number.isNaN) ? one.localeCompare(other, "en", { numeric: true }) : numbers[0] - numbers[1];
  };
  for (const table of tables) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent.trim();
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const sign = head.ariaSort === "ascending" ? -1 : 1;
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        const body = table.tBodies[0];
        body.append(...[...body.rows].sort((one, other) => sign * compare(read(one, column), read(other, column))));
      });
    });
  }
  const verdicts = [...new Set(rows.map(row => read(row, 5).split(":")[0]))];
  document.querySelector("details.claims-of").insertAdjacentHTML("beforebegin", `<form class="claims-filter" role="search" aria-label="Filter the claims">
    <label>Words <input type="search" name="words"></label>
    <label>Verdict <select name="verdict"><option value="">all</option>${verdicts.map(v => `<option>${v}</option>`).join("")}</select></label>
    <output aria-live="polite"></output></form>`);
  const form = document.querySelector("form.claims-filter");
  const filter = () => {
    const asked = form.elements.words.value.toLowerCase().trim();
    const [words, verdict] = [asked.split(/\s+/), form.elements.verdict.value];
    for (const row of rows) row.hidden = !(words.every(word => row.textContent.toLowerCase().includes(word)) && read(row, 5).startsWith(verdict));
    for (const group of document.querySelectorAll("details.claims-of")) {
      const found = group.querySelector("tbody tr:not([hidden])");
      group.hidden = !found;
      if (asked || verdict) group.open = Boolean(found);
    }
    form.querySelector("output").textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length}`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", event => event.preventDefault());
  filter();
});
