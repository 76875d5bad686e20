"""What an image file of another tool says of itself: prompt, seed, model, parameters.

Takes the path of a PNG, JPEG or WebP file, returns its pixels and an Origin. The formats of A1111,
ComfyUI, InvokeAI, Fooocus and NovelAI are read by the library sd-parsers, promptlab's own here.
Knows no run. Files are untrusted: what cannot be read is a ValueError.
"""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from promptlab.errors import PromptlabError
from promptlab.records import Scalar

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
MAX_PIXELS = 100_000_000  # a file of a few bytes may claim any size
MAX_TEXT = 20_000  # characters of a prompt or value
# Names that tools give to the same parameter, as diffusers and the rest of promptlab call it.
_NAMES = {
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "sampler_name": "sampler",
    "schedule_type": "scheduler",
    "denoise": "strength",
    "denoising_strength": "strength",
}
_MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Origin:
    """What a file says of how it was made, as far as it says it."""

    tool: str = ""
    prompt: str = ""
    seed: int | None = None
    model: str = "unknown"
    model_hash: str = ""
    params: Mapping[str, Scalar] = field(default_factory=dict)


def read_image(path: Path) -> tuple[np.ndarray, Origin]:
    """Return an image's pixels, uint8 [height, width, 3], and its origin.

    Transparent pixels lie on white. Raises ValueError for what is no whole image, PromptlabError
    where the library is missing.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"{image.width} × {image.height} px are too many")
                texts = {**image.info, **getattr(image, "text", {})}
                origin = _own_origin(texts) or _foreign_origin(image)
                layered = image.convert("RGBA")
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot be read as an image ({error})") from error
    flat = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
    return np.asarray(flat.convert("RGB")), origin


def _own_origin(texts: Mapping[Any, Any]) -> Origin | None:
    try:
        facts = json.loads(texts["promptlab"])
        return Origin(
            tool="promptlab",
            prompt=str(facts["prompt"]),
            seed=_as_seed(facts["seed"]),
            model=str(facts["model"]),
            model_hash=str(facts["model_fingerprint"]),
            params=_scalars(facts["params"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _foreign_origin(image: Any) -> Origin:
    try:
        from sd_parsers import ParserManager
    except ImportError as error:
        raise PromptlabError(
            "Reading other tools' images needs sd-parsers. Install it: "
            "pip install 'promptlab[import]'"
        ) from error
    found = None
    with contextlib.suppress(Exception):  # the file's text is anybody's, and no parser is perfect
        _complete_graph(image.info)
        found = ParserManager().parse(image)
    if found is None:
        return Origin()
    sampler = found.samplers[0] if found.samplers else None
    params = _scalars(found.metadata if sampler is None else sampler.parameters)
    seed = _as_seed(params.pop("seed", params.pop("noise_seed", None)))
    if sampler is not None and sampler.name:
        params.setdefault("sampler", sampler.name[:MAX_TEXT])
    if found.full_negative_prompt:
        params["negative_prompt"] = _text(found.full_negative_prompt)
    model = sampler.model if sampler is not None else None
    name, digest = (model.name, model.hash) if model is not None else _invoke_model(image.info)
    return Origin(
        tool=str(found.generator.value),
        prompt=_text(found.full_prompt),
        seed=seed,
        model=_text(re.sub(r"\.(safetensors|ckpt)$", "", name or digest or "unknown")),
        model_hash=_text(digest or ""),
        params=params,
    )


def _invoke_model(info: Mapping[Any, Any]) -> tuple[str | None, str | None]:
    """Return name and hash of the model as InvokeAI 4 and later write them."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        model = json.loads(info["invokeai_metadata"])["model"]
        return str(model["name"]), str(model.get("hash", ""))
    return None, None


def _complete_graph(info: dict[Any, Any]) -> None:
    """Add the links of a ComfyUI graph that was sent by an API: such images have no workflow."""
    if "prompt" not in info or "links" in json.loads(info.get("workflow") or "{}"):
        return
    links = [
        [0, value[0], 0, node_id, 0, name.upper()]
        for node_id, node in json.loads(info["prompt"]).items()
        for name, value in node["inputs"].items()
        if isinstance(value, list) and value
    ]
    info["workflow"] = json.dumps({"links": links})


def _as_seed(value: Any) -> int | None:
    """Return a seed that a column can hold, None for anything else."""
    try:
        seed = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return seed if 0 <= seed <= _MAX_SEED else None


def _scalars(values: Mapping[Any, Any]) -> dict[str, Scalar]:
    """Return the parameters that are plain values, under names that can be columns."""
    found: dict[str, Scalar] = {}
    for key, value in values.items():
        name = re.sub(r"\W+", "_", str(key).strip().lower()).strip("_")
        plain = _plain(value)
        if name and plain is not None:
            found.setdefault(_NAMES.get(name, name)[:100], plain)
    return found


def _plain(value: Any) -> Scalar:
    """Return a value as a number where it is written as one; None for what is no plain value."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float | str):
        text = _text(str(value)).strip()
        for kind in (int, float):
            with contextlib.suppress(ValueError, OverflowError):
                number = kind(text)
                if abs(number) < 2**62:  # also neither infinite nor NaN
                    return number
        return text or None
    return None


def _text(text: str) -> str:
    """Return a text that every column and page can hold."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")[:MAX_TEXT]
