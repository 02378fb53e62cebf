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
  // Entries of the bibliography carry roles that do not fit their place.
  for (const item of document.querySelectorAll(".citation-list, .citation-list .citation")) item.removeAttribute("role");
});

addEventListener("load", () => {
  // What scrolls inside itself must be reachable by the keyboard.
  for (const box of document.querySelectorAll(".theme-svg-frame, article table, article div.math"))
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
});
