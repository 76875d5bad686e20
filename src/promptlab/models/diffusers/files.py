"""Which files a saved pipeline consists of, and what is wrong with them.

Takes a folder in diffusers' layout, returns its configs and the files that determine an image.
Reads JSON and the heads of weight files; imports neither torch nor diffusers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from promptlab.errors import ModelError, WeightsMissingError

INDEX = "model_index.json"
_CONFIGS = ("config.json", "scheduler_config.json")
_WEIGHTS = ("diffusion_pytorch_model", "model", "pytorch_model")  # file names without ending
_WITHOUT_WEIGHTS = ("Tokenizer", "TokenizerFast", "Scheduler", "Processor", "Extractor")
_NUMBER_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_MAX_HEAD = 100_000_000  # bytes; the limit of the safetensors format itself


@dataclass(frozen=True)
class PipelineFiles:
    """A pipeline as it lies on disk."""

    folder: Path  # with model_index.json
    variant: str | None = None  # "fp16": files such as model.fp16.safetensors
    single_file: Path | None = None  # all weights in one file; the folder has configs only

    @cached_property
    def index(self) -> dict[str, Any]:
        """The content of model_index.json."""
        path = self.folder / INDEX
        if not path.is_file():
            raise WeightsMissingError(
                f"{self.folder} is no pipeline that diffusers saved: it has no {INDEX}. Expected "
                "a folder from `pipeline.save_pretrained(…)` or `hf download`, or a Hub id."
            )
        return _read_json(path)

    @property
    def pipeline(self) -> str:
        """The pipeline's class."""
        return str(self.index.get("_class_name", ""))

    @property
    def components(self) -> dict[str, str]:
        """The parts that the pipeline was saved with, and their classes."""
        parts = {k: v for k, v in self.index.items() if isinstance(v, list) and len(v) == 2}
        return {name: str(kind) for name, (_, kind) in parts.items() if kind is not None}

    @cached_property
    def configs(self) -> dict[str, Mapping[str, Any]]:
        """Each part's config, and the pipeline's own under ""."""
        found: dict[str, Mapping[str, Any]] = {"": self.index}
        for name in self.components:
            for path in (self.folder / name / file for file in _CONFIGS):
                if path.is_file():
                    found[name] = _read_json(path)
        return found

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """All files that an image depends on, in order, missing ones included."""
        found = [self.folder / INDEX]
        for name in self.components:
            part = self.folder / name
            small = (p for p in part.glob("*") if p.suffix in (".json", ".txt", ".model"))
            found += sorted(p for p in small if ".index." not in p.name) or [part / _CONFIGS[0]]
            if self.single_file is None:
                found += self.weights_of(name)
        return (*found, self.single_file) if self.single_file else tuple(found)

    def weights_of(self, component: str) -> list[Path]:
        """Return the weight files that diffusers loads of a part; none for one without weights."""
        if self.components[component].endswith(_WITHOUT_WEIGHTS):
            return []
        part = self.folder / component
        for middle in (f".{self.variant}", "") if self.variant else ("",):
            for stem in _WEIGHTS:
                for ending in (".safetensors", ".bin"):
                    index = part / f"{stem}{ending}.index{middle}.json"
                    if index.is_file():
                        shards = _read_json(index).get("weight_map", {}).values()
                        return sorted({part / str(shard) for shard in shards})
                    if (part / f"{stem}{middle}{ending}").is_file():
                        return [part / f"{stem}{middle}{ending}"]
        return [part / f"{_WEIGHTS[0]}.safetensors"]

    def weight_bytes(self, number_bytes: int) -> dict[str, int]:
        """Return each part's size in memory, its weights held as numbers of so many bytes.

        A single file counts as one part.
        """
        if self.single_file is not None:
            return {"": _loaded_bytes(self.single_file, number_bytes)}
        sizes = {
            name: sum(_loaded_bytes(file, number_bytes) for file in self.weights_of(name))
            for name in self.components
        }
        return {name: size for name, size in sizes.items() if size}

    def check(self) -> None:
        """Raise WeightsMissingError or ModelError for the first file that is missing or damaged."""
        for file in self.files:
            name = file if file == self.single_file else file.relative_to(self.folder)
            if not file.is_file():
                raise WeightsMissingError(
                    f"The pipeline in {self.folder} is incomplete: {name} is missing. Save or "
                    "download it again."
                )
            if file.suffix == ".json":
                _read_json(file)
            if file.suffix == ".safetensors":
                read_head(file)


def read_head(path: Path) -> dict[str, Any]:
    """Return the head of a safetensors file; raise ModelError for one that is cut short."""
    problem = f"{path} is not a whole safetensors file"
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            head = json.loads(file.read(size)) if 0 < size <= _MAX_HEAD else None
        except ValueError:
            head = None
    if not isinstance(head, dict):
        raise ModelError(f"{problem}: its header cannot be read. Copy or download it again.")
    ends = [tensor["data_offsets"][1] for name, tensor in head.items() if name != "__metadata__"]
    expected = 8 + size + max(ends, default=0)
    if path.stat().st_size != expected:
        raise ModelError(
            f"{problem}: expected {expected:,} bytes, got {path.stat().st_size:,}. Copy or "
            "download it again."
        )
    return head


def _loaded_bytes(path: Path, number_bytes: int) -> int:
    size = path.stat().st_size
    if path.suffix != ".safetensors":
        return size
    kinds = [tensor.get("dtype") for tensor in read_head(path).values() if "dtype" in tensor]
    return size * number_bytes // _NUMBER_BYTES.get(kinds[0] if kinds else "", number_bytes)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}. Download it again.") from None
    return content if isinstance(content, dict) else {}
