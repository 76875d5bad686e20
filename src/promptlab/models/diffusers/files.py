"""Where a pipeline's files are, which ones it consists of, and what is wrong with them.

Takes what `model.path` says: a folder in diffusers' layout, a single file, or a repository of the
Hugging Face Hub. Reads JSON and the heads of weight files; imports neither torch nor diffusers.
The network is asked for a repository that is not in the Hub's cache yet, and for nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import Any

from promptlab.errors import ConfigError, ModelError, PromptlabError, WeightsMissingError
from promptlab.models.batching import describe_error
from promptlab.models.diffusers.libraries import import_diffusers, let_warn

INDEX = "model_index.json"
_CONFIGS = ("config.json", "scheduler_config.json")
_SMALL = (".json", ".txt", ".model")  # endings of configs and tokenizers
_WEIGHTS = ("diffusion_pytorch_model", "model", "pytorch_model")  # file names without ending
_WITHOUT_WEIGHTS = ("Tokenizer", "TokenizerFast", "Scheduler", "Processor", "Extractor")
_REPOSITORY = re.compile(r"\w[\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class PipelineFiles:
    """A pipeline as it lies on disk."""

    folder: Path  # with model_index.json
    variant: str | None = None  # "fp16": files such as model.fp16.safetensors
    single_file: Path | None = None  # all weights in one file; the folder has configs only

    @cached_property
    def index(self) -> dict[str, Any]:
        """The content of model_index.json."""
        if not (self.folder / INDEX).is_file():
            raise WeightsMissingError(
                f"{self.folder} is no pipeline that diffusers saved: it has no {INDEX}. Expected "
                "a folder from `pipeline.save_pretrained(…)` or `hf download`, or a Hub id."
            )
        return _read_json(self.folder / INDEX)

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
        paths = ((n, self.folder / n / file) for n in self.components for file in _CONFIGS)
        return {"": self.index, **{n: _read_json(path) for n, path in paths if path.is_file()}}

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """All files that an image depends on, in order, missing ones included."""
        found = [self.folder / INDEX]
        for name in self.components:
            part = self.folder / name
            small = (path for path in part.glob("*") if path.suffix in _SMALL)
            found += sorted(p for p in small if ".index." not in p.name) or [part / _CONFIGS[0]]
            found += [] if self.single_file else self.weights_of(name)
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

    def check(self) -> PipelineFiles:
        """Return itself; raise ModelError for the first file that is missing or damaged."""
        for file in self.files:
            if not file.is_file():
                name = file if file == self.single_file else file.relative_to(self.folder)
                raise WeightsMissingError(
                    f"The pipeline in {self.folder} is incomplete: {name} is missing. Save or "
                    "download it again."
                )
            if file.suffix == ".json":
                _read_json(file)
            if file.suffix == ".safetensors":
                tensor_names(file)
        return self


@dataclass(frozen=True, slots=True)
class Repository:
    """A pipeline on the Hub."""

    name: str  # "stabilityai/sdxl-turbo"
    revision: str | None = None
    variant: str | None = None

    def find(self) -> PipelineFiles | None:
        """Return the files if all of them are in the cache; asks no network."""
        from huggingface_hub import try_to_load_from_cache

        index = try_to_load_from_cache(self.name, INDEX, revision=self.revision)
        if not isinstance(index, str):
            return None
        try:
            return PipelineFiles(Path(index).parent, self.variant).check()
        except PromptlabError:
            return None

    def fetch(self, is_index_only: bool = False) -> PipelineFiles:
        """Return the files, or one that tells the class, downloading what is not in the cache.

        Raises WeightsMissingError with the command that downloads them.
        """
        found = self.find()
        if found is not None:
            return found
        try:
            if is_index_only:
                from huggingface_hub import hf_hub_download

                index = hf_hub_download(self.name, INDEX, revision=self.revision)
                return PipelineFiles(Path(index).parent, self.variant)
            pipelines = import_diffusers().DiffusionPipeline
            let_warn(False)  # what is wrong is in the message below
            folder = pipelines.download(self.name, revision=self.revision, variant=self.variant)
        except Exception as error:  # no network, terms that are not accepted, no such repository
            revision = f" --revision {self.revision}" if self.revision else ""
            raise WeightsMissingError(
                f"The pipeline {self.name} is not on this machine and cannot be downloaded "
                f"({shorten(describe_error(error), 160)}). With network, and logged in (hf auth "
                f"login) where terms must be accepted: hf download {self.name}{revision} "
                "--local-dir FOLDER; then model.path=FOLDER."
            ) from error
        return PipelineFiles(Path(folder), self.variant).check()


def locate(
    path: str, revision: str | None, variant: str | None, config: str | None
) -> PipelineFiles | Repository:
    """Return the files that `model.path` names, checked, or the repository that has them."""
    place, configs = Path(path).expanduser(), Path(config or "").expanduser()
    if place.is_dir():
        return PipelineFiles(place, variant).check()
    if place.is_file():
        if config is None or not configs.is_dir():
            raise ConfigError(
                f"model.path={path} is a single file, model.config={config}: expected the folder "
                "of a pipeline of the same kind, with its configs and tokenizers. Without it "
                "diffusers would fetch them from the network."
            )
        return PipelineFiles(configs, None, place).check()
    if _REPOSITORY.fullmatch(path):
        return Repository(path, revision, variant)
    raise WeightsMissingError(
        f"model.path={path}: expected a folder that diffusers saved, a .safetensors file, or a "
        "repository of the Hugging Face Hub such as stabilityai/sdxl-turbo. There is no such "
        "file or folder."
    )


def tensor_names(path: Path) -> list[str]:
    """Return what a safetensors file holds; raise ModelError for one that is cut short."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            return list(file.keys())
    except SafetensorError as error:
        raise ModelError(
            f"{path} is not a whole safetensors file ({error}; {path.stat().st_size:,} bytes). "
            "Copy or download it again."
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}. Download it again.") from None
    return content if isinstance(content, dict) else {}
