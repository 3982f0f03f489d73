"""Requests that run together: those whose tensors differ in nothing but the number of rows."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

#: A request's or an answer's tensors by name, the first dimension of each being its rows.
Tensors = Mapping[str, NDArray]


def groups(requests: Sequence[Tensors], *, joining: bool) -> list[list[int]]:
    """The positions of the requests that run together, in the order of each group's first request.

    Without `joining`, for models without a batch dimension, every request is a group of its own.
    """
    if not joining:
        return [[position] for position in range(len(requests))]
    alike: dict[tuple, list[int]] = {}
    for position, tensors in enumerate(requests):
        shape = tuple((name, array.dtype.str, array.shape[1:]) for name, array in sorted(tensors.items()))
        alike.setdefault(shape, []).append(position)
    return list(alike.values())


def joined(requests: Sequence[Tensors]) -> dict[str, NDArray]:
    """The tensors of one group as one batch, [rows of all requests, …]."""
    if len(requests) == 1:
        return dict(requests[0])
    return {name: np.concatenate([tensors[name] for tensors in requests]) for name in requests[0]}


def parts(outputs: Tensors, requests: Sequence[Tensors]) -> list[dict[str, NDArray]]:
    """The rows of a batch's outputs that belong to each of its requests.

    Raises ValueError if an output does not have a row for each row of the inputs.
    """
    rows = [len(next(iter(tensors.values()))) for tensors in requests]
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != sum(rows):
            raise ValueError(
                f"output {name!r} has shape {list(array.shape)} for a batch of {sum(rows)}: its first "
                "dimension must be the batch; set max_batch_size to 0"
            )
    ends = np.cumsum(rows)
    return [
        {name: array[end - count : end] for name, array in outputs.items()}
        for end, count in zip(ends, rows, strict=True)
    ]
