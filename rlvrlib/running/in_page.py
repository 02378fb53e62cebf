"""A notebook without a kernel: its cells run here, one after the other, and each output is HTML.

A browser's worker runs the book's own cells with it (``book/_live``). Nothing of Jupyter is at hand
there: the few names of IPython that a notebook of the book reaches stand in `_Kernel`.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import html
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from rlvrlib.evidence import figures
from rlvrlib.evidence.html import claims_table
from rlvrlib.running import parameters


class Page:
    """The cells of one page and what they have defined so far.

    Parameters
    ----------
    cells : of each code cell its ``source``, ``tags``, and the ``alt`` text of its figure.
    given : values for parameters, as numbers or as texts of a form.

    Raises
    ------
    ValueError : an unknown parameter, a wrong type, or a value out of range.
    """

    def __init__(self, cells: Sequence[Mapping[str, Any]], given: Mapping[str, object]) -> None:
        declared = [cell["source"] for cell in cells if "parameters" in cell["tags"]]
        self.parameters = parameters.checked(given, parameters.read("\n".join(declared)))
        self.cells = cells
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self._kernel = _Kernel()

    def run(self, index: int, source: str | None = None) -> list[dict[str, Any]]:
        """Outputs of a cell: ``{"html": ...}`` each, with the rows of a table of ``claims``.

        Parameters
        ----------
        source : in place of the cell's own, where a reader has edited it.
        """
        cell, kernel, printed = self.cells[index], self._kernel, io.StringIO()
        kernel.begin(f"live{index}-", cell["alt"])
        with kernel.installed(), contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*non-interactive")  # plt.show()
            _execute(cell["source"] if source is None else source, self.names, index)
            if "parameters" in cell["tags"]:
                self.names |= self.parameters
            for number in plt.get_fignums():
                kernel.display(plt.figure(number))
        plt.close("all")
        text = f'<div class="output stream"><pre>{html.escape(printed.getvalue())}</pre></div>'
        return [{"html": text}] * bool(printed.getvalue()) + kernel.outputs


def _execute(source: str, names: dict[str, Any], index: int) -> None:
    """Run the source; the value of a last expression is printed, as Jupyter does."""
    body = ast.parse(source)
    file, last = f"<cell {index}>", body.body[-1] if body.body else None
    if isinstance(last, ast.Expr):
        body.body.pop()
    exec(compile(body, file, "exec"), names)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), file, "eval"), names)
        if value is not None:
            print(repr(value))


class _Kernel:
    """What `rlvrlib.evidence` asks of IPython: to display, and the format of figures."""

    def __init__(self) -> None:
        self.write: Callable[[Figure], str | bytes] = figures.to_svg
        self.begin("", "")

    def begin(self, prefix: str, alt: str) -> None:
        """The next cell, with what keeps ids apart and the text alternative of its figure."""
        self.prefix, self.alt = prefix, alt
        self.outputs: list[dict[str, Any]] = []

    def display(self, shown: Any, metadata: Mapping[str, Any] | None = None, **_: Any) -> None:
        if isinstance(shown, Figure):
            self.outputs.append({"html": self._picture(self.write(shown)), "figure": True})
            plt.close(shown)
        elif rows := (metadata or {}).get("claims"):
            self.outputs.append({"html": claims_table(rows), "claims": rows})
        else:
            self.outputs.append({"html": f"<pre>{html.escape(str(shown))}</pre>"})

    def use_format(self, name: str) -> None:
        self.write = figures.to_png if name == "png" else figures.to_svg

    def _picture(self, picture: str | bytes) -> str:
        if isinstance(picture, str):
            return figures.inline_svg(picture, f"{self.prefix}{len(self.outputs)}-", self.alt)
        data = base64.b64encode(picture).decode()
        return f'<img src="data:image/png;base64,{data}" alt="{html.escape(self.alt)}">'

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """The modules that a cell imports, in place for as long as it runs."""
        modules: dict[str, dict[str, Any]] = {
            # no shell: Matplotlib asks for it, and for the version
            "IPython": {"get_ipython": lambda: None, "version_info": (9, 0)},
            "IPython.display": {"display": self.display},
            "matplotlib_inline": {},
            "matplotlib_inline.backend_inline": {"set_matplotlib_formats": self.use_format},
        }
        before = {name: sys.modules.get(name) for name in modules}
        for name, values in modules.items():
            sys.modules[name] = ModuleType(name)
            vars(sys.modules[name]).update(values)
        try:
            yield
        finally:
            for name, module in before.items():
                if module is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = module
