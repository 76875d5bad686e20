"""Ids are hashes of what matters: the same meaning gives the same id, anywhere, at any time.

Takes plain values, returns 16 hex digits. Does not know plans, stores or models.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_EMPTY: tuple[Any, ...] = (None, "", (), [], {})


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN, characters as they are.

    Lone surrogates are written as escapes, so that any text has an id.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text if text.isascii() else escape_surrogates(text)


def escape_surrogates(text: str) -> str:
    """Return a text that UTF-8 can hold: lone surrogates, as JSON and YAML allow them, escaped."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


def hash_id(value: Any) -> str:
    """Return the first 16 hex digits of SHA-256 over the value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode("utf-8")).hexdigest()[:16]


def image_id(
    *,
    model: str,
    model_fingerprint: str,
    dtype: str,
    prompt: str,
    seed: int,
    params: Mapping[str, Any],
    further: Mapping[str, Any] | None = None,
) -> str:
    """Return the id of the one image that these values determine.

    The sweep, the batch, the names of the axes and the time are left out on purpose: the same
    request in another sweep is the same image. `further` holds what determines the images of some
    models only; values that are None or empty are left out, so that the ids of other images stay.
    """
    present = {name: value for name, value in (further or {}).items() if value not in _EMPTY}
    return hash_id(
        {
            **present,
            "model": model,
            "fingerprint": model_fingerprint,
            "dtype": dtype,
            "prompt": prompt,
            "seed": seed,
            "params": dict(params),
        }
    )
