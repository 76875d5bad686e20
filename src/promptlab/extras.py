"""The optional parts of an installation: what each extra is for, what it brings, how large it is.

A table, and a look at which packages can be imported; imports none of them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True, slots=True)
class Extra:
    """One of pyproject.toml's extras."""

    name: str
    purpose: str
    modules: tuple[str, ...]  # top-level modules that it is there for
    megabytes: int  # on disk beyond what promptlab itself needs, with all that comes along
    targets: tuple[str, ...] = ()  # `_target_`s of models that need it, or their package

    def missing(self) -> list[str]:
        """Return those of its modules that are not installed."""
        return [name for name in self.modules if not _is_installed(name)]

    @property
    def command(self) -> str:
        """The command that installs it."""
        return f"pip install 'promptlab[{self.name}]'"


EXTRAS = (
    Extra(
        "diffusers",
        "models of diffusers: SD 1.5, SDXL, FLUX, Qwen-Image, …",
        ("diffusers", "transformers", "accelerate", "peft"),
        108,
        ("promptlab.models.diffusers",),
    ),
    Extra(
        "http",
        "hosted models and your own ComfyUI, A1111 or OpenAI-like server",
        ("httpx2",),
        1,
        ("promptlab.models.http",),
    ),
    Extra(
        "upscale",
        "upscalers from files",
        ("spandrel",),
        22,
        ("promptlab.models.upscalers.open_file",),
    ),
    Extra(
        "scores",
        "CLIP, SigLIP2, aesthetics, a judge, text in images",
        ("transformers", "rapidocr_onnxruntime", "httpx2"),
        374,
    ),
    Extra("serve", "promptlab serve", ("starlette", "uvicorn", "segno"), 1),
    Extra("import", "promptlab import", ("sd_parsers",), 1),
    Extra("s3", "run folders in an object store", ("s3fs",), 22),
    Extra("ray", "workers=ray", ("ray",), 205),
    Extra("slurm", "workers=slurm", ("submitit",), 1),
)


def extra_of_model(target: str) -> Extra | None:
    """Return the extra that a model's `_target_` needs, None for a model that needs none."""
    for extra in EXTRAS:
        if any(target == known or target.startswith(f"{known}.") for known in extra.targets):
            return extra
    return None


def _is_installed(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    return find_spec(module) is not None
