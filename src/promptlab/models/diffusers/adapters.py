"""LoRA files: which ones a text names, and putting them on a pipeline.

Takes `FILE[:STRENGTH] + FILE[:STRENGTH] …`; returns the same with each file named by its content,
so that an image's parameters say what it was drawn with, wherever the file lies. Knows no family.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptlab.errors import ParameterError, WeightsMissingError
from promptlab.models.diffusers.files import read_head
from promptlab.models.diffusers.fingerprint import file_hash, paths_of_hash
from promptlab.records import Scalar

_PART = re.compile(r"(?P<file>.+?)(?::(?P<strength>-?\d+(?:\.\d+)?))?")
_BY_CONTENT = re.compile(r"(?P<name>.+)@(?P<hash>[0-9a-f]{12})")
_ENDING = ".safetensors"


@dataclass(frozen=True, slots=True)
class Adapter:
    """One LoRA file at one strength."""

    file: str  # a path, a name in the folder of LoRAs, or NAME@HASH
    strength: float


def parse(text: str) -> list[Adapter]:
    """Return the LoRAs that a text names; raise ParameterError for an empty name."""
    found = []
    for part in re.split(r"\s\+\s", text) if text.strip() else ():
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise ParameterError(
                f"lora={text!r}: expected FILE or FILE:STRENGTH, several joined by ' + '."
            )
        found.append(Adapter(match["file"], float(match["strength"] or 1)))
    return found


def settle(params: Mapping[str, Scalar], folder: Path) -> dict[str, Scalar]:
    """Return the parameters with each LoRA file as NAME@HASH; without effect they are left out.

    A scale of 0, as a strength of 0, is the base model's image and has its id. Raises
    WeightsMissingError for a file that is not there, ParameterError for one that is no LoRA.
    """
    scale = float(params["lora_scale"] or 0)
    adapters = [each for each in parse(str(params["lora"])) if each.strength and scale]
    if not adapters:
        return {**params, "lora": "", "lora_scale": 1.0}
    parts: dict[str, str] = {}
    for adapter in adapters:
        path = find(adapter.file, folder)
        if not any("lora" in name.lower() for name in read_head(path)):
            raise ParameterError(f"lora={adapter.file}: {path} has no LoRA weights in it.")
        known = _BY_CONTENT.fullmatch(adapter.file)
        stem = known["name"] if known else path.stem
        name = f"{stem}@{file_hash(path, is_remembered=True)[:12]}"
        if name in parts:
            raise ParameterError(f"lora={params['lora']!r}: {stem} is named twice.")
        parts[name] = name if adapter.strength == 1 else f"{name}:{adapter.strength!r}"
    return {**params, "lora": " + ".join(parts.values())}


def find(file: str, folder: Path) -> Path:
    """Return the path of a LoRA file: as written, or below the folder; NAME@HASH by content."""
    known = _BY_CONTENT.fullmatch(file)
    name = known["name"] if known else file
    places = [Path(name).expanduser(), folder / name, folder / f"{name}{_ENDING}"]
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
        self._files: tuple[str, ...] = ()

    def apply(self, params: Mapping[str, Scalar]) -> None:
        """Put the LoRAs of settled parameters on the pipeline, and take off all others."""
        adapters = parse(str(params.get("lora") or ""))
        files = tuple(adapter.file for adapter in adapters)
        if files != self._files:
            self.remove()
            self._files = ("",)  # a file that does not fit may leave a part of it behind
            for file in files:
                self._load(find(file, self._folder), _adapter_name(file))
            self._files = files
        if adapters:
            self._pipeline.set_adapters(
                [_adapter_name(file) for file in files],
                [adapter.strength * float(params["lora_scale"] or 0) for adapter in adapters],
            )

    def _load(self, path: Path, name: str) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several is meant
            self._pipeline.load_lora_weights(
                str(path.parent),
                weight_name=path.name,
                adapter_name=name,
                local_files_only=True,
            )

    def remove(self) -> None:
        """Take off all LoRAs."""
        if self._files:
            self._pipeline.unload_lora_weights()
        self._files = ()


def _adapter_name(file: str) -> str:
    """Return a name that may be a part of a module's name."""
    return re.sub(r"\W", "_", file)
