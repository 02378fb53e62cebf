"""Claims and evidence: what theory predicts, with a verdict that is computed, and what was
measured without a prediction.

A notebook ends with ``claims.show(...)``. The table is what a reader sees; the same rows stand in
the output's metadata, so that an executed notebook carries its evidence (``collect`` reads it
back).
"""

from __future__ import annotations

import html
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

HOLDS, FAILS, OUTSIDE, RECORDED = "holds", "fails", "outside the assumptions", "recorded"

# Differences below this are rounding; their digits change from one processor to the next and are
# not printed.
ROUNDING = 1e-11


@dataclass(frozen=True)
class Prediction:
    """What a theorem or a named approximation says, beside what was measured. Use ``equals``,
    ``at_most``, ``at_least``, ``less_than`` or ``more_than`` to make one.

    Parameters
    ----------
    key : short name, unique in its notebook; prose refers to the row by it.
    statement : a sentence that stands alone; ``$...$`` is typeset.
    source : what implies it, pieces separated by "; ": the name of a result of the book,
        ``@key`` of its bibliography, or "approximation: " and its name.
    relation : ``"="`` (measured equals predicted within the tolerance), ``"<="``, ``">="``, ``"<"``
        or ``">"``.
    predicted, measured : numbers, the first not computed from the second. NaN never holds.
    tolerance : allowed absolute deviation.
    outside : why the parameters leave the theorem's assumptions; empty where they do not.
    failure : why the prediction fails, where that is known. It does not change the verdict.
    """

    key: str
    statement: str
    source: str
    relation: str
    predicted: float
    measured: float
    tolerance: float = 0.0
    outside: str = ""
    failure: str = ""

    def __post_init__(self) -> None:
        _check_key(self.key)
        if not 0 <= self.tolerance < math.inf:
            raise ValueError(f"tolerance must be non-negative and finite, got {self.tolerance!r}")
        if not self.source.strip():
            raise ValueError(f"source must name what implies {self.key}, got {self.source!r}")
        if self.relation not in _SIGNS:
            raise ValueError(f"relation must be one of {', '.join(_SIGNS)}, got {self.relation!r}")

    @property
    def verdict(self) -> str:
        """``holds`` or ``fails``, from the numbers alone; ``outside the assumptions`` where a
        reason is given.
        """
        if self.outside:
            return OUTSIDE
        predicted, measured = float(self.predicted), float(self.measured)
        if math.isnan(predicted) or math.isnan(measured):
            return FAILS
        holds = {
            "=": measured == predicted
            or abs(measured - predicted) <= self.tolerance,  # the first for two infinities
            "<=": measured <= predicted,
            ">=": measured >= predicted,
            "<": measured < predicted,
            ">": measured > predicted,
        }[self.relation]
        return HOLDS if holds else FAILS

    def row(self) -> dict[str, object]:
        """The prediction as plain JSON values; infinities and NaN travel as text."""
        plain = {
            name: _plain(getattr(self, name)) for name in ("predicted", "measured", "tolerance")
        }
        return {
            "kind": "prediction",
            "key": self.key,
            "statement": self.statement,
            "source": self.source,
            "relation": self.relation,
            **plain,
            "predicted_text": _text(self.predicted, self.tolerance),
            "measured_text": _rounding(self.measured, self.predicted)
            or _text(self.measured, self.tolerance),
            "tolerance_text": f"± {_text(self.tolerance)}" if self.tolerance else "",
            "verdict": self.verdict,
            "reason": {OUTSIDE: self.outside, FAILS: self.failure}.get(self.verdict, ""),
        }


@dataclass(frozen=True)
class Record:
    """A measurement that no theorem predicts. It has no verdict. ``record`` makes one; ``mean``,
    ``share`` and ``median`` make one of independent draws.

    Parameters
    ----------
    key, statement : as of a prediction.
    measured : the value.
    uncertainty : the longer side of the 95% interval where the value is sampled; 0 where nothing is
        drawn.
    """

    key: str
    statement: str
    measured: float
    uncertainty: float = 0.0

    def __post_init__(self) -> None:
        _check_key(self.key)
        if not self.uncertainty >= 0:
            raise ValueError(f"uncertainty must be non-negative, got {self.uncertainty!r}")

    @property
    def verdict(self) -> str:
        """Always ``recorded``."""
        return RECORDED

    def row(self) -> dict[str, object]:
        """The record with the entries of a prediction's row; its uncertainty is the tolerance."""
        return {
            "kind": "record",
            "key": self.key,
            "statement": self.statement,
            "source": "",
            "relation": "",
            "predicted": None,
            "measured": _plain(self.measured),
            "tolerance": _plain(self.uncertainty),
            "predicted_text": "",
            "measured_text": (not self.uncertainty and _rounding(self.measured, 0))
            or _text(self.measured),
            "tolerance_text": f"± {_text(self.uncertainty, digits=2)}" if self.uncertainty else "",
            "verdict": self.verdict,
            "reason": "",
        }


def _check_key(key: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", key):
        raise ValueError(f"key must be lower-case letters, digits and hyphens, got {key!r}")


def equals(
    key: str,
    statement: str,
    source: str,
    predicted: float,
    measured: float,
    *,
    tolerance: float = 0.0,
    relative: float = 0.0,
    outside: str = "",
    failure: str = "",
) -> Prediction:
    """Measured equals predicted within ``tolerance + relative * |predicted|``."""
    allowed = tolerance + (relative * abs(predicted) if math.isfinite(predicted) else 0.0)
    return Prediction(key, statement, source, "=", predicted, measured, allowed, outside, failure)


def at_most(
    key: str,
    statement: str,
    source: str,
    bound: float,
    measured: float,
    *,
    outside: str = "",
    failure: str = "",
) -> Prediction:
    """Measured is at most the bound."""
    return Prediction(key, statement, source, "<=", bound, measured, 0.0, outside, failure)


def at_least(
    key: str,
    statement: str,
    source: str,
    bound: float,
    measured: float,
    *,
    outside: str = "",
    failure: str = "",
) -> Prediction:
    """Measured is at least the bound."""
    return Prediction(key, statement, source, ">=", bound, measured, 0.0, outside, failure)


def less_than(
    key: str,
    statement: str,
    source: str,
    bound: float,
    measured: float,
    *,
    outside: str = "",
    failure: str = "",
) -> Prediction:
    """Measured is strictly less than the bound."""
    return Prediction(key, statement, source, "<", bound, measured, 0.0, outside, failure)


def more_than(
    key: str,
    statement: str,
    source: str,
    bound: float,
    measured: float,
    *,
    outside: str = "",
    failure: str = "",
) -> Prediction:
    """Measured is strictly more than the bound."""
    return Prediction(key, statement, source, ">", bound, measured, 0.0, outside, failure)


def record(key: str, statement: str, measured: float, *, uncertainty: float = 0.0) -> Record:
    """Measured, and predicted by nothing."""
    return Record(key, statement, measured, uncertainty)


def mean(key: str, statement: str, values: ArrayLike) -> Record:
    """The mean of independent draws with half of its 95% interval, 1.96 standard errors."""
    drawn = np.ravel(values)
    error = np.std(drawn, ddof=1) / math.sqrt(len(drawn)) if len(drawn) > 1 else math.inf
    return Record(key, statement, float(np.mean(drawn)), 1.96 * float(error))


def share(key: str, statement: str, hits: ArrayLike) -> Record:
    """The share of independent draws that hit, with the longer side of Wilson's 95% interval."""
    drawn = np.ravel(hits)
    found, per_draw = float(np.mean(drawn)), 1.96**2 / len(drawn)
    variance = found * (1 - found) + per_draw / 4
    side = math.sqrt(per_draw * variance) + per_draw * abs(0.5 - found)
    return Record(key, statement, found, side / (1 + per_draw))


def median(key: str, statement: str, values: ArrayLike) -> Record:
    """The median of independent draws with the longer side of the 95% interval between two of them.
    """
    drawn = np.sort(np.ravel(values))
    reach = 0.98 * math.sqrt(len(drawn))  # 1.96 standard deviations of the rank
    ends = np.round((len(drawn) - 1) / 2 + np.array([-reach, reach])).astype(int)
    low, high = drawn[np.clip(ends, 0, len(drawn) - 1)]
    middle = float(np.median(drawn))
    return Record(key, statement, middle, max(high - middle, middle - low))


def each(
    relation: Callable[..., Prediction],
    key: str,
    statement: str,
    source: str,
    predicted: Mapping[str, float] | float,
    measured: Mapping[str, float],
    names: Mapping[str, str] | None = None,
    **more: Any,
) -> list[Prediction]:
    """The same prediction for each of several cases, by one of the relations above.

    Parameters
    ----------
    key, statement : of the rows: ``key-case`` and "Case: statement".
    measured : by case, in the order of the rows.
    predicted, more : by case, or one for all; ``more`` is what the relation takes by name.
    names : what a case is called, where not by its key.
    """
    found: list[Prediction] = []
    for case, value in measured.items():
        own = {
            name: given[case] if isinstance(given, Mapping) else given
            for name, given in ({"predicted": predicted} | more).items()
        }
        said = f"{(names or {}).get(case, case)}: {statement}"
        found.append(
            relation(f"{key}-{case}", said, source, own.pop("predicted"), value, **own)
        )
    return found


def show(*claims: Prediction | Record) -> None:
    """Display predictions and records as a table; their rows go into the output's metadata.

    Raises
    ------
    ValueError : two rows share a key, or there is none.
    """
    from IPython.display import display  # the library itself does not need a notebook

    keys = [claim.key for claim in claims]
    if not keys or len(set(keys)) < len(keys):
        raise ValueError(f"claims must be given, each with its own key, got keys {keys!r}")
    rows = [claim.row() for claim in claims]
    text = "\n".join(f"{row['verdict']}: {row['statement']}" for row in rows)
    display({"text/html": to_html(rows), "text/plain": text}, raw=True, metadata={"claims": rows})


def collect(path: str | Path) -> list[dict[str, object]]:
    """All claim rows that an executed notebook carries, in order.

    Raises
    ------
    ValueError : there is no such file, or it is not a notebook.
    """
    try:
        return rows_of(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"path must name a Jupyter notebook, got {str(path)!r}: {error}"
        ) from error


def rows_of(notebook: Mapping[str, Any]) -> list[dict[str, object]]:
    """All claim rows of an executed notebook that has been read, in order."""
    outputs = (output for cell in notebook["cells"] for output in cell.get("outputs", []))
    return [row for output in outputs for row in output.get("metadata", {}).get("claims", [])]


def summary(rows: Iterable[Mapping[str, object]]) -> str:
    """How many predictions there are, how many of them hold, fail, or lie outside the assumptions,
    and how many records.
    """
    count = Counter(row["verdict"] for row in rows)
    return (
        f"{sum(count.values()) - count[RECORDED]} predictions: {count[HOLDS]} hold, "
        f"{count[FAILS]} fail, {count[OUTSIDE]} outside the assumptions; {count[RECORDED]} records"
    )


def unexplained(rows: Iterable[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """The predictions that fail without a reason that their notebook knows."""
    return [row for row in rows if row["verdict"] == FAILS and not row["reason"]]


class Cells(NamedTuple):
    """What a row says, as texts in which ``$...$`` is mathematics: each table of claims writes
    these.

    Attributes
    ----------
    statement, source, predicted, measured, tolerance : of the row, as it prints them; the
        uncertainty of a record stands behind its measured value.
    verdict : with its mark, and the reason where there is one.
    sign : of the relation, which stands before the predicted value; none for an equality.
    """

    statement: str
    source: str
    predicted: str
    measured: str
    tolerance: str
    verdict: str
    sign: str


COLUMNS = ("Claim", "Predicted", "Measured", "Tolerance", "Verdict")
_SIGNS = {"=": "", "<=": "≤ ", ">=": "≥ ", "<": "< ", ">": "> "}
_MARKS = {HOLDS: "✓ ", FAILS: "✗ ", OUTSIDE: "– ", RECORDED: ""}


def cells(row: Mapping[str, object]) -> Cells:
    """The texts of one row."""
    verdict, reason = str(row["verdict"]), f": {row['reason']}" if row["reason"] else ""
    measured, tolerance = str(row["measured_text"]), str(row["tolerance_text"])
    if verdict == RECORDED:
        measured, tolerance = f"{measured} {tolerance}".rstrip(), ""
    return Cells(
        str(row["statement"]),
        re.sub(r"@([a-z]+)(\d{4})\w*", _author_and_year, str(row["source"])),
        str(row["predicted_text"]),
        measured,
        tolerance,
        f"{_MARKS[verdict]}{verdict}{reason}",
        _SIGNS.get(str(row["relation"]), ""),
    )


def _author_and_year(key: re.Match[str]) -> str:
    return f"{key[1].title()} {key[2]}"


def text_and_math(text: object) -> list[tuple[str, bool]]:
    """The pieces of a text, and of each whether it is mathematics, ``$...$``. No other markup is
    read, so nothing can be smuggled in.
    """
    pieces = re.split(r"\$([^$]+)\$", str(text))
    return [(piece, number % 2 == 1) for number, piece in enumerate(pieces) if piece]


def typeset(text: object, formula: Callable[[str], str]) -> str:
    """The text as HTML, escaped; ``formula`` writes its mathematics."""
    return "".join(
        formula(piece) if is_math else html.escape(piece) for piece, is_math in text_and_math(text)
    )


def mathjax(tex: str) -> str:
    """A formula for the book's MathJax, which reads no dollar signs: a lone one stays one."""
    return rf"\({html.escape(tex)}\)"


def to_html(rows: Iterable[Mapping[str, object]], formula: Callable[[str], str] = mathjax) -> str:
    """The table that readers see. Everything is escaped; ``formula`` writes the mathematics."""
    head = "".join(f"<th scope='col'>{name}</th>" for name in COLUMNS)
    body = "".join(_html_row(row, formula) for row in rows)
    return (
        f"<table class='claims tex2jax_process'><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _html_row(row: Mapping[str, object], formula: Callable[[str], str]) -> str:
    *texts, sign = cells(row)
    statement, source, predicted, measured, tolerance, verdict = (
        typeset(text, formula) for text in texts
    )
    entries = (
        f"<td>{statement} <span class='source'>{source}</span></td>",
        f"<td>{sign}{predicted}</td>",
        f"<td>{measured}</td>",
        f"<td>{tolerance}</td>",
        f"<td class='{verdict_class(row)}'>{verdict}</td>",
    )
    return f"<tr>{''.join(entries)}</tr>"


def verdict_class(row: Mapping[str, object]) -> str:
    """The class by which the book's style sheets colour a verdict: ``verdict-holds``."""
    return f"verdict-{str(row['verdict']).split()[0]}"


def _rounding(measured: float, predicted: float) -> str:
    """``< 1e-11`` for a rounding error, the empty text for a number that means something."""
    if _is_count(measured) or abs(measured) >= ROUNDING or math.isnan(measured):
        return ""
    if predicted != 0 and 0.5 < measured / predicted < 2:  # a prediction as small as that is meant
        return ""
    return f"< {ROUNDING:.0e}".replace("e-", "e−")


def _text(value: float, tolerance: float = 0.0, digits: int = 4) -> str:
    """Four significant digits, or as many as the tolerance speaks of; counts whole."""
    if _is_count(value):
        return str(int(value))
    value = float(value)
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    says = value and 0 < tolerance < math.inf
    spoken_of = math.log10(abs(value)) - math.log10(tolerance) if says else 0
    return f"{value:.{min(max(digits, math.ceil(spoken_of) + 1), 14)}g}".replace("-", "−")


def _plain(value: float) -> float | int | str:
    if _is_count(value):
        return int(value)
    return float(value) if math.isfinite(value) else str(float(value))


def _is_count(value: float) -> bool:
    return isinstance(value, int | np.integer)
