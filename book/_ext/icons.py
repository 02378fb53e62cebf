"""The theme's icons as drawings in the page, in place of the script of all 2000 that draws them.

Its script brings 1.5 MB to every page, for about a dozen icons. Here each page carries those that
it shows, once, and refers to them; they are read from the theme's own file, so they are the same.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

THEME = resources.files("pydata_sphinx_theme") / "theme/pydata_sphinx_theme/static"
SCRIPT = re.compile(r'\s*<script src="[^"]*/scripts/fontawesome\.js[^"]*"></script>')
ICON = re.compile(r'<i class="(?P<classes>[^"]*\bfa-[^"]*)"(?P<rest>[^>]*)></i>')
FONT_RULES = re.compile(
    r"@font-face\{[^{}]*(?:Font ?Awesome|FontAwesome)[^{}]*\}|"
    r"(?:\.fa-[\w-]+:before,?)+\{content:[^{}]*\}"
)


def draw_icons(page: str) -> str:
    """The page with a drawing for each ``<i class="fa-solid fa-NAME">``, and without the script."""
    shown: dict[str, str] = {}

    def reference(found: re.Match[str]) -> str:
        classes, rest = found["classes"].split(), found["rest"]
        for name in classes:
            if drawing := _drawing(name.removeprefix("fa-"), "fa-solid" in classes):
                size, path = drawing
                shown[name] = f'<path id="icon-{name}" fill="currentColor" d="{path}"/>'
                hidden = "" if "aria-" in rest else ' aria-hidden="true"'
                return (
                    f'<svg class="svg-inline--fa {" ".join(classes)}"{rest}{hidden} '
                    f'viewBox="0 0 {size}"><use href="#icon-{name}"></use></svg>'
                )
        return found[0]

    page = ICON.sub(reference, SCRIPT.sub("", page))
    paths = "".join(path for _, path in sorted(shown.items()))
    return page.replace("</body>", f"<svg hidden>{paths}</svg></body>" if paths else "</body>")


@cache
def _drawing(name: str, solid: bool) -> tuple[str, str] | None:
    """Size and path of an icon, as the theme's script lists them: solid ones last."""
    entry = rf"""[{{,]"?{re.escape(name)}"?:\[(\d+,\d+),\[[^\]]*\],"[^"]*","([^"]+)"\]"""
    found: list[tuple[str, str]] = re.findall(entry, _script())
    return (found[-solid][0].replace(",", " "), found[-solid][1]) if found else None


@cache
def _script() -> str:
    return (THEME / "scripts" / "fontawesome.js").read_text(encoding="utf-8")


def drop_fonts(app: Sphinx, failure: Exception | None) -> None:
    """The icons' script, fonts and the names of their letters: no page asks for them."""
    if failure or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    for file in (static / "scripts").glob("fontawesome*"):
        file.unlink()
    for file in (static / "vendor").rglob("*.woff2"):
        file.unlink()
    sheet = static / "styles" / "pydata-sphinx-theme.css"
    sheet.write_text(FONT_RULES.sub("", sheet.read_text(encoding="utf-8")), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", drop_fonts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
