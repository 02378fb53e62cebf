"""Gap alignment of a language model from sampled responses: for verifiers that no list of answers
describes.

Needs the extra ``lm`` (PyTorch, transformers).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlvrlib import Array
from rlvrlib.language_model.exact import memory_checked, prompt_ids, token_log_probabilities
from rlvrlib.language_model.vectors import parts_of, trainable


@dataclass(frozen=True)
class SampledGap:
    """Gap alignment along a direction from sampled responses, with standard errors.

    Attributes
    ----------
    success_rate, success_error : share of accepted responses.
    alignment, alignment_error : ``<w, Gap>``; NaN-free: infinite error where one class is missing.
    normalized, normalized_error : the same for scores divided by the length, ``<w, Gap_len>``.
    lengths : tokens of each response.
    """

    success_rate: float
    success_error: float
    alignment: float
    alignment_error: float
    normalized: float
    normalized_error: float
    lengths: Array


@memory_checked()
def sampled_gap(
    model: Any,
    tokenizer: Any,
    prompt: str,
    accepts: Callable[[str], bool],
    direction: Tensor,
    *,
    group_size: int,
    max_length: int,
    seed: int,
) -> SampledGap:
    """Estimate the alignment for any verifier: sample responses at temperature 1 and average their
    scores by class.

    Parameters
    ----------
    accepts : the verifier, on the text of a response.
    direction : flat unit vector.
    group_size : responses, at least 2.
    max_length : cap in tokens; a response that is cut counts as it stands.
    seed : of the samples; PyTorch's global generator is put back afterwards.
    """
    if group_size < 2:
        raise ValueError(f"group_size must be at least 2, got {group_size!r}")
    ids = prompt_ids(tokenizer, prompt)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        batch = torch.tensor([ids] * group_size)
        out = model.generate(
            batch,
            attention_mask=torch.ones_like(batch),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=max_length,
            pad_token_id=tokenizer.eos_token_id,
        )
    responses = [_until(row[len(ids) :].tolist(), tokenizer.eos_token_id) for row in out]
    rewards = np.array(
        [bool(accepts(tokenizer.decode(row, skip_special_tokens=True))) for row in responses]
    )
    lengths = np.array([len(row) for row in responses], dtype=float)
    scores = np.array([_score(model, ids, row, direction) for row in responses])
    rate = float(rewards.mean())
    return SampledGap(
        rate,
        float(np.sqrt(rate * (1 - rate) / group_size)),
        *_difference(scores, rewards),
        *_difference(scores / lengths, rewards),
        lengths,
    )


def _score(model: Any, prompt: list[int], response: list[int], direction: Tensor) -> float:
    parameters = trainable(model)
    slopes = torch.autograd.grad(token_log_probabilities(model, prompt, response).sum(), parameters)
    return float(
        sum(
            (row * part).sum(dtype=torch.float64)
            for row, part in zip(slopes, parts_of(parameters, direction), strict=True)
        )
    )


def _difference(values: Array, rewards: np.ndarray) -> tuple[float, float]:
    """Mean over the accepted less mean over the rejected, and its standard error."""
    right, wrong = values[rewards], values[~rewards]
    if min(len(right), len(wrong)) < 2:
        return 0.0, np.inf
    variance = right.var(ddof=1) / len(right) + wrong.var(ddof=1) / len(wrong)
    return float(right.mean() - wrong.mean()), float(np.sqrt(variance))


def _until(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids
