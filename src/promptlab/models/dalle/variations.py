"""Variations: the first rows of a parent's image tokens are kept, the rest is sampled anew.

Takes requests whose source is an image of the same model; returns the tokens that are kept. A
stored image carries its tokens as the latent of its PNG, so they are read, never guessed from
pixels. Knows nothing of the network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from promptlab.png import read_latent
from promptlab.records import Request

FREE = -1  # in place of a token: it is sampled
_TOKEN = np.dtype(">u2")  # a stored token


def pack_tokens(fingerprint: str, tokens: np.ndarray) -> bytes:
    """Return an image's latent: its model's fingerprint and its tokens, row by row."""
    return fingerprint.encode("ascii") + tokens.astype(_TOKEN).tobytes()


def unpack_tokens(latent: bytes, fingerprint: str, num_tokens: int) -> np.ndarray | None:
    """Return the tokens in a latent, int64 [token]; None if another model drew the image."""
    head = fingerprint.encode("ascii")
    if not latent.startswith(head) or len(latent) != len(head) + num_tokens * _TOKEN.itemsize:
        return None
    return np.frombuffer(latent, _TOKEN, offset=len(head)).astype(np.int64)


def describe_problem(request: Request, fingerprint: str, num_tokens: int) -> str | None:
    """Return why the model cannot draw from the request's source, None if it can."""
    source = request.source
    if source is None:
        return None
    latent = read_latent(source.png)
    if unpack_tokens(latent, fingerprint, num_tokens) is not None:
        return None
    if latent:
        return f"the image {source.image_id} was drawn by another model: expected one of this model"
    return (
        f"the image {source.image_id} holds no tokens: expected an image that this model drew, as "
        "promptlab stored it. One from before tokens were kept has to be drawn again (reuse=false)"
    )


def kept_tokens(requests: Sequence[Request], num_steps: int) -> np.ndarray:
    """Return the tokens that each request keeps of its source: int64 [image, step], else FREE."""
    side = math.isqrt(num_steps)
    kept = np.full((len(requests), num_steps), FREE, np.int64)
    for row, request in zip(kept, requests, strict=True):
        if request.source is not None:
            num_kept = num_kept_rows(float(str(request.params["strength"])), side) * side
            tokens = np.frombuffer(read_latent(request.source.png)[-num_steps * 2 :], _TOKEN)
            row[:num_kept] = tokens[:num_kept]
    return kept


def num_kept_rows(strength: float, num_rows: int) -> int:
    """Return how many rows of tokens stay; `strength` is the share that is sampled anew."""
    return num_rows - math.floor(strength * num_rows + 0.5)
