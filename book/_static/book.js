// Two repairs of the theme, for readers who listen to the page.
document.addEventListener("DOMContentLoaded", () => {
  // The arrows that open a part of the contents have no name: they take that of the link before them.
  for (const summary of document.querySelectorAll("nav details > summary")) {
    const link = summary.closest("li")?.querySelector(":scope > a");
    summary.setAttribute("aria-label", `Show the pages of: ${link ? link.textContent.trim() : "this part"}`);
  }
  // A name that differs from the visible text cannot be spoken to: the visible text is the name.
  for (const button of document.querySelectorAll("button.search-button-field, button.search-button__button")) {
    if (button.textContent.trim()) button.removeAttribute("aria-label");
  }
});
