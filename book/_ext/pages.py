"""What is done to a page once the theme has written it: its icons, marks for the search, titles."""

from __future__ import annotations

import re
from typing import Any

from icons import draw_icons
from search_index import mark
from sphinx.jinja2glue import BuiltinTemplateLoader

# sphinx-proof puts a name into brackets, and whose the result is stands in brackets behind it.
NUMBER = r'(<p class="admonition-title"[^>]*><span class="caption-number">[^<]*</span>)'
WHOSE = re.compile(rf"{NUMBER} \((.*) \(([^()]*)\)\)</p>")


class Pages(BuiltinTemplateLoader):
    """The template bridge: every page, finished."""

    def render(self, template: str, context: dict[str, Any]) -> str:  # type: ignore[override]
        page = draw_icons(super().render(template, context))
        if context.get("builder") != "html":
            return page
        page = WHOSE.sub(r'\1 \2 <span class="whose">\3</span></p>', page)
        return mark(page, context.get("pagename", ""))
