"""Text-to-image pipelines of diffusers: any folder, file or Hub repository that it can load.

What a config's `_target_` names. Light: neither torch nor diffusers, no weights.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from promptlab.errors import ConfigError, ModelError
from promptlab.models.diffusers.hub import locate
from promptlab.models.diffusers.model import DiffusersModel, Placement

__all__ = ["DiffusersModel", "open_pipeline"]

CHOICES = {
    "device": ("cpu", "cuda", "auto"),
    "dtype": ("float32", "bfloat16", "float16", "auto"),
    "memory": ("full", "offload", "low", "auto"),
}


def open_pipeline(
    path: str | None,
    name: str | None = None,
    revision: str | None = None,
    variant: str | None = None,
    config: str | None = None,
    pipeline: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int | None = None,
    memory: Literal["auto", "full", "offload", "low"] = "auto",
    compile: bool = False,
    loras: str = "loras",
) -> DiffusersModel:
    """Return the model of a saved pipeline.

    `path` is a folder, a safetensors file (with `config`, the folder of its configs) or a Hub
    repository; `pipeline` is its class, to plan before it is downloaded; `loras` is the folder
    where LoRA files are looked up by name.
    """
    for key, value in (("device", device), ("dtype", dtype), ("memory", memory)):
        if value not in CHOICES[key]:
            raise ConfigError(f"model.{key}={value!r}: expected one of {', '.join(CHOICES[key])}.")
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise ConfigError(f"model.batch_size={batch_size!r}: expected a whole number from 1.")
    if not path:
        raise ConfigError(
            "model.path is not set: expected a folder that diffusers saved, a .safetensors file "
            "with model.config=FOLDER, or a Hub repository such as stabilityai/sdxl-turbo."
        )
    if find_spec("diffusers") is None or find_spec("transformers") is None:
        raise ModelError(
            "This model needs diffusers, which is not installed: "
            "pip install 'promptlab[diffusers]'."
        )
    return DiffusersModel(
        name or Path(path).name.removesuffix(".safetensors"),
        locate(path, revision, variant, config),
        pipeline,
        Placement(device, dtype, batch_size, memory, compile),
        Path(loras).expanduser(),
    )
