"""Attention of one query a row, as sums of weighted rows.

Takes matrices [bag, row, number] and weights [bag, row]; returns [bag, number]. A decoder that
samples token by token multiplies one vector by one matrix for each head of each image: too little
for the kernels of matrix products, which first reorder the matrix. The kernel of embedding bags
reads the matrix once, in its own layout. It works bag by bag, so a bag's bits depend on no other.
Knows nothing of queries, keys or values.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def weighted_sums(matrices: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of each matrix's rows, each times its weight; half precision sums in float32.

    `matrices` [bag, row, number] without gaps, `weights` [bag, row] of the same dtype.
    """
    num_bags, num_rows, _ = matrices.shape
    places, starts = _places(num_bags, num_rows, matrices.device)
    sums, *_ = torch.embedding_bag(
        matrices.flatten(0, 1), places, starts, per_sample_weights=weights.flatten()
    )
    return sums


def forget_places() -> None:
    """Free the indices that are kept for products of the same shape."""
    _places.cache_clear()


@functools.lru_cache(maxsize=64)  # one a length of the cache, for a few sizes of block
def _places(num_bags: int, num_rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the indices of all rows in order, and the index of each bag's first row."""
    with torch.inference_mode(False):
        places = torch.arange(num_bags * num_rows, dtype=torch.int32, device=device)
        return places, places[::num_rows].contiguous()
