"""The parameters of a model as one flat vector, in the order of ``model.parameters()`` without
those whose gradients are switched off.

Needs the extra ``lm`` (PyTorch).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def trainable(model: Any) -> list[Tensor]:
    """The parameters that a step moves."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def num_parameters(model: Any) -> int:
    """``d``: the length of a direction."""
    return sum(parameter.numel() for parameter in trainable(model))


def length_of(direction: Tensor) -> float:
    """Euclidean norm, summed in float64: in float32 the norm of 10^8 entries is wrong in the second
    digit.
    """
    return float(torch.linalg.vector_norm(direction, dtype=torch.float64))


def inner(one: Tensor, other: Tensor) -> float:
    """Inner product, summed in float64."""
    return float((one * other).sum(dtype=torch.float64))


@contextmanager
def moved(model: Any, direction: Tensor, step: float) -> Iterator[None]:
    """The model at ``theta + step * direction``; afterwards its parameters are what they were, bit
    for bit.

    Parameters are float32: a step whose entries are below their last digit is lost. On a model of
    10^8 parameters steps along a unit vector should be at least 1e-3.
    """
    parameters = trainable(model)
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter, part in zip(parameters, parts_of(parameters, direction), strict=True):
                parameter.add_(part, alpha=step)
        yield
    finally:
        with torch.no_grad():
            for parameter, old in zip(parameters, kept, strict=True):
                parameter.copy_(old)


def flat(parts: Sequence[Tensor]) -> Tensor:
    """One vector of tensors of any shape."""
    return torch.cat([part.reshape(-1) for part in parts])


def parts_of(parameters: Sequence[Tensor], vector: Tensor) -> list[Tensor]:
    """A flat vector cut into the shapes of the parameters."""
    sizes = [parameter.numel() for parameter in parameters]
    if vector.shape != (sum(sizes),):
        raise ValueError(
            f"direction must have shape ({sum(sizes)},), one entry per parameter, "
            f"got {tuple(vector.shape)}"
        )
    return [
        part.view_as(parameter)
        for part, parameter in zip(vector.split(sizes), parameters, strict=True)
    ]
