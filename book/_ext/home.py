"""The home page's two figures: a step that is moved across its threshold, and training runs.

``{home-step}`` and ``{home-runs}`` draw them when the site is built. Where scripts run,
``_static/home.js`` puts the first one in motion: it computes the same closed form from the numbers
given here.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from docutils import nodes
from folded import open_text, words
from matplotlib.figure import Figure
from notebook_figures import drawn
from scipy.special import expit
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

from rlvrlib import OvershootInstance, critical_step
from rlvrlib.evidence import figures

DELTA, INITIAL, STEPS = 0.3, 0.3, 60
RUNS = Path("notebooks") / "data" / "grpo" / "summary.csv"
THRESHOLD = (
    "A model problem that is solved exactly. Every step points the right way; the runs differ in "
    "the size of the step alone. Dotted: the critical step. Beyond it every step lowers the "
    "success rate."
)
TRAINING = (
    "Six runs of TRL's GRPO trainer with a model of 135 million parameters on sums of two numbers, "
    "by plain gradient steps, whose learning rates are larger than those of Adam. "
    "Thick: means of three runs; thin: each run, means of three steps."
)


def success_rates(step_sizes: np.ndarray) -> np.ndarray:
    """Success rate after all steps of the overshooting theorem's problem, one step size each."""
    problem = OvershootInstance(DELTA, INITIAL, STEPS)
    return expit(problem.log_odds(np.multiply.outer(step_sizes, np.ones(STEPS))))


def threshold_figure() -> tuple[Figure, str]:
    """Success rate after training against the size of the step."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(4.6, 3.6))
    sizes = np.geomspace(0.02, 4, 300)
    axes.semilogx(sizes, success_rates(sizes), **figures.role("measured"))
    axes.axvline(float(critical_step(DELTA)), **figures.role("threshold"))
    axes.set(xlabel="size of the step", ylabel=f"success rate after {STEPS} steps", ylim=(0, 1))
    axes.set_xticks([0.03, 0.1, 0.3, 1, 3], ["0.03", "0.1", "0.3", "1", "3"])
    return figure, (
        "Success rate after training against the size of the step: it grows with the step up to a "
        "hill, then falls through its first value at the dotted critical step, to zero."
    )


def still() -> str:
    """That figure as the file ``_static/threshold.svg``, which the README shows."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    with mpl.rc_context():
        figures.use_style()
        figure, _ = threshold_figure()
        svg = figures.to_svg(figure)
        plt.close(figure)
    return svg


def training_figure(table: Path) -> tuple[Figure, str]:
    """Reward of the slow and the fast runs with long responses, step by step."""
    import matplotlib.pyplot as plt

    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(figsize=(4.6, 3.6))
    for number, run in enumerate(("long_slow", "long_fast")):
        mine = [row for row in rows if row["run"] == run]
        rewards = np.array(
            [
                [float(row["reward"]) for row in mine if row["seed"] == seed]
                for seed in sorted({row["seed"] for row in mine})
            ]
        )
        smooth = np.array([np.convolve(seed, np.ones(3) / 3, "valid") for seed in rewards])
        at = np.arange(2, 2 + smooth.shape[1])
        look = figures.series(number)
        axes.plot(at, smooth.T, **{**look, "linewidth": 0.8, "alpha": 0.6})
        rate = float(mine[0]["learning_rate"])
        axes.plot(at, smooth.mean(0), **{**look, "linewidth": 2.6}, label=f"learning rate {rate:g}")
    axes.set(xlabel="training step", ylabel="share of right answers", ylim=(0, 1))
    axes.legend(loc="upper left")
    return figure, (
        "Share of right answers against the training step at two learning rates. At the low rate "
        "it climbs to between one half and one; at the high rate it falls to zero."
    )


class HomeStep(SphinxDirective):
    """``{home-step}``: the figure that can be moved; its still where no script runs."""

    def run(self) -> list[nodes.Node]:
        facts = {"delta": DELTA, "initial": INITIAL, "steps": STEPS}
        given = " ".join(f'data-{name}="{value}"' for name, value in facts.items())
        play = nodes.raw("", f'<div class="home-play" hidden {given}></div>', format="html")
        still = drawn(self, threshold_figure, "home-step-", THRESHOLD)
        return [nodes.container("", play, *still, classes=["home-live"])]


class HomeRuns(SphinxDirective):
    """``{home-runs}``: training runs at a low and at a high rate."""

    def run(self) -> list[nodes.Node]:
        table = Path(self.env.srcdir) / RUNS
        self.env.note_dependency(str(table))
        figure = drawn(self, lambda: training_figure(table), "home-runs-", TRAINING)
        return [nodes.container("", *figure, classes=["home-runs"])]


ROUTE = ("log_odds", "logistic_law", "convergence", "overshoot", "token_threshold")
WORDS_PER_HOUR = 3000  # slowly, as mathematics is read


class StudentRoute(SphinxRole):
    """``{student-route}`words` ``: what stands open in the student's chapters; ``hours``: the time
    that takes.
    """

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        found = 0
        for stem in ROUTE:
            path = Path(self.env.srcdir) / "book" / f"{stem}.md"
            self.env.note_dependency(str(path))
            found += words(open_text(path.read_text(encoding="utf-8")))
        shown = {"words": round(found, -3), "hours": max(1, round(found / WORDS_PER_HOUR))}
        return [nodes.Text(f"{shown[self.text]:,}")], []


def write_preview(app: Sphinx, failure: Exception | None) -> None:
    """The picture of a shared link."""
    if failure or app.builder.name != "html":
        return
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    with mpl.rc_context():
        figures.use_style()
        figure, _ = threshold_figure()
        figure.set_size_inches(12, 6.3)
        figure.suptitle(app.config.project, fontsize=28)
        figure.axes[0].tick_params(labelsize=16)
        figure.axes[0].xaxis.label.set_fontsize(18)
        figure.axes[0].yaxis.label.set_fontsize(18)
        figure.savefig(Path(app.outdir) / "_static" / "preview.png", dpi=100)
        plt.close(figure)


def add_script(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """The script of the figure, on the home page alone."""
    if page == app.config.root_doc and app.builder.name == "html":
        app.add_js_file("home.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("home-step", HomeStep)
    app.add_directive("home-runs", HomeRuns)
    app.add_role("student-route", StudentRoute())
    app.connect("html-page-context", add_script)
    app.connect("build-finished", write_preview)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
