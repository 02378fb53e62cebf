"""What a column of a log means: a table of the names that trainers use, read by their words.

A name is taken apart into words, so that ``completions/mean_length``, ``completions / mean_length``
and ``Avg Completion Length`` are one name. Leading words that only say where it was logged
(``train``, ``actor``, ``env``, ...) are dropped, and so is ``mean``; a word such as ``std`` makes
it another statistic.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

# The names of each quantity as words, the preferred one first.
KEYS: dict[str, tuple[str, ...]] = {
    "reward": (
        "raw reward",
        "reward",
        "critic score",
        "score",
        "critic reward",
        "reward total",
        "total reward",
        "reward overall",
        "reward score",
        "filtered reward",
        "episode reward",
        "batch reward",
        "return",
        "value",  # what an export of a single curve calls it
    ),
    "length": (
        "completion length",
        "response length",
        "generation length",
        "output length",
        "sequence length",
        "val sequence length",
        "completion token",
        "response token",
        "output token",
        "num output token",
        "mean num token",
        "generation token per sample",
        "ac token per turn",
        "ac token per episode",
        "length",
    ),
    "truncated": (
        "completion clipped ratio",
        "response length clip ratio",
        "response clip ratio",
        "clipped ratio",
        "truncated",
        "is truncated",
        "truncated ratio",
        "truncated fraction",
        "completion truncated fraction",
        "truncated rate",
        "truncation",
        "truncation ratio",
        "truncation rate",
        "generation truncated",
        "overlong ratio",
    ),
    "rate": ("learning rate", "learning rate pg 0", "act learning rate", "current learning rate"),
    "gradient_norm": ("gradient norm", "raw gradient norm", "global gradient norm"),
    "zero_spread": ("frac reward zero std", "zero var ratio", "frac zero std", "zero std ratio"),
    "entropy": ("entropy", "entropy loss", "policy entropy", "entropy all", "ent loss"),
    "kl": (
        "kl",
        "kl loss",
        "ppo kl",
        "kl ref",
        "ref kl",
        "policy kl",
        "approx kl",
        "kl sample train v1",
        "mismatch kl",
    ),
    "loss": ("loss", "pg loss", "policy loss", "act loss", "total loss", "loss policy"),
}
# Logged as the share of the opposite.
COMPLEMENTS: dict[str, tuple[str, ...]] = {
    "truncated": ("stop rate", "val stop rate", "stop token rate", "val stop token rate"),
    "zero_spread": ("by group frac mixed", "frac mixed", "solved some"),
}
STEPS = (
    "step",
    "global step",
    "global step max step",
    "training step",
    "rollout step",
    "optimizer step",
    "current step",
    "iteration",
    "iter",
    "update",
    "rollout",
    "rollout id",
    "step idx",
    "episode",
)
CLOCKS = ("num token", "total token", "num input token seen", "num total token", "epoch")
# Other statistics of a quantity that count as one of their own.
STATISTICS = {
    ("length", "max"): "longest",
    ("reward", "std"): "reward_std",
    ("reward", "min"): "reward_min",
    ("reward", "max"): "reward_max",
}
QUANTITIES = (*KEYS, *STATISTICS.values(), "evaluation")
EVALUATION, COMPONENT, STEP, CLOCK = "evaluation", "component", "step", "clock"

_SYNONYMS = {
    "avg": "mean",
    "average": "mean",
    "averaged": "mean",
    "lens": "length",
    "len": "length",
    "gen": "generation",
    "resp": "response",
    "seq": "sequence",
    "seqlen": "sequence length",
    "lr": "learning rate",
    "grad": "gradient",
    "gradnorm": "gradient norm",
    "stdev": "std",
    "minimum": "min",
    "maximum": "max",
    "acc": "accuracy",
    "rt": "rate",
}
# Words that only say where a quantity was logged, in front of its name or behind it.
_PLACES = set(
    "train training trainer rollout actor policy env all agg agent metric generate generation "
    "objective optim model log data result reward loss grpo ppo rl batch main current step".split()
)
_OTHER = set(
    "std var min max median mode sum count hist p10 p50 p90 p95 p99 coef coefficient best worst maj"
    " error num positive".split()
)
# What is logged beside and says nothing about the reward's course.
_ASIDE = re.compile(
    r"time|second|elapsed|remaining|speed|throughput|perf/|memory|\bmem|gpu|cpu|mfu|flop|flos"
    r"|per_sec|/sec|it/s|timestamp|percentage|peak|system/|_wandb|total_steps|max_steps|cache|rlvr/"
)
_HELD_OUT = set("val eval evaluation evaluated validation test heldout held dev".split())
_ANSWERS = set(
    "accuracy correct correctness success successe solve solved pass match exact reward "
    "score".split()
)
_PART = re.compile(r"(?:.*/)?rewards?/([^/]+)(?:/mean)?")
_PART_BEHIND = re.compile(r"(.+?)[_ ]reward(?:[_ ]func)?[_ ](?:avg|mean)")
_WORD = re.compile(r"[a-z]+(?:\d+)?|\d+")


class Meaning(NamedTuple):
    """What a column is: the quantity (or COMPONENT, STEP, CLOCK; empty for none), how far down the
    table its name stands, whether it is logged as the share of the opposite, and the part's name.
    """

    quantity: str = ""
    place: int = 0
    complement: bool = False
    part: str = ""


def _table() -> dict[str, Meaning]:
    """From a name's words to its meaning."""
    known: dict[str, Meaning] = {}
    for complement, source in ((False, KEYS), (True, COMPLEMENTS)):
        for quantity, names in source.items():
            for place, name in enumerate(names):
                known.setdefault(name, Meaning(quantity, place + 100 * complement, complement))
    for quantity, names in ((STEP, STEPS), (CLOCK, CLOCKS)):
        known |= {name: Meaning(quantity, place) for place, name in enumerate(names)}
    return known


_KNOWN = _table()


@lru_cache(maxsize=1 << 16)
def meaning(key: str) -> Meaning:
    """The meaning of a column by its name."""
    words = _words(key)
    if not words:
        return Meaning()
    if words[0] in _HELD_OUT and (found := _exactly(words)):
        return found  # open-instruct logs its training lengths under ``val``
    if words[0] in _HELD_OUT or words == ["pass", "1"]:
        return _evaluation(words)
    part = _PART.fullmatch(key) or _PART_BEHIND.fullmatch(key)
    found = _plain(words)
    if part and not (found and found.quantity in ("reward", *STATISTICS.values())):
        other = _OTHER.intersection(words) or {"pass", "at"} <= set(words)
        return Meaning() if other else Meaning(COMPONENT, part=part[1])
    if found:
        return found
    for statistic in ("std", "min", "max"):
        if statistic in words:
            rest = _plain([word for word in words if word != statistic])
            if rest and (quantity := STATISTICS.get((rest.quantity, statistic))):
                return Meaning(quantity, rest.place)
    if words[-1] == "rate":
        words = words[:-1] or words
    asks = bool(words) and words[-1] in _ANSWERS - {"reward", "score"}
    other = _OTHER.intersection(words) or "token" in words or words[0] == "all" or words == ["pass"]
    return Meaning(COMPONENT, part=key) if asks and not other else Meaning()


def aside(key: str) -> bool:
    """Whether a column is of no interest: times, speeds, other statistics of a known quantity."""
    return bool(_ASIDE.search(key.lower())) or bool(_OTHER.intersection(_words(key)))


def _words(key: str) -> list[str]:
    key = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key)
    words = []
    for word in _WORD.findall(key.lower()):
        word = _SYNONYMS.get(word, word)
        if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us")):
            word = word[:-1]
        words += _SYNONYMS.get(word, word).split()
    return words


def _exactly(words: list[str]) -> Meaning | None:
    """As it stands, or without ``mean``."""
    if found := _KNOWN.get(" ".join(words)):
        return found
    return _KNOWN.get(" ".join(word for word in words if word != "mean")) if words else None


def _plain(words: list[str]) -> Meaning | None:
    """Without the words for places that stand in front, or behind."""
    for start in range(len(words)):
        if found := _exactly(words[start:]):
            return found
        if words[start] not in _PLACES | {"mean"}:
            return None
    return None


def _evaluation(words: list[str]) -> Meaning:
    """Held-out accuracy or reward; accuracies are preferred, and the score of a whole data set."""
    rest = [word for word in words if word not in _HELD_OUT and word != "mean"]
    if _OTHER.intersection(words) or not rest:
        return Meaning()
    *front, last = [word for word in rest if not word.isdigit()] or [""]
    behind = rest[-1] if rest[-1].isdigit() else ""
    if last.rstrip("0123456789") == "pass" and (last[4:] or behind or "1") != "1":
        return Meaning()  # pass@k is no success rate
    if last == "rate" or (last in ("total", "all", "overall") and front):
        last = front[-1]
    direct = last.rstrip("0123456789") in _ANSWERS
    if "group" in rest or not (direct or {"score", "reward"}.intersection(rest)):
        return Meaning()
    place = 10 * (last in ("reward", "score")) + 100 * ("aux" in words) + 20 * (not direct)
    place += len(words)
    return Meaning(EVALUATION, place)
