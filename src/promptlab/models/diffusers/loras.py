"""LoRA files: which ones a text names, and putting them on a pipeline.

Takes `FILE[:STRENGTH] + FILE[:STRENGTH] …`; returns the same with each file named by its content,
so that an image's parameters say what it was drawn with, wherever the file lies. Knows no family.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promptlab.errors import ParameterError, WeightsMissingError
from promptlab.models.diffusers.files import tensor_names
from promptlab.models.diffusers.findings import file_hash, paths_of_hash
from promptlab.records import Scalar

_PART = re.compile(r"(?P<file>.+?)(?::(?P<strength>-?\d+(?:\.\d+)?))?")
_BY_CONTENT = re.compile(r"(?P<name>.+)@(?P<hash>[0-9a-f]{12})")


def parse(text: str) -> list[tuple[str, float]]:
    """Return the LoRAs that a text names, each with its strength.

    Raises ParameterError for an empty name.
    """
    matches = [_PART.fullmatch(part.strip()) for part in re.split(r"\s\+\s", text)]
    if not text.strip():
        return []
    if None in matches:
        raise ParameterError(
            f"lora={text!r}: expected FILE or FILE:STRENGTH, several joined by ' + '."
        )
    return [(match["file"], float(match["strength"] or 1)) for match in matches if match]


def settle(params: Mapping[str, Scalar], folder: Path) -> dict[str, Scalar]:
    """Return the parameters with each LoRA file as NAME@HASH; without effect they are left out.

    A scale of 0, as a strength of 0, is the base model's image and has its id. Raises
    WeightsMissingError for a file that is missing, ParameterError for one that is no LoRA.
    """
    parts: dict[str, str] = {}
    for file, strength in parse(str(params["lora"])):
        if not strength or not params["lora_scale"]:
            continue
        path = find(file, folder)
        if not any("lora" in name.lower() for name in tensor_names(path)):
            raise ParameterError(f"lora={file}: {path} has no LoRA weights in it.")
        known = _BY_CONTENT.fullmatch(file)
        stem = known["name"] if known else path.stem
        name = f"{stem}@{file_hash(path, least_bytes=0)[:12]}"
        if name in parts:
            raise ParameterError(f"lora={params['lora']!r}: {stem} is named twice.")
        parts[name] = name if strength == 1 else f"{name}:{strength!r}"
    if not parts:
        return {**params, "lora": "", "lora_scale": 1.0}
    return {**params, "lora": " + ".join(parts.values())}


def find(file: str, folder: Path) -> Path:
    """Return the path of a LoRA file: as written, or below the folder; NAME@HASH by content."""
    known = _BY_CONTENT.fullmatch(file)
    name = known["name"] if known else file
    places = [Path(name).expanduser(), folder / name, folder / f"{name}.safetensors"]
    if known:
        places += paths_of_hash(known["hash"])
    for path in places:
        if path.is_file() and (not known or file_hash(path).startswith(known["hash"])):
            return path
    content = f" with the SHA-256 {known['hash']}…" if known else ""
    raise WeightsMissingError(
        f"lora={file}: found no file {name}{content}. Expected a path, or a name below {folder}/."
    )


class Adapters:
    """The LoRAs that are on a pipeline now."""

    def __init__(self, pipeline: Any, folder: Path):
        self._pipeline, self._folder = pipeline, folder
        self._files: list[str] = []

    def apply(self, params: Mapping[str, Scalar]) -> None:
        """Put the LoRAs of settled parameters on the pipeline, and take off all others."""
        adapters = parse(str(params.get("lora") or ""))
        files = [file for file, _ in adapters]
        names = [re.sub(r"\W", "_", file) for file in files]  # may be a part of a module's name
        if files != self._files:
            if self._files:
                self._pipeline.unload_lora_weights()
            self._files = [""]  # a file that does not fit may leave a part of it behind
            for file, name in zip(files, names, strict=True):
                self._load(find(file, self._folder), name)
            self._files = files
        if adapters:
            scale = float(params["lora_scale"] or 0)
            self._pipeline.set_adapters(names, [strength * scale for _, strength in adapters])

    def _load(self, path: Path, name: str) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several is meant
            self._pipeline.load_lora_weights(
                str(path.parent), weight_name=path.name, adapter_name=name, local_files_only=True
            )
