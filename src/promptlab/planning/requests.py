"""Requests: from a planned cell or from a row of images.parquet, by one rule.

Takes a model with its numerics and what one image shows; returns the request with its image_id.
Knows no grid, no store and no Hydra.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from promptlab import identity
from promptlab.models.protocol import CompleteModel
from promptlab.records import Numerics, Request, Scalar, Source


def make_request(
    model: CompleteModel,
    numerics: Numerics,
    prompt: str,
    seed: int,
    params: Mapping[str, Scalar],
    source: Source | None = None,
) -> Request:
    """Return the request of one image; its id counts all that determines the image."""
    image_id = identity.image_id(
        model=model.name,
        model_fingerprint=model.fingerprint,
        dtype=numerics.dtype,
        prompt=prompt,
        seed=seed,
        params=params,
        further={
            "padded_batch": numerics.padded_batch,
            "source": None if source is None else source.sha256,
        },
    )
    return Request(image_id, prompt, seed, params, source)


def request_of_row(
    row: Mapping[str, Any], model: CompleteModel, numerics: Numerics, source: Source | None = None
) -> Request:
    """Return the request that a row answers; another image_id than the row's is another image.

    The row needs `prompt`, `seed` and `params` (canonical JSON); `source` is that of `source_id`.
    """
    params = json.loads(row["params"])
    return make_request(model, numerics, row["prompt"], row["seed"], params, source)
