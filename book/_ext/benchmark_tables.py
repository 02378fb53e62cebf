"""The measured speeds on the page about them, read from the newest file in ``benchmarks/results``.

``{benchmark-table} tabular`` shows one part of it, ``{benchmark-growth}`` draws time and memory
against the number of runs; the role ``{benchmark}`memory.blocks.exponent_of_seconds` `` puts one
value into a sentence. An unknown name is a warning, which fails the build.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from docutils import nodes
from docutils.parsers.rst import directives
from matplotlib.figure import Figure
from notebook_figures import drawn
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole
from writing import table

from rlvrlib.evidence import figures

logger = logging.getLogger(__name__)


def results(env: BuildEnvironment) -> dict[str, Any]:
    path = max((Path(env.srcdir) / "benchmarks" / "results").glob("*.json"))
    env.note_dependency(str(path))
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def contenders(part: list[dict[str, Any]]) -> list[list[str]]:
    """Median per second, and by what factor rlvrlib, with NumPy and compiled, is faster: median and
    range over the turns.
    """
    ours = [
        name
        for name in ("rlvrlib", "compiled")
        if f"{name}_is_faster_by" in part[0]["contenders"]["rlvrlib"]
    ]
    rows = [["Runs", "By", "Per second", *(f"{name} is faster by" for name in ours), "Difference"]]
    for row in part:
        for name, found in row["contenders"].items():
            ratios = [found[f"{own}_is_faster_by"] for own in ours]
            rows.append(
                [
                    f"{row['runs']:,}",
                    name,
                    short(found["per_second"]["median"]),
                    *(f"{short(ratio['median'])} ({spread(ratio)})" for ratio in ratios),
                    short(found["difference"]),
                ]
            )
    return rows


def limits(part: dict[str, Any]) -> list[list[str]]:
    rows = [
        [
            name,
            short(found["best"]),
            short(found["median"]),
            spread(found),
        ]
        for name, found in part.items()
    ]
    return [["What", "Best", "Median", "Range"], *rows]


def memory(part: dict[str, Any]) -> list[list[str]]:
    rows = [
        [kind, f"{int(row['runs']):,}", short(row["seconds"]), f"{row['peak_mb']:.1f}"]
        for kind, found in part.items()
        for row in found["rows"]
    ]
    return [["Runs are computed", "Runs", "Seconds", "Peak, MB above the start"], *rows]


def pairs(part: dict[str, Any]) -> list[list[str]]:
    return [
        ["Name", "Value"],
        *([name.replace("_", " "), str(value)] for name, value in part.items()),
    ]


SHOWN = {
    "tabular": contenders,
    "shared_features": contenders,
    "tokens": contenders,
    "limits": limits,
    "memory": memory,
    "machine": pairs,
    "versions": pairs,
    "skipped": pairs,
}


def short(value: object) -> str:
    """Two digits, without an exponent from 0.01 to a million."""
    if not isinstance(value, (int, float)):
        return str(value)
    return (
        f"{value:.1e}" if value and not 0.01 <= abs(value) < 1e6 else f"{float(f'{value:.2g}'):,g}"
    )


def spread(found: dict[str, float]) -> str:
    return f"{short(found['low'])} to {short(found['high'])}"


def value(found: Any, path: str) -> Any:
    """``limits.copy.best`` in nested dictionaries and lists; ``a/b`` divides two such values,
    ``a*1e9`` scales one.
    """
    if "/" in path:
        above, below = path.split("/")
        return value(found, above) / value(found, below)
    if "*" in path:
        name, factor = path.split("*")
        return value(found, name) * float(factor)
    for key in path.split("."):
        found = found[int(key)] if isinstance(found, list) else found[key]
    return found


class BenchmarkTable(SphinxDirective):
    """One part of the results as a table."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name, found = self.arguments[0], results(self.env)
        if name not in SHOWN or name not in found:
            logger.warning(
                "no part %r in the benchmark's results (there are: %s)",
                name,
                ", ".join(SHOWN),
                location=self.get_location(),
            )
            return []
        head, *body = SHOWN[name](found[name])  # type: ignore[operator]
        if not body:
            return [nodes.paragraph("", "None.")]
        return [table(head, body)]


class BenchmarkGrowth(SphinxDirective):
    """``{benchmark-growth}``: seconds and peak memory against the number of runs, with the fitted
    power of the time.
    """

    option_spec: ClassVar[dict[str, Any]] = {"name": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        caption = (
            "Time (left) and peak memory (right) against the number of runs. Over the time in "
            "blocks lies the power that was fitted to it."
        )
        return drawn(self, self.draw, "growth-", caption)

    def draw(self) -> tuple[Figure, str]:
        part = results(self.env)["memory"]
        figure, (time, peak) = figures.panels(2, log="x", x="runs")
        for index, (kind, found) in enumerate(part.items()):
            runs, seconds, megabytes = (
                np.array([row[name] for row in found["rows"]])
                for name in ("runs", "seconds", "peak_mb")
            )
            time.plot(runs, seconds, **figures.series(index, marker=True), label=kind)
            peak.plot(runs, megabytes, **figures.series(index, marker=True))
        blocks = part["blocks"]
        runs, seconds = (
            np.array([row[name] for row in blocks["rows"]]) for name in ("runs", "seconds")
        )
        power = blocks["exponent_of_seconds"]
        fitted = np.exp(np.mean(np.log(seconds / runs**power))) * runs**power
        figures.predicted(time, runs, fitted, label=f"power {power:.2f}")
        peak.set_yscale("symlog", linthresh=1, linscale=0.5)
        time.set(yscale="log", ylabel="time (s)")
        peak.set_ylabel("peak memory above the start (MB)")
        time.legend()
        ends = {
            kind: [short(found["rows"][i]["peak_mb"]) for i in (0, -1)]
            for kind, found in part.items()
        }
        grows = "; ".join(
            f"{kind} from {first} to {last} MB" for kind, (first, last) in ends.items()
        )
        alt = (
            f"Left: the time in blocks grows with the runs to the power {power:.2f}. "
            f"Right: the peak memory goes, {grows}."
        )
        return figure, alt


class BenchmarkValue(SphinxRole):
    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        try:
            return [
                nodes.inline(
                    "", short(value(results(self.env), self.text)), classes=["claim-value"]
                )
            ], []
        except (KeyError, IndexError, TypeError, ValueError) as error:
            logger.warning(
                "no value %r in the benchmark's results (%r)",
                self.text,
                error,
                location=self.get_location(),
            )
            return [nodes.problematic(self.rawtext, self.rawtext)], []


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("benchmark-table", BenchmarkTable)
    app.add_directive("benchmark-growth", BenchmarkGrowth)
    app.add_role("benchmark", BenchmarkValue())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
